"""The switch report as inline SVG; nothing is told apart by colour alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import PercentFormatter

from turnout.pages.drawing import (
    ACCENT,
    CARD,
    INK,
    MUTED,
    SECOND,
    THIRD,
    drawn,
    inline_svg,
)
from turnout.switches.report import ModelPair, Rate

_CLASSES = ("reasoning", "fast", "unknown")
# Models with a node of their own on each side of the flow; others share one for each class.
_NODES = 9
_COLOURS = {"upgrade": ACCENT, "downgrade": SECOND, "lateral": THIRD, "unknown": MUTED}
# Measure → shown as, marker, line, colour.
_SERIES = {
    "upgrades": ("upgrade", "^", "-", ACCENT),
    "downgrades": ("downgrade", "v", "--", SECOND),
    "laterals": ("lateral", "o", ":", THIRD),
}
# Most dates that are written below their axis.
_DATES = 10
_GAP, _CLASS_GAP = 0.012, 0.07  # between nodes, of the height of the flow
_LEFT, _RIGHT, _NODE_WIDTH = 0.0, 1.0, 0.018


@dataclass(slots=True)
class _Node:
    """A model of one class on one side of the flow: its top edge, and the part its ribbons use."""

    name: str
    model_class: str
    count: int
    top: float = 0.0
    filled: float = 0.0


def flow(pairs: Sequence[ModelPair], chart_id: str) -> str:
    """From which model to which people switch: one ribbon a pair, as wide as it is frequent."""
    ribbons = _ribbons(pairs)
    sides = [_placed(ribbons, side) for side in (0, 1)]
    total = sum(ribbons.values())
    unit = (1 - max(_gaps(side) for side in sides)) / total
    for side in sides:
        _stack(side, unit)
    rows = max(len(side) for side in sides)
    hints = {}
    with drawn(7.2, max(2.6, 0.34 * rows + 0.9)) as (figure, axes):
        ordered = sorted(ribbons, key=lambda r: (sides[0][r[0]].top, sides[1][r[1]].top))
        for number, (left, right) in enumerate(ordered):
            count, gid = ribbons[left, right], f"ribbon{number}"
            kind = _kind(left[1], right[1])
            _ribbon(axes, sides[0][left], sides[1][right], count * unit, kind, gid)
            hints[gid] = f"{count:,} from {left[0]} to {right[0]} ({kind})"
        for side, x, align in ((sides[0], _LEFT, "right"), (sides[1], _RIGHT, "left")):
            above = None
            for node in side.values():
                _node(axes, node, x, align, unit)
                if node.model_class != above:
                    above = node.model_class
                    axes.text(
                        x, node.top - 0.012, above, ha=align, va="bottom", color=MUTED,
                        fontsize=8.5, fontweight="bold",
                    )  # fmt: skip
        axes.set_xlim(-0.55, 1.55)
        axes.set_ylim(1.01, -0.075)
        axes.text(_LEFT, -0.04, "from", ha="right", va="bottom", color=MUTED, fontsize=9)
        axes.text(_RIGHT, -0.04, "to", ha="left", va="bottom", color=MUTED, fontsize=9)
        axes.axis("off")
        return inline_svg(figure, chart_id, "Flow between models, by people's choice", hints)


def by_turn(rates: Sequence[Rate], chart_id: str) -> str:
    """How often people switch at each turn, with intervals."""
    rates = [rate for rate in rates if rate.turns]
    with drawn(7.2, 3.4) as (figure, axes):
        for number, (measure, (label, marker, line, colour)) in enumerate(_SERIES.items()):
            xs = [position + (number - 1) * 0.14 for position in range(len(rates))]
            ys = [getattr(rate, measure).value for rate in rates]
            axes.plot(xs, ys, linestyle=line, color=colour, linewidth=1, alpha=0.7)
            for x, rate in zip(xs, rates, strict=True):
                low, high = getattr(rate, measure).low, getattr(rate, measure).high
                axes.plot([x, x], [low, high], color=colour, linewidth=1.6)
            axes.plot(xs, ys, marker, color=colour, markersize=7, label=label)
        labels = [f"{rate.name}\n{rate.turns:,}" for rate in rates]
        axes.set_xticks(range(len(rates)), labels)
        axes.set_xlabel(
            "turn index of the first turn after the switch, and turns that could switch"
        )
        _share_axis(
            axes, [getattr(rate, m).high for rate in rates for m in _SERIES if rate.turns >= 30]
        )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, labelcolor=MUTED)
        return inline_svg(figure, chart_id, "Switches by turn index, with 95 % intervals")


def by_date(rates: Sequence[Rate], unit: str, chart_id: str) -> str:
    """How often people and products switch, over time."""
    xs = list(range(len(rates)))
    with drawn(7.2, 3.0) as (figure, axes):
        low, high = ([getattr(rate.switches, end) for rate in rates] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=ACCENT, alpha=0.16, linewidth=0)
        for measure, label, marker, line, colour in (
            ("switches", "by a person", "o", "-", ACCENT),
            ("fallbacks", "fallback", "x", "--", MUTED),
        ):
            ys = [getattr(rate, measure).value for rate in rates]
            axes.plot(xs, ys, line, marker=marker, color=colour, markersize=5, label=label)
        step = -(-len(rates) // _DATES)
        axes.set_xticks(xs[::step], [rate.name for rate in rates[::step]], rotation=30, ha="right")
        axes.set_xlabel(f"{unit} from")
        _share_axis(axes, [rate.switches.high for rate in rates if rate.turns >= 30])
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, labelcolor=MUTED)
        return inline_svg(figure, chart_id, f"Switches by {unit}, with 95 % intervals")


def by_clock(rates: Sequence[Rate], label: str, chart_id: str) -> str:
    """How often people switch by hour or day of the week, with intervals."""
    with drawn(5.0, 2.8) as (figure, axes):
        for x, rate in enumerate(rates):
            if rate.turns:
                share = rate.switches
                axes.plot([x, x], [share.low, share.high], color=SECOND, linewidth=1.4)
                axes.plot([x], [share.value], "o", color=SECOND, markersize=5)
        step = 3 if len(rates) > 7 else 1
        axes.set_xticks(range(0, len(rates), step), [rate.name[:3] for rate in rates[::step]])
        axes.set_xlabel(label)
        _share_axis(axes, [rate.switches.high for rate in rates if rate.turns >= 30])
        return inline_svg(figure, chart_id, f"Switches by {label}, with 95 % intervals")


def _share_axis(axes: Axes, tops: Sequence[float]) -> None:
    """Shares from 0 up to `tops`, which leaves out the wide intervals of few turns."""
    axes.set_ylim(0, 1.08 * max(tops) if tops else 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.set_ylabel("of the turns that could switch")
    axes.grid(axis="y")


def _ribbons(pairs: Sequence[ModelPair]) -> dict[tuple[tuple[str, str], tuple[str, str]], int]:
    """(model, class) before, (model, class) after → switches by people; rare models are merged."""
    counted: dict[tuple[tuple[str, str], tuple[str, str]], int] = {}
    by_people = [pair for pair in pairs if pair.count > pair.fallbacks]
    frequent = [
        _most_frequent(by_people, f"{side}_model", f"{side}_class") for side in ("from", "to")
    ]
    for pair in by_people:
        ends = []
        for side, models in zip(("from", "to"), frequent, strict=True):
            end = (getattr(pair, f"{side}_model"), getattr(pair, f"{side}_class"))
            ends.append(end if end in models else ("other models", end[1]))
        key = (ends[0], ends[1])
        counted[key] = counted.get(key, 0) + pair.count - pair.fallbacks
    return counted


def _most_frequent(pairs: Sequence[ModelPair], name: str, model_class: str) -> set[tuple[str, str]]:
    totals: dict[tuple[str, str], int] = {}
    for pair in pairs:
        key = (getattr(pair, name), getattr(pair, model_class))
        totals[key] = totals.get(key, 0) + pair.count - pair.fallbacks
    return set(sorted(totals, key=lambda key: (-totals[key], key))[:_NODES])


def _placed(
    ribbons: Mapping[tuple[tuple[str, str], tuple[str, str]], int], side: int
) -> dict[tuple[str, str], _Node]:
    """Nodes of one side, from the top: reasoning, fast, unknown; the most frequent first."""
    totals: dict[tuple[str, str], int] = {}
    for ends, count in ribbons.items():
        totals[ends[side]] = totals.get(ends[side], 0) + count
    order = sorted(totals, key=lambda n: (_CLASSES.index(n[1]), -totals[n], n[0]))
    return {node: _Node(*node, totals[node]) for node in order}


def _gaps(side: Mapping[tuple[str, str], _Node]) -> float:
    classes = len({node.model_class for node in side.values()})
    return _GAP * (len(side) - classes) + _CLASS_GAP * classes


def _stack(side: Mapping[tuple[str, str], _Node], unit: float) -> None:
    top, previous = 0.0, None
    for node in side.values():
        top += _CLASS_GAP if node.model_class != previous else _GAP
        node.top, previous = top, node.model_class
        top += node.count * unit


def _kind(from_class: str, to_class: str) -> str:
    if "unknown" in (from_class, to_class):
        return "unknown"
    if from_class == to_class:
        return "lateral"
    return "upgrade" if to_class == "reasoning" else "downgrade"


def _ribbon(axes: Axes, left: _Node, right: _Node, width: float, kind: str, gid: str) -> None:
    a, b = left.top + left.filled, right.top + right.filled
    left.filled, right.filled = left.filled + width, right.filled + width
    x0, x1, middle = _LEFT + _NODE_WIDTH, _RIGHT - _NODE_WIDTH, (_LEFT + _RIGHT) / 2
    points = [
        (x0, a), (middle, a), (middle, b), (x1, b),
        (x1, b + width), (middle, b + width), (middle, a + width), (x0, a + width), (x0, a),
    ]  # fmt: skip
    curve, line = [Outline.CURVE4] * 3, Outline.LINETO
    codes = [Outline.MOVETO, *curve, line, *curve, Outline.CLOSEPOLY]
    patch = PathPatch(
        Outline(points, codes), facecolor=_COLOURS[kind], edgecolor=CARD, linewidth=0.6, alpha=0.55
    )
    patch.set_gid(gid)
    axes.add_patch(patch)


def _node(axes: Axes, node: _Node, x: float, align: str, unit: float) -> None:
    left = x if align == "right" else x - _NODE_WIDTH
    height = node.count * unit
    axes.add_patch(Rectangle((left, node.top), _NODE_WIDTH, height, facecolor=INK, linewidth=0))
    outward = -0.02 if align == "right" else 0.02
    axes.text(
        x + outward, node.top + height / 2, f"{node.name} · {node.count:,}",
        ha=align, va="center", fontsize=8.5,
    )  # fmt: skip
