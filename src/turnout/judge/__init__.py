"""A judge model says what turns needed, within a sum of money."""

from __future__ import annotations

from turnout.judge.stage import Estimate, JudgeOptions, JudgeReport, judge_turns

__all__ = ["Estimate", "JudgeOptions", "JudgeReport", "judge_turns"]
