"""Turns → evidence of what they needed → labels with a confidence."""

from __future__ import annotations

from turnout.labels.explain import ExplainedTurn, explain
from turnout.labels.report import LabelReport
from turnout.labels.stage import ExternalFiles, label_turns

__all__ = ["ExplainedTurn", "ExternalFiles", "LabelReport", "explain", "label_turns"]
