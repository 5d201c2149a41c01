"""The votes of a turn as one number, and turns counted by it; knows no source's meaning.

Turns share few patterns of votes: whatever is said of all turns is said of their patterns, so that
the log itself stays on the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import ibis
import numpy as np
from numpy.typing import NDArray

Votes = NDArray[np.int8]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Patterns:
    """The different votes of a log's turns, in the order of their numbers.

    Attributes:
        numbers: As `numbered` gives them, shape `(m,)`.
        votes: What each source says, −1, 0 or +1, shape `(m, s)`.
        turns: How many turns have each, shape `(m,)`.
    """

    numbers: Counts
    votes: Votes
    turns: Counts

    @property
    def spoken(self) -> NDArray[np.bool_]:
        """Which have any vote, shape `(m,)`."""
        return np.asarray((self.votes != 0).any(axis=1))

    def places(self, numbers: Counts) -> Counts:
        """Where numbers stand here; each must be among them."""
        return np.searchsorted(self.numbers, numbers)


def numbered(votes: ibis.Table, codes: Sequence[str]) -> ibis.Value:
    """A number for the votes of each row: the digits to base 3 of one more than each vote."""
    digits = [
        (votes[code].cast("int64") + 1) * 3**place for place, code in enumerate(reversed(codes))
    ]
    return reduce(add, digits).cast("int64")


def voteless(sources: int) -> int:
    """The number of a row without any vote."""
    return sum(3**place for place in range(sources))


def counted(backend: ibis.BaseBackend, rows: ibis.Table, sources: int) -> Patterns:
    """The patterns among rows with their `pattern`."""
    found = rows.group_by("pattern").agg(turns=rows.count())
    table = backend.to_pyarrow(found).sort_by("pattern")
    numbers = table["pattern"].to_numpy().astype(np.int64)
    powers = 3 ** np.arange(sources - 1, -1, -1, dtype=np.int64)
    votes = (numbers[:, None] // powers % 3 - 1).astype(np.int8)
    return Patterns(numbers, votes, table["turns"].to_numpy().astype(np.int64))
