"""The switch report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from markupsafe import Markup

from turnout.pages import render_page
from turnout.switches import charts
from turnout.switches.report import MODEL_BUCKETS, Rate, Share, SwitchReport

_PAIRS_SHOWN = 20
_MEDIAN_COLUMNS = {
    "turns_before": "turns before",
    "turns_after": "turns after",
    "chars_before": "message before",
    "chars_at": "first message after",
    "chars_after": "the one after that",
}

_CLOCKS = {"by_hour": "hour of the day (UTC)", "by_weekday": "day of the week (UTC)"}


def render(report: SwitchReport) -> str:
    """The page as HTML; it needs no network and no other file."""
    chosen = sum(kind.count - kind.fallbacks for kind in report.switches)
    values = {part.name: getattr(report, part.name) for part in fields(report)} | {
        "models_named": MODEL_BUCKETS,
        "median_columns": _MEDIAN_COLUMNS,
        "chosen": chosen,
        "made": sum(kind.fallbacks for kind in report.switches),
        "shown_pairs": report.pairs[:_PAIRS_SHOWN],
        "charts": _charts(report, chosen),
    }
    filters: dict[str, Callable[..., Any]] = {
        "share": _share,
        "percent": _percent,
        "number": _number,
    }
    return render_page("turnout.switches", "switches.html", values, filters)


def _charts(report: SwitchReport, chosen: int) -> dict[str, str | None]:
    """Name → drawing, None where the log has nothing to draw."""
    drawings: dict[str, str | None] = dict.fromkeys(("flow", "by_turn", "by_date", *_CLOCKS))
    if not chosen:
        return drawings
    drawings["flow"] = charts.flow(report.pairs, "flow")
    drawings["by_turn"] = charts.by_turn(report.by_turn, "by-turn")
    if report.date_unit is not None and _several(report.by_date):
        drawings["by_date"] = charts.by_date(report.by_date, report.date_unit, "by-date")
    for name, label in _CLOCKS.items():
        if _several(getattr(report, name)):
            drawings[name] = charts.by_clock(getattr(report, name), label, name)
    return drawings


def _several(rates: Sequence[Rate]) -> bool:
    return len([rate for rate in rates if rate.turns]) > 1


def _share(share: Share) -> Markup:
    """A share of turns with its interval small below it."""
    interval = f"{share.low * 100:.2f} … {share.high * 100:.2f}"
    return Markup("{} %<small>{}</small>").format(f"{share.value * 100:.2f}", interval)


def _percent(value: float) -> str:
    return f"{value * 100:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
