"""drift.json → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import MaxNLocator, PercentFormatter

from turnout.pages import render_page
from turnout.pages.drawing import ACCENT, SECOND, drawn, inline_svg
from turnout.replay.page import percent

Stored = Mapping[str, Any]
_MOST_TICKS = 5


def render(content: Stored) -> str:
    """The page as HTML; it needs no network and no other file.

    Args:
        content: What `drift.json` says.
    """
    comparison = content["comparison"]
    charts = [histogram(q, f"h-{q['name']}") for q in comparison["quantities"]]
    values = {
        "report": content,
        "comparison": comparison,
        "rows": list(zip(comparison["quantities"], charts, strict=True)),
        "decision": next(q for q in comparison["quantities"] if q["name"] == "decision"),
        "largest": max(comparison["quantities"], key=lambda q: q["distance"]["value"]),
    }
    return render_page(
        "turnout.replay.drift", "drift.html", values, {"percent": percent, "p": p_text}
    )


def p_text(value: float | None) -> str:
    """A p-value as a person reads it; a dash where nothing was tested."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def histogram(quantity: Stored, chart_id: str) -> str:
    """The reference's shares and the new ones, side by side."""
    bins = quantity["bins"]
    with drawn(4.8, 2.5) as (figure, axes):
        places = range(len(bins))
        for shares, colour, name, shift in (
            (quantity["expected"], SECOND, "reference", -0.2),
            (quantity["seen"], ACCENT, "new", 0.2),
        ):
            axes.bar([place + shift for place in places], shares, 0.4, color=colour, label=name)
        step = max(1, -(-len(bins) // _MOST_TICKS))
        axes.set_xticks(list(places)[::step], bins[::step], fontsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.tick_params(axis="y", labelsize=8)
        axes.legend(loc="upper right", fontsize=8, ncols=2, bbox_to_anchor=(1.0, 1.16))
        return inline_svg(figure, chart_id, f"{quantity['title']}: reference and new traffic")
