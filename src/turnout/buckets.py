"""Turn indices in buckets, the same wherever measurements are given by turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def buckets_from(*least: int) -> tuple[tuple[int, str], ...]:
    """The least turn index of each bucket and its name (`2`, `3–5`, `11+`), early turns first.

    Args:
        least: In ascending order; a bucket ends before the next begins, and the last one never.
    """
    ends = (*(start - 1 for start in least[1:]), None)
    return tuple((start, _name(start, end)) for start, end in zip(least, ends, strict=True))


def _name(start: int, end: int | None) -> str:
    if end is None:
        return f"{start}+"
    return str(start) if start == end else f"{start}–{end}"


_TURN_BUCKETS = buckets_from(1, 2, 3, 6, 11)


def turn_bucket(turn_index: int) -> str:
    """The bucket of a 1-based turn index."""
    return next(name for least, name in reversed(_TURN_BUCKETS) if turn_index >= least)


def turn_buckets(turn_indices: Sequence[int] | NDArray[np.int32]) -> dict[str, NDArray[np.intp]]:
    """Bucket → row numbers, early turns first; empty buckets are left out."""
    names = np.asarray([turn_bucket(int(index)) for index in turn_indices])
    rows = {name: np.flatnonzero(names == name) for _, name in _TURN_BUCKETS}
    return {name: numbers for name, numbers in rows.items() if len(numbers)}
