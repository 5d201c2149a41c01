"""How people use and switch models: a report and a page."""

from __future__ import annotations

from turnout.switches.report import SwitchReport
from turnout.switches.stage import report_switches

__all__ = ["SwitchReport", "report_switches"]
