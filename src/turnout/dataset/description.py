"""What `dataset.json` says about the rows of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import POSITIONS, Cell, split_sizes
from turnout.dataset.drawing import NOT_FIRST, UNKNOWN, UNLABELLED, UNNAMED, UNPLACED
from turnout.dataset.selection import BEYOND_SIZE, DatasetSpec, Selection
from turnout.dataset.weighting import MOST_FOR_LABEL, MOST_FOR_PLACE, Weighting
from turnout.records import ID2LABEL, LABEL_REASONING

# Reasons of turns that the architecture does not use, or that have no label.
_NOT_TAKEN = (NOT_FIRST, UNPLACED, UNLABELLED, UNNAMED, UNKNOWN)
_NAMES = {"outcomes": "measured rows"}

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


def usage(rows: int, dropped: Mapping[str, int]) -> dict[str, Any]:
    """How many labelled turns there are, how many are used, and why the others are not.

    Args:
        rows: Distinct rows of the data set.
        dropped: Reason → turns that are not in it.
    """
    by_count = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    not_used = {reason: n for reason, n in by_count if n and reason not in _NOT_TAKEN}
    return {
        "turns": rows + sum(dropped.values()),
        "labelled": rows + sum(not_used.values()),
        "used": rows,
        "not_used": not_used,
        "not_taken": {reason: n for reason, n in by_count if n and reason in _NOT_TAKEN},
    }


def usage_sentence(description: Mapping[str, Any]) -> str:
    """How many of the labelled turns are used.

    It begins with "Only" if a third or more is lost for another reason than the size asked for.
    """
    used, labelled = description["usage"]["used"], description["usage"]["labelled"]
    what = _NAMES.get(description["source"], "labelled turns")
    if used == labelled:
        return f"All {labelled:,} {what} are used."
    beyond_size = description["usage"]["not_used"].get(BEYOND_SIZE, 0)
    lost = labelled - used - beyond_size
    only = "Only " if 3 * lost >= labelled else ""
    asked = ", as many as were asked for" if beyond_size > lost else ""
    share = f"{100 * used // labelled} %"
    return f"{only}{used:,} of {labelled:,} {what} are used ({share}{asked})."


def priors(train: Sequence[Candidate], log_prior: float | None) -> dict[str, float | None] | None:
    """The weighted share of reasoning among the labelled training rows, and of the log.

    None where the training rows have one label only, as their scores cannot be moved to a log.
    """
    weights = {
        label: fsum(row.values["weight"] for row in train if row.values["label"] == label)
        for label in ID2LABEL
    }
    if not all(weights.values()):
        return None
    return {"balanced": weights[LABEL_REASONING] / sum(weights.values()), "log": log_prior}


def count_both_labels(splits: Splits) -> int:
    """How many distinct rows replace duplicates with both labels."""
    rows = (row for split in splits.values() for row in split)
    return len({row.values["sample_id"] for row in rows if row.both_labels})


def account(selection: Selection, spec: DatasetSpec) -> str | None:
    """Why there are fewer rows than the size asks for; None where there are not."""
    rows = sum(map(len, selection.splits.values()))
    if rows == spec.size:
        return None
    counts = Counter(c.values["label"] for c in selection.usable)
    labels = " and ".join(f"{counts[label]:,} {name}" for label, name in ID2LABEL.items())
    if selection.weighting is not None:
        return (
            f"{spec.size:,} rows were asked for; the log has {len(selection.usable):,} distinct "
            f"labelled ones, {labels}, and all are used. {_reached(selection.weighting)}"
        )
    sizes = split_sizes(spec.size, spec.shares)
    short = ", ".join(
        f"{name} {len(split):,} of {sizes[name]:,}"
        for name, split in selection.splits.items()
        if len(split) < sizes[name]
    )
    return (
        f"{spec.size:,} rows were asked for; the log allows {rows:,} at this ratio "
        f"without using a row twice: {short}. "
        f"Of {len(selection.usable):,} distinct rows {labels} can be used."
        f"{_all_of_them(selection)}"
    )


def _all_of_them(selection: Selection) -> str:
    """How to get every row, where the whole log was read."""
    if dict(selection.draws) != dict(selection.available):
        return ""
    return (
        f" With a --size above {selection.available.total():,} all are, and weights balance them."
    )


def _reached(weighting: Weighting) -> str:
    """What the weights reach, and where they are capped."""
    reached = f"Weights give reasoning {weighting.share:.3f} of the training rows' weight"
    if abs(weighting.share - weighting.target_share) > 1e-6:
        reached += (
            f" where the ratio asks for {weighting.target_share:.3f}: a row of one label weighs at "
            f"most {MOST_FOR_LABEL:.0f} times one of the other"
        )
    if weighting.capped_places:
        reached += (
            f". {weighting.capped_places} of {weighting.places} turn counts and positions weigh "
            "less or more than the others: a row's place makes it weigh at most "
            f"{MOST_FOR_PLACE:.0f} times as much, or as little"
        )
    return reached + "."


def weighting(selection: Selection) -> dict[str, Any] | None:
    """The weighting of the rows; None where rows were drawn instead."""
    if selection.weighting is None:
        return None
    applied = selection.weighting
    return {
        "wanted_share": applied.target_share,
        "share": applied.share,
        "label_factors": {
            split: {ID2LABEL[label]: factor for label, factor in factors.items()}
            for split, factors in applied.label_factors.items()
        },
        "most_for_label": MOST_FOR_LABEL,
        "most_for_place": MOST_FOR_PLACE,
        "places": applied.places,
        "capped_places": applied.capped_places,
    }


def quotas(selection: Selection) -> list[dict[str, Any]]:
    """For each cell: rows in the log, rows drawn, and rows in each split."""
    by_split = {name: Counter(c.cell for c in rows) for name, rows in selection.splits.items()}
    return [
        {
            "stratum": cell.stratum or None,
            "position": cell.position or None,
            "label": cell.label,
            "available": selection.available[cell],
            "drawn": selection.draws.get(cell, 0),
            **{name: counts[cell] for name, counts in by_split.items()},
        }
        for cell in sorted(selection.available, key=_cell_order)
    ]


def _cell_order(cell: Cell) -> tuple[int, int, int]:
    position = POSITIONS.index(cell.position) if cell.position else 0
    return by_first_number(cell.stratum)[0], position, cell.label or 0


def by_first_number(stratum: str) -> tuple[int, str]:
    """A sort key: turn-count buckets by their first number, groups by name."""
    number = re.match(r"\d+", stratum)
    return int(number[0]) if number else 0, stratum
