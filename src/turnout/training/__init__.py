"""Samples → a router folder: fine-tune, calibrate, export."""

from __future__ import annotations

from turnout.training.processes import end_process, first_process
from turnout.training.recipe import Model, Precision, Recipe, Tracker
from turnout.training.report import TrainReport
from turnout.training.stage import train

__all__ = [
    "Model",
    "Precision",
    "Recipe",
    "Tracker",
    "TrainReport",
    "end_process",
    "first_process",
    "train",
]
