"""Turns → facts about how people use models; knows no label, no sample and no router."""

from __future__ import annotations

from turnout.mining.switches import SwitchReport, report_switches

__all__ = ["SwitchReport", "report_switches"]
