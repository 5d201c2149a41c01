"""Samples → a router folder: fine-tune, calibrate, export; knows no log and no gateway."""

from __future__ import annotations

from turnout.training.stage import TrainReport, train

__all__ = ["TrainReport", "train"]
