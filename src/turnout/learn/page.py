"""learn.json → one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from turnout.pages import estimate, render_page
from turnout.replay.page import caution, grouped_names

_NAMED = 3
# A smaller share of turns without a model's name is not worth a word.
_NOTEWORTHY = 0.005


def render(content: Mapping[str, Any]) -> str:
    """The page as HTML; it needs no network, and links to the pages beside it.

    Args:
        content: What `learn.json` says.
    """
    rows, replayed = content["rows"], content["replayed"]
    comparison = replayed["comparison"] if replayed else {}
    chosen = next((row for row in rows if row["is_chosen"]), None)
    level = chosen["allowed"] if chosen else None
    values = {
        **content,
        "chosen": chosen,
        "monthly": bool(replayed and replayed["turns_a_month"]),
        "today": any(row["against_today"] for row in rows),
        "evidence": replayed["evidence"] if replayed else None,
        "caution": caution(replayed["evidence"]) if replayed else "",
        "ranking": comparison.get("ranking"),
        "first_level": level,
        "first_rows": [_labelled(row, "") for row in rows if row["allowed"] in ("–", level)],
        "rows": [_labelled(row, row["allowed"]) for row in rows],
        "compared": any(row["matched_on"] == "evidence" for row in rows),
        "models_sentence": models_sentence(content["models"], content["turns"]),
    }
    filters = {"money": _money, "percent": _percent, "number": _number, "grouped": grouped_names}
    return render_page("turnout.learn", "index.html", values, filters)


def _labelled(row: Mapping[str, Any], allowed: str) -> dict[str, Any]:
    """The row with the name that its table shows."""
    level = f", {allowed}" if allowed not in ("", "–") else ""
    return {**row, "label": f"{row['name'].replace('always', 'all')}{level}"}


def models_sentence(models: Sequence[Mapping[str, Any]], turns: int) -> str:
    """Which models serve most turns, and what the log's turns cost at list prices."""
    if not models:
        return "No turn of the log names a model, so nothing is known of what you pay today."
    served: Counter[str] = Counter()
    for use in models:
        served[use["model"]] += use["turns"]
    most = [f"{name} ({n / max(turns, 1):.0%} of the turns)" for name, n in served.most_common()]
    named = ", ".join(most[:_NAMED])
    more = f" and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
    unnamed = 1 - served.total() / max(turns, 1)
    if unnamed >= _NOTEWORTHY:
        more += f"; {unnamed:.0%} of the turns name none"
    paid = [use["usd"] for use in models if use["usd"] is not None]
    cost = ""
    if paid:
        cost = f" The turns whose tokens the log counts cost {sum(paid):,.2f} USD at list prices."
    return f"You use {named}{more}.{cost}"


def _money(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ",.2f")


def _percent(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ".1f", 100.0, " %")


def _number(stored: Mapping[str, Any] | None) -> Markup:
    return estimate(stored, ".3f")
