"""Turns → facts about how people use models, and evidence of what they needed; knows no router."""

from __future__ import annotations

from turnout.mining.label import LabelReport, label_turns
from turnout.mining.switches import SwitchReport, report_switches

__all__ = ["LabelReport", "SwitchReport", "label_turns", "report_switches"]
