"""Turns → facts about how people use models, and evidence of what they needed; knows no router."""

from __future__ import annotations

from turnout.mining.explain import ExplainedTurn, explain
from turnout.mining.label import Judgements, LabelReport, label_turns
from turnout.mining.switches import SwitchReport, report_switches

__all__ = [
    "ExplainedTurn",
    "Judgements",
    "LabelReport",
    "SwitchReport",
    "explain",
    "label_turns",
    "report_switches",
]
