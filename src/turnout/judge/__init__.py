"""A judge model's answers on what turns need, within a budget."""

from __future__ import annotations

from turnout.judge.report import CostEstimate, JudgeOptions, JudgeReport
from turnout.judge.stage import judge_turns

__all__ = ["CostEstimate", "JudgeOptions", "JudgeReport", "judge_turns"]
