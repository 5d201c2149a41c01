"""A realistic conversation log whose true labels are known."""

from __future__ import annotations

from turnout.simulation.stage import SimulateReport, simulate

__all__ = ["SimulateReport", "simulate"]
