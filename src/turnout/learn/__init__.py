"""Logs → routers, report and settings: every stage in its order."""

from __future__ import annotations

from turnout.learn.line import LearnOptions, Learnt, learn
from turnout.learn.plan import Plan, plan

__all__ = ["LearnOptions", "Learnt", "Plan", "learn", "plan"]
