"""replay.json → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from turnout.pages import estimate, render_page
from turnout.replay import charts

Stored = Mapping[str, Any]
_NAMED = 6
PARTS = {
    "input": "input",
    "cache_read": "cache read",
    "cache_write": "cache write",
    "output": "output",
    "reasoning": "reasoning",
}


def caution(evidence: str | None) -> str:
    """What a reader must know of the misses that a page states.

    Args:
        evidence: What misses are counted by beside the scores; None where nothing was given.
    """
    if evidence == "simulated truth":
        return (
            "Expected misses are an estimate by the scores, and may be far from the true ones, "
            "which stand beside them."
        )
    stated = "Neither number is" if evidence else "That is not"
    return (
        f"{stated} the true share of misses. On simulated logs whose truth is known, the scores "
        "expected 9.9 % and evidence showed 13.8 %, where 5.5 % were missed; on your log they may "
        "err to either side. To measure it, have turns judged (turnout judge), or label them by "
        "hand."
    )


def render(content: Stored) -> str:
    """The page as HTML; it needs no network and no other file.

    Args:
        content: What `replay.json` says.
    """
    comparison = content["comparison"]
    return render_page(
        "turnout.replay",
        "replay.html",
        {
            "report": content,
            "caution": caution(content["evidence"]),
            "rows": comparison["served"],
            "today": comparison["today"],
            "by": _by_segment(comparison, content["max_miss"]),
            "chosen": chosen_row(comparison),
            "levels": [level for level in comparison["at_missed"] if level["rows"]],
            "parts": PARTS,
            "curves": charts.curves(comparison["curves"], "curves"),
            "money": money,
            "percent": percent,
            "bill": charts.bill(comparison["served"], PARTS, "bill"),
        },
        {"money": money, "percent": percent, "number": number, "grouped": grouped_names},
    )


def _by_segment(comparison: Stored, max_miss: float) -> dict[str, Any] | None:
    """Each segment with what is fixed and what misses at most `max_miss`."""
    by = comparison["by_segment"]
    if by is None:
        return None
    segments = []
    for segment in by["segments"]:
        level = _level(segment, max_miss)
        segments.append({**segment, "rows": [*segment["fixed"], *level["rows"], *level["beside"]]})
    return {**by, "segments": segments}


def grouped_names(grouped: Mapping[str, int]) -> str:
    """The first of the segments that stand as one, with their conversations."""
    shown = [f"{name} ({n:,})" for name, n in grouped.items()]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def chosen_row(comparison: Stored) -> Stored | None:
    """The row of the recommended policy, at the misses it was chosen for."""
    recommended = comparison["recommendation"]
    if recommended is None:
        return None
    rows = _level(comparison, recommended["missed"])["rows"]
    row: Stored = next(row for row in rows if row["name"] == recommended["policy"])
    return row


def _level(compared: Stored, missed: float) -> Stored:
    """The policies of the log, or of a segment, that miss at most this share."""
    level: Stored = next(each for each in compared["at_missed"] if each["missed"] == missed)
    return level


def money(stored: Stored | None, form: str = ",.2f") -> Markup:
    """USD with its interval small below it; a dash where nothing could be measured."""
    return estimate(stored, form)


def percent(stored: Stored | None) -> Markup:
    """A share in percent with its interval."""
    return estimate(stored, ".1f", 100.0, " %")


def number(stored: Stored | None) -> Markup:
    """A number with its interval."""
    return estimate(stored, ".2f")
