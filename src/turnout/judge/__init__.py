"""A judge model's answers on what turns need, within a sum of money."""

from __future__ import annotations

from turnout.judge.report import Estimate, JudgeOptions, JudgeReport
from turnout.judge.stage import judge_turns

__all__ = ["Estimate", "JudgeOptions", "JudgeReport", "judge_turns"]
