"""The cells that rows are balanced over, and how many rows a data set takes of each."""

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
        label: 0 = reasoning, 1 = fast; None for a measured prompt that shows neither.
        stratum: The conversation's turn-count bucket; empty where it is not balanced over.
        position: The third of its conversation that the turn is in; empty likewise.
    """

    label: int | None
    stratum: str
    position: str


def position_of(turn_index: int, last_index: int) -> str:
    """The third of its conversation that a turn is in.

    The first turn is early and the last late. Between them the turn index decides, even where not
    all turns before were captured.
    """
    thirds, length = (turn_index - 1) * 3, last_index - 1
    if turn_index == 1 or thirds < length:
        return "early"
    return "late" if thirds > length * 2 else "middle"


Ratio: TypeAlias = tuple[int, int]
_Place: TypeAlias = tuple[str, str]


def planned(
    available: Mapping[Cell, int], size: int, ratio: Ratio, shares: Sequence[float], *, inside: bool
) -> dict[str, dict[Cell, int]]:
    """Split → rows to take of each cell, where every split has its share of every cell.

    Args:
        available: Rows of each cell.
        size: Rows over all splits.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        shares: Of the splits; they sum to 1.
        inside: Whether the ratio holds inside every bucket and position of the training rows too.
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

    A cell of few rows may have none for a small split; the next cell then gives one more.
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
    later = [round(size * share) for share in shares[1:]]
    return dict(zip(SPLITS, [size - sum(later), *later], strict=True))


def quotas(
    available: Mapping[Cell, int], size: int, ratio: Ratio, *, inside: bool
) -> dict[Cell, int]:
    """Rows to take of each cell: as many as `size` and the scarcer label allow, in the ratio.

    Buckets are filled as equally as there are rows, then positions inside each bucket.

    Args:
        available: Rows of each cell.
        size: Rows in total.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        inside: Whether the ratio holds inside every bucket and position too, so that the length of
            a conversation does not predict the label. This costs rows where a bucket lacks a label.
    """
    parts = dict(zip(ID2LABEL, ratio, strict=True))
    if not inside:
        rows_of = {label: sum(_of_label(available, label).values()) for label in parts}
        sizes = label_sizes(size, ratio)
        if any(rows_of[label] < sizes[label] for label in parts):
            units = min(rows_of[label] // part for label, part in parts.items())
            sizes = {label: units * part for label, part in parts.items()}
        return _filled(available, sizes)
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
        quota = _with_remainder(quota, available, label_sizes(size, ratio))
    return quota


def label_sizes(size: int, ratio: Ratio) -> dict[int, int]:
    """Label → rows, which sum to `size`."""
    reasoning = (size * ratio[0] + sum(ratio) // 2) // sum(ratio)
    return dict(zip(ID2LABEL, (reasoning, size - reasoning), strict=True))


def _with_remainder(
    quota: Mapping[Cell, int], available: Mapping[Cell, int], sizes: Mapping[int, int]
) -> dict[Cell, int]:
    """The quota, and the few rows by which the size exceeds a multiple of the ratio's parts."""
    unused = {cell: rows - quota.get(cell, 0) for cell, rows in available.items()}
    counts: Counter[int | None] = Counter()
    for cell, rows in quota.items():
        counts[cell.label] += rows
    more = _filled(unused, {label: max(0, n - counts[label]) for label, n in sizes.items()})
    return {cell: quota.get(cell, 0) + more.get(cell, 0) for cell in {*quota, *more}}


def _filled(available: Mapping[Cell, int], sizes: Mapping[int, int]) -> dict[Cell, int]:
    """Rows to take of each cell, so that every label has its size."""
    return {
        Cell(label, *place): rows
        for label, n in sizes.items()
        for place, rows in _nested(_of_label(available, label), n).items()
    }


def _of_label(available: Mapping[Cell, int], label: int) -> dict[_Place, int]:
    return {
        (cell.stratum, cell.position): rows
        for cell, rows in available.items()
        if cell.label == label
    }


def _nested(available: Mapping[_Place, int], size: int) -> dict[_Place, int]:
    """Share `size` among buckets, then each bucket's part among its positions."""
    inside: dict[str, dict[str, int]] = defaultdict(dict)
    for (stratum, position), rows in available.items():
        inside[stratum][position] = rows
    by_stratum = {stratum: sum(rows.values()) for stratum, rows in inside.items()}
    return {
        (stratum, position): rows
        for stratum, n in _water_filled(by_stratum, size).items()
        for position, rows in _water_filled(inside[stratum], n).items()
    }


def _water_filled(available: Mapping[str, int], size: int) -> dict[str, int]:
    """Share `size` among names, as equally as their rows allow."""
    quota = dict.fromkeys(sorted(available), 0)
    while size > 0:
        open_ = [name for name in quota if quota[name] < available[name]]
        if not open_:
            break
        each = max(1, size // len(open_))
        for name in open_:
            units = min(each, available[name] - quota[name], size)
            quota[name] += units
            size -= units
    return quota
