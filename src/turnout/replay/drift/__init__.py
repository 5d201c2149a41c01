"""Has the traffic changed since the router was trained, and what to do about it."""

from __future__ import annotations

from turnout.replay.drift.new_traffic import is_journal_without_text
from turnout.replay.drift.page import p_text
from turnout.replay.drift.stage import DriftReport, drift, is_turns_table

__all__ = ["DriftReport", "drift", "is_journal_without_text", "is_turns_table", "p_text"]
