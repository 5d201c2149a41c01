"""Metrics, intervals and calibration error, the same for every stage."""
