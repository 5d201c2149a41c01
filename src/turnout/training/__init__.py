"""Samples → a router folder: fine-tune, calibrate, export."""

from __future__ import annotations

from turnout.training.processes import end_process, first_process
from turnout.training.recipe import Precision, Recipe, Tracker
from turnout.training.report import TrainReport
from turnout.training.stage import train

__all__ = ["Precision", "Recipe", "Tracker", "TrainReport", "end_process", "first_process", "train"]
