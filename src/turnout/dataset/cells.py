"""How many rows of each label, turn-count bucket and position a data set takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from turnout.buckets import buckets_from
from turnout.records import ID2LABEL

SPLITS = ("train", "validation", "test")
# Turn-count buckets: the least count of each and its name, long conversations first.
STRATA = buckets_from(1, 3, 6, 11, 21)[::-1]
POSITIONS = ("early", "middle", "late")


class Cell(NamedTuple):
    """What rows are balanced over.

    Attributes:
        label: 0 = reasoning, 1 = fast; None of a measured prompt where neither was shown.
        stratum: The conversation's turn-count bucket; empty where all are taken alike.
        position: Which third of its conversation the turn stands in; empty likewise.
    """

    label: int | None
    stratum: str
    position: str


def position_of(turn_index: int, last_index: int) -> str:
    """Where a turn stands in its conversation.

    The first turn is early and the last late; a turn between stands where its index says, whether
    or not all the turns before it were captured.
    """
    before, whole = (turn_index - 1) * 3, last_index - 1
    if turn_index == 1 or before < whole:
        return "early"
    return "late" if before > whole * 2 else "middle"


Ratio: TypeAlias = tuple[int, int]
_Place: TypeAlias = tuple[str, str]


def planned(
    available: Mapping[Cell, int], size: int, ratio: Ratio, shares: Sequence[float], *, inside: bool
) -> dict[str, dict[Cell, int]]:
    """Split → rows to take of each cell, where every split has its share of every cell.

    Args:
        available: Rows there are.
        size: Rows wanted over all splits.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        shares: Of the splits; they sum to 1.
        inside: Keep the ratio inside every bucket and position of the training rows too.
    """
    sizes = split_sizes(size, shares)
    by_split: dict[str, dict[Cell, int]] = {name: {} for name in SPLITS}
    for cell, rows in available.items():
        for name, part in split_sizes(rows, shares).items():
            by_split[name][cell] = max(0, part)
    return {
        name: quotas(by_split[name], sizes[name], ratio, inside=inside and name == "train")
        for name in SPLITS
    }


def shared_out(
    available: Mapping[Cell, int], shares: Sequence[float]
) -> dict[str, dict[Cell, int]]:
    """Split → its share of the rows of each cell, and of all rows of a label.

    A cell of a few rows has no whole row for a small split: what one does not give, the next does.
    """
    by_split: dict[str, dict[Cell, int]] = {name: {} for name in SPLITS}
    for label in {cell.label for cell in available}:
        rows, before = 0, dict.fromkeys(SPLITS, 0)
        for cell in sorted(cell for cell in available if cell.label == label):
            rows += available[cell]
            until = split_sizes(rows, shares)
            for name in SPLITS:
                by_split[name][cell] = max(0, until[name] - before[name])
            before = until
    return by_split


def split_sizes(size: int, shares: Sequence[float]) -> dict[str, int]:
    """Split → rows, which sum to `size`."""
    held_out = [round(size * share) for share in shares[1:]]
    return dict(zip(SPLITS, [size - sum(held_out), *held_out], strict=True))


def quotas(
    available: Mapping[Cell, int], size: int, ratio: Ratio, *, inside: bool
) -> dict[Cell, int]:
    """Rows to take of each cell: as many as `size` and the scarcer label allow, in the ratio.

    Buckets are filled as equally as there are rows, then positions inside each bucket.

    Args:
        available: Rows there are.
        size: Rows wanted.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        inside: Keep the ratio inside every bucket and position too, so that the length of a
            conversation says nothing about the label. Costs rows where a bucket lacks a label.
    """
    parts = dict(zip(ID2LABEL, ratio, strict=True))
    if not inside:
        rows_of = {label: sum(_of_label(available, label).values()) for label in parts}
        wanted = label_sizes(size, ratio)
        if any(rows_of[label] < wanted[label] for label in parts):
            units = min(rows_of[label] // part for label, part in parts.items())
            wanted = {label: units * part for label, part in parts.items()}
        return _filled(available, wanted)
    places = {(cell.stratum, cell.position) for cell in available}
    units_of = {
        place: min(available.get(Cell(label, *place), 0) // part for label, part in parts.items())
        for place in places
    }
    filled = _nested(units_of, size // sum(ratio))
    quota = {
        Cell(label, *place): n * part
        for place, n in filled.items()
        for label, part in parts.items()
    }
    if sum(filled.values()) == size // sum(ratio):
        quota = _with_rest(quota, available, label_sizes(size, ratio))
    return quota


def label_sizes(size: int, ratio: Ratio) -> dict[int, int]:
    """Label → rows, which sum to `size`."""
    reasoning = (size * ratio[0] + sum(ratio) // 2) // sum(ratio)
    return dict(zip(ID2LABEL, (reasoning, size - reasoning), strict=True))


def _with_rest(
    quota: Mapping[Cell, int], available: Mapping[Cell, int], wanted: Mapping[int, int]
) -> dict[Cell, int]:
    """The quota, and the few rows by which the size exceeds a multiple of the ratio's parts."""
    left = {cell: rows - quota.get(cell, 0) for cell, rows in available.items()}
    taken: Counter[int | None] = Counter()
    for cell, rows in quota.items():
        taken[cell.label] += rows
    rest = _filled(left, {label: max(0, n - taken[label]) for label, n in wanted.items()})
    return {cell: quota.get(cell, 0) + rest.get(cell, 0) for cell in {*quota, *rest}}


def _filled(available: Mapping[Cell, int], wanted: Mapping[int, int]) -> dict[Cell, int]:
    return {
        Cell(label, *place): rows
        for label, n in wanted.items()
        for place, rows in _nested(_of_label(available, label), n).items()
    }


def _of_label(available: Mapping[Cell, int], label: int) -> dict[_Place, int]:
    return {
        (cell.stratum, cell.position): rows
        for cell, rows in available.items()
        if cell.label == label
    }


def _nested(available: Mapping[_Place, int], wanted: int) -> dict[_Place, int]:
    """Share `wanted` among buckets, then each bucket's part among its positions."""
    inside: dict[str, dict[str, int]] = defaultdict(dict)
    for (stratum, position), rows in available.items():
        inside[stratum][position] = rows
    by_stratum = {stratum: sum(rows.values()) for stratum, rows in inside.items()}
    return {
        (stratum, position): rows
        for stratum, n in _water_filled(by_stratum, wanted).items()
        for position, rows in _water_filled(inside[stratum], n).items()
    }


def _water_filled(available: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Share `wanted` among names as equally as there are rows."""
    quota = dict.fromkeys(sorted(available), 0)
    while wanted > 0:
        open_ = [name for name in quota if quota[name] < available[name]]
        if not open_:
            break
        each = max(1, wanted // len(open_))
        for name in open_:
            units = min(each, available[name] - quota[name], wanted)
            quota[name] += units
            wanted -= units
    return quota
