"""Turns → evidence of what they needed → labels with a confidence."""

from __future__ import annotations

from turnout.labels.explain import ExplainedTurn, explain
from turnout.labels.stage import Judgements, LabelReport, label_turns

__all__ = ["ExplainedTurn", "Judgements", "LabelReport", "explain", "label_turns"]
