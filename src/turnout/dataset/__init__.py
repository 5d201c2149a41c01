"""Turns or measured outcomes → samples: format, deduplicate, split, balance, describe."""

from __future__ import annotations

from turnout.dataset.stage import BuildReport, build_from_outcomes, build_from_turns

__all__ = ["BuildReport", "build_from_outcomes", "build_from_turns"]
