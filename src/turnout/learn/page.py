"""learn.json → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from turnout.pages import estimate, render_page


def render(content: Mapping[str, Any]) -> str:
    """The page as HTML; it needs no network, and links to the pages beside it.

    Args:
        content: What `learn.json` says.
    """
    rows, replayed = content["rows"], content["replayed"]
    values = {
        **content,
        "chosen": next((row for row in rows if row["is_chosen"]), None),
        "monthly": bool(replayed and replayed["turns_a_month"]),
        "today": any(row["against_today"] for row in rows),
    }
    filters = {"money": _money, "percent": _percent, "number": _number}
    return render_page("turnout.learn", "index.html", values, filters)


def _money(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ",.2f")


def _percent(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ".1f", 100.0, " %")


def _number(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ".3f")
