"""Measurements as stored in replay.json → inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import PercentFormatter

from turnout.pages.drawing import ACCENT, INK, LINE, MUTED, SECOND, THIRD, drawn, inline_svg

Stored = Mapping[str, Any]

# Policies differ by line and mark too: not by colour alone.
_STYLES: Mapping[str, tuple[str, object, str]] = {
    "session": (SECOND, "-", "o"),
    "boundary": (THIRD, "-", "s"),
    "conversation": (ACCENT, "-", "^"),
    "priced": (INK, "-", "D"),
    "length": (MUTED, (0, (4, 3)), ""),
    "random": (LINE, (0, (4, 3)), ""),
}


def curves(stored: Sequence[Stored], chart_id: str) -> str:
    """What every policy costs at every share of misses."""
    with drawn(7.2, 4.2) as (figure, axes):
        for curve in stored:
            colour, line, mark = _STYLES[curve["name"]]
            axes.plot(
                curve["missed"], curve["usd"], color=colour, linestyle=line, marker=mark or None,
                markersize=3.5, linewidth=1.5, label=curve["name"],
            )  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("expected misses: messages that need reasoning, sent to fast")
        axes.set_ylabel("USD for 1,000 turns")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.grid()
        axes.legend(loc="upper right", fontsize=8.5, labelcolor=MUTED)
        return inline_svg(figure, chart_id, "Cost of every policy against its expected misses")


def bill(rows: Sequence[Stored], parts: Mapping[str, str], chart_id: str) -> str:
    """What every policy pays for, in USD for 1,000 turns."""
    colours = (SECOND, LINE, THIRD, MUTED, ACCENT)
    with drawn(7.2, 0.42 * len(rows) + 1.1) as (figure, axes):
        for position, row in enumerate(rows):
            start = 0.0
            for (part, name), colour in zip(parts.items(), colours, strict=True):
                usd = row["measured"]["parts_usd"][part]
                label = name if position == 0 else None
                axes.barh(position, usd, left=start, color=colour, height=0.62, label=label)
                start += usd
            axes.annotate(
                f"{start:,.2f}", (start, position), xytext=(4, -3), textcoords="offset points",
                fontsize=8.5, color=MUTED,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows], color=INK)
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xlabel("USD for 1,000 turns")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5, fontsize=8.5, labelcolor=MUTED
        )
        return inline_svg(figure, chart_id, "What every policy pays for")
