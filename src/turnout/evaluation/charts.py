"""Measurements as stored in report.json → inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from turnout.pages.drawing import ACCENT, INK, LINE, MUTED, SECOND, THIRD, drawn, inline_svg
from turnout.stats.metrics import SHARES

Stored = Mapping[str, Any]


def comparison(result: Stored, metric_name: str, chart_id: str) -> str:
    """Every method's main metric with its interval, the router on top."""
    methods = [m for m in result["methods"] if m["kind"] != "oracle"]
    with drawn(7.2, 0.42 * len(methods) + 0.75) as (figure, axes):
        for row, method in enumerate(methods):
            estimate = method["metrics"][result["main_metric"]]
            colour = {"router": ACCENT, "ablation": SECOND}.get(method["kind"], MUTED)
            _interval(axes, estimate, row, colour)
            if estimate["value"] is not None:
                axes.annotate(
                    f"{estimate['value']:.3f}", (estimate["value"], row), xytext=(0, 6),
                    textcoords="offset points", ha="center", fontsize=8.5, color=colour,
                )  # fmt: skip
        axes.axvline(0.5, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(methods)), [m["name"] for m in methods], color=INK)
        axes.set_ylim(len(methods) - 0.5, -0.7)
        axes.set_xlabel(f"{metric_name} (0.5 is a random order)")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        return inline_svg(figure, chart_id, f"{metric_name} of every method with 95 % intervals")


def curves(result: Stored, gain_name: str, chart_id: str) -> str:
    """The gain at every share of traffic sent to the reasoning class."""
    router, *rivals = result["methods"]
    linear = [(m, SECOND) for m in rivals if m["name"].startswith("TF-IDF")]
    length = [(m, THIRD) for m in rivals if m["name"].startswith("length")]
    with drawn(5.0, 3.7) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=LINE, linestyle=(0, (4, 3)), linewidth=1, label="random")
        low, high = (np.asarray(bound, dtype=float) for bound in router["band"])
        axes.fill_between(SHARES, low, high, color=ACCENT, alpha=0.16, linewidth=0)
        for method, colour in [*length[:1], *linear[-1:]]:
            curve = np.asarray(method["curve"], dtype=float)
            axes.plot(SHARES, curve, color=colour, linewidth=1.4, label=method["name"])
        router_curve = np.asarray(router["curve"], dtype=float)
        axes.plot(SHARES, router_curve, color=ACCENT, linewidth=2.2, label="this router")
        served = result["share_at_threshold"]["value"]
        if served is not None:
            gained = float(np.interp(served, SHARES, router_curve))
            axes.plot([served], [gained], "o", color=ACCENT, markersize=7)
            axes.annotate(
                "as served", (served, gained), xytext=(8, -12), textcoords="offset points",
                color=ACCENT, fontsize=9,
            )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlim(0, 1)
        axes.set_xlabel("messages sent to the reasoning model (cost)")
        axes.set_ylabel(gain_name)
        axes.grid()
        axes.legend(loc="lower right", fontsize=8.5, labelcolor=MUTED)
        return inline_svg(figure, chart_id, "Cost–quality curve of the router, TF-IDF and length")


def reliability(result: Stored, chart_id: str) -> str:
    """Whether scores are probabilities: mean score against the share that needed reasoning."""
    bins = [b for b in result["reliability"] if b["observed"]["value"] is not None]
    with drawn(5.0, 3.7) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=LINE, linestyle=(0, (4, 3)), linewidth=1)
        xs = [b["mean_score"] for b in bins]
        ys = [b["observed"]["value"] for b in bins]
        axes.plot(xs, ys, color=ACCENT, linewidth=1.2, alpha=0.5)
        for b in bins:
            low, high = b["observed"]["low"], b["observed"]["high"]
            if low is not None:
                axes.plot([b["mean_score"]] * 2, [low, high], color=ACCENT, linewidth=1.6)
        axes.plot(xs, ys, "o", color=ACCENT, markersize=6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("p_reasoning, mean of a tenth of the rows")
        axes.set_ylabel("share that needed reasoning")
        axes.grid()
        return inline_svg(figure, chart_id, "Reliability of the scores")


def context(ablation: Stored, chart_id: str) -> str:
    """AUROC by how many previous turns are shown."""
    views = ablation["views"]
    with drawn(7.2, 3.2) as (figure, axes):
        # A missing number is NaN here, which is not drawn.
        values, lows, highs = (
            np.asarray([view["auroc"][key] for view in views], dtype=float)
            for key in ("value", "low", "high")
        )
        axes.plot(range(len(views)), values, "o-", color=ACCENT)
        axes.vlines(range(len(views)), lows, highs, color=ACCENT, linewidth=1.6)
        turns = [view["previous_turns"] for view in views]
        names = ["all" if n is None else str(n) for n in turns]
        axes.set_xticks(range(len(turns)), names, color=INK)
        axes.set_xlabel("previous turns shown, newest first")
        axes.set_ylabel("AUROC")
        axes.grid(axis="y")
        return inline_svg(figure, chart_id, "AUROC by previous turns shown")


def parts(stored: Sequence[Stored], chart_id: str) -> str:
    """AUROC of router and linear baseline in every part that has enough rows."""
    measured = [part for part in stored if part["router"] and part["router"]["value"] is not None]
    with drawn(7.2, 0.5 * len(measured) + 1.1) as (figure, axes):
        for row, part in enumerate(measured):
            _interval(axes, part["linear"], row + 0.16, SECOND)
            _interval(axes, part["router"], row - 0.16, ACCENT)
        axes.axvline(0.5, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        labels = [f"{_label(part)}   {part['rows']:,} rows" for part in measured]
        axes.set_yticks(range(len(measured)), labels, color=INK)
        axes.set_ylim(len(measured) - 0.5, -0.5)
        axes.set_xlabel("AUROC inside the part")
        axes.plot([], [], "o-", color=ACCENT, label="this router")
        axes.plot([], [], "o-", color=SECOND, label="TF-IDF + linear, last message")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, fontsize=8.5, labelcolor=MUTED
        )
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        return inline_svg(figure, chart_id, "AUROC by part, router and TF-IDF")


def _label(part: Stored) -> str:
    return f"turn {part['name']}" if part["by"] == "turn index" else str(part["name"])


def _interval(axes: Axes, estimate: Stored, height: float, colour: str) -> None:
    if estimate["value"] is None:
        return
    if estimate["low"] is not None and math.isfinite(estimate["low"]):
        axes.plot(
            [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=2,
            solid_capstyle="round",
        )  # fmt: skip
    axes.plot([estimate["value"]], [height], "o", color=colour, markersize=6)
