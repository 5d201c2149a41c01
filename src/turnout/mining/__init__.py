"""Turns → facts about how people use models, and evidence of what they needed; knows no router."""

from __future__ import annotations

from turnout.mining.explain import ExplainedTurn, explain
from turnout.mining.judge import Estimate, JudgeOptions, JudgeReport, judge_turns
from turnout.mining.label import Judgements, LabelReport, label_turns
from turnout.mining.switch_report import SwitchReport
from turnout.mining.switches import report_switches

__all__ = [
    "Estimate",
    "ExplainedTurn",
    "JudgeOptions",
    "JudgeReport",
    "Judgements",
    "LabelReport",
    "SwitchReport",
    "explain",
    "judge_turns",
    "label_turns",
    "report_switches",
]
