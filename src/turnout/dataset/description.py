"""What `dataset.json` says about the rows of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import POSITIONS, Cell, split_sizes
from turnout.dataset.selection import DatasetSpec, Selection
from turnout.records import ID2LABEL, LABEL_REASONING

Splits = Mapping[str, Sequence[Candidate]]


def composition(splits: Splits) -> list[dict[str, Any]]:
    """Rows of each split and stratum, by label."""
    counts = Counter(
        (split, c.values["stratum"], c.values["label"])
        for split, rows in splits.items()
        for c in rows
    )
    strata = sorted({stratum for _, stratum, _ in counts}, key=by_first_number)
    names = [*ID2LABEL.items(), (None, "none")]
    return [
        {"split": split, "stratum": stratum}
        | {name: counts[split, stratum, label] for label, name in names}
        for split in splits
        for stratum in strata
        if any(counts[split, stratum, label] for label, _ in names)
    ]


def priors(train: Sequence[Candidate], log_prior: float | None) -> dict[str, float | None] | None:
    """The weighted share of reasoning among the labelled training rows, and of the log.

    None where the training rows carry one label alone: no score can be moved from them to a log.
    """
    weights = dict.fromkeys(ID2LABEL, 0.0)
    for row in train:
        if (label := row.values["label"]) is not None:
            weights[label] += row.values["weight"]
    if not all(weights.values()):
        return None
    return {"balanced": weights[LABEL_REASONING] / sum(weights.values()), "log": log_prior}


def with_both_labels(splits: Splits) -> int:
    """Rows that stand for duplicates with both labels, each counted once."""
    rows = (row for split in splits.values() for row in split)
    return len({row.values["sample_id"] for row in rows if row.both_labels})


def account(selection: Selection, spec: DatasetSpec) -> str | None:
    """Why there are fewer rows than were wanted; None where there are not."""
    rows = sum(map(len, selection.splits.values()))
    if rows == spec.size:
        return None
    counts = Counter(c.values["label"] for c in selection.usable)
    labels = " and ".join(f"{counts[label]:,} {name}" for label, name in ID2LABEL.items())
    sizes = split_sizes(spec.size, spec.shares)
    short = ", ".join(
        f"{name} {len(taken):,} of {sizes[name]:,}"
        for name, taken in selection.splits.items()
        if len(taken) < sizes[name]
    )
    return (
        f"{spec.size:,} rows were asked for; the log allows {rows:,} at this ratio "
        f"{'with' if spec.oversample else 'without using a row twice'}: {short}. "
        f"Of {len(selection.usable):,} distinct rows {labels} can be used."
    )


def quotas(selection: Selection) -> list[dict[str, Any]]:
    """Of each cell: rows in the log, rows drawn, and rows taken by each split."""
    taken = {name: Counter(c.cell for c in rows) for name, rows in selection.splits.items()}
    return [
        {
            "stratum": cell.stratum or None,
            "position": cell.position or None,
            "label": cell.label,
            "available": selection.available[cell],
            "drawn": selection.draws.get(cell, 0),
            **{name: counts[cell] for name, counts in taken.items()},
        }
        for cell in sorted(selection.available, key=_cell_order)
    ]


def _cell_order(cell: Cell) -> tuple[int, int, int]:
    position = POSITIONS.index(cell.position) if cell.position else 0
    return by_first_number(cell.stratum)[0], position, cell.label or 0


def by_first_number(stratum: str) -> tuple[int, str]:
    """Sorts turn-count buckets by their first number, and groups by name."""
    number = re.match(r"\d+", stratum)
    return int(number[0]) if number else 0, stratum
