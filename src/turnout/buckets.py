"""Turn indices in buckets, the same wherever measurements are given by turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The least turn index of a bucket and its name, late turns first.
TURN_BUCKETS = ((11, "11+"), (6, "6–10"), (3, "3–5"), (2, "2"), (1, "1"))


def turn_bucket(turn_index: int) -> str:
    """The bucket of a 1-based turn index."""
    return next(name for least, name in TURN_BUCKETS if turn_index >= least)


def turn_buckets(turn_indices: Sequence[int] | NDArray[np.int32]) -> dict[str, NDArray[np.intp]]:
    """Bucket → row numbers, early turns first; empty buckets are left out."""
    names = np.asarray([turn_bucket(int(index)) for index in turn_indices])
    rows = {name: np.flatnonzero(names == name) for _, name in reversed(TURN_BUCKETS)}
    return {name: numbers for name, numbers in rows.items() if len(numbers)}
