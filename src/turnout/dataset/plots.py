"""The composition of a data set → SVG drawings for its card and its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from turnout.buckets import turn_buckets
from turnout.dataset.card import PLOTS
from turnout.dataset.description import by_first_number
from turnout.pages.drawing import ACCENT, CARD, MUTED, SECOND, drawn, file_and_inline
from turnout.records import ID2LABEL

# Label → colour and hatching: told apart without colour too.
_STYLES = {0: (ACCENT, ""), 1: (SECOND, "///"), None: (MUTED, "...")}
_MOST_BARS = 16
# Characters, each bin twice as long as the one before.
_LENGTH_EDGES = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

Counts = Mapping[str, Mapping[int | None, int]]


def plots(tables: Mapping[str, pa.Table]) -> dict[str, tuple[str, str]]:
    """File name → SVG as a file and as an element of a page, the same bytes for the same rows.

    Args:
        tables: Split → samples.
    """
    together = pa.concat_tables(tables.values())
    labels = together["label"].to_pylist()
    counted = {
        "strata.svg": _strata(tables),
        "turns.svg": _turns(together, labels),
        "lengths.svg": _lengths(together, labels),
        "evidence.svg": _frequent(_codes(together, labels)),
        "models.svg": _frequent(_count(zip(_models(together), labels, strict=True))),
    }
    return {name: _bars(counted[name], name, title) for name, title in PLOTS.items()}


def _strata(tables: Mapping[str, pa.Table]) -> Counts:
    rows_of: dict[str, Mapping[int | None, int]] = {}
    strata: dict[str, None] = {}
    for table in tables.values():
        strata |= dict.fromkeys(pc.unique(table["stratum"]).to_pylist())
    order = sorted(strata, key=by_first_number)
    for split, table in tables.items():
        pairs = zip(table["stratum"].to_pylist(), table["label"].to_pylist(), strict=True)
        counts: Counts = _count(pairs)
        if len(order) > _MOST_BARS // len(tables):
            counts = _frequent(counts, _MOST_BARS // len(tables))
        else:
            counts = {stratum: counts.get(stratum, {}) for stratum in order}
        rows_of |= {f"{split}  {stratum}": of for stratum, of in counts.items()}
    return rows_of


def _turns(table: pa.Table, labels: Sequence[int | None]) -> Counts:
    buckets = turn_buckets(table["turn_index"].to_numpy())
    return {f"turn {name}": Counter(labels[row] for row in rows) for name, rows in buckets.items()}


def _lengths(table: pa.Table, labels: Sequence[int | None]) -> Counts:
    lengths = pc.utf8_length(table["message"]).to_numpy()
    bins = np.searchsorted(_LENGTH_EDGES, lengths, side="right") - 1
    counts = _count(zip(bins.tolist(), labels, strict=True))
    last = len(_LENGTH_EDGES) - 1
    return {
        f"{low:,}–{_LENGTH_EDGES[n + 1] - 1:,} characters" if n < last else f"{low:,} or more": of
        for n, low in enumerate(_LENGTH_EDGES)
        if (of := counts.get(str(n)))
    }


def _codes(table: pa.Table, labels: Sequence[int | None]) -> Counts:
    evidence = table["evidence"].to_pylist()
    return _count(
        (code, label)
        for codes, label in zip(evidence, labels, strict=True)
        for code in codes or ["no evidence"]
    )


def _models(table: pa.Table) -> list[str]:
    return [model or "none named" for model in table["model"].to_pylist()]


def _count(pairs: Iterable[tuple[object, int | None]]) -> dict[str, dict[int | None, int]]:
    counts: dict[str, dict[int | None, int]] = {}
    for (name, label), n in Counter(pairs).items():
        counts.setdefault(str(name), {})[label] = n
    return counts


def _frequent(counts: Counts, most: int = _MOST_BARS) -> dict[str, Mapping[int | None, int]]:
    """The most frequent first; the rest together."""
    order = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))
    frequent: dict[str, Mapping[int | None, int]] = {name: counts[name] for name in order[:most]}
    if rest := order[most:]:
        together: Counter[int | None] = Counter()
        for name in rest:
            together.update(counts[name])
        frequent[f"{len(rest):,} others"] = together
    return frequent


def _bars(counts: Counts, name: str, title: str) -> tuple[str, str]:
    """One bar a row of `counts`, its labels side by side in it, with their numbers."""
    present = [label for label in _STYLES if any(of.get(label) for of in counts.values())]
    with drawn(7.2, 0.3 * len(counts) + 0.9) as (figure, axes):
        left = np.zeros(len(counts))
        for label in present:
            colour, hatch = _STYLES[label]
            width = np.asarray([of.get(label, 0) for of in counts.values()], dtype=float)
            shown = "no label" if label is None else f"{label} = {ID2LABEL[label]}"
            axes.barh(
                range(len(counts)), width, left=left, color=colour, hatch=hatch, edgecolor=CARD,
                linewidth=0.6, height=0.72, label=shown,
            )  # fmt: skip
            left += width
        for bar, of in enumerate(counts.values()):
            numbers = " + ".join(f"{of.get(label, 0):,}" for label in present)
            axes.annotate(
                numbers, (left[bar], bar), xytext=(5, 0), textcoords="offset points", va="center",
                color=MUTED, fontsize=8.5,
            )  # fmt: skip
        axes.set_yticks(range(len(counts)), list(counts))
        axes.set_ylim(len(counts) - 0.4, -0.6)
        axes.set_xlim(0, 1.25 * left.max(initial=1))
        axes.set_xlabel("rows")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, labelcolor=MUTED)
        return file_and_inline(figure, name.removesuffix(".svg"), title)
