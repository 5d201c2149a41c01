"""Turns counted by the pattern of their votes, which is one number for each turn.

Turns share few patterns. Labels are computed once a pattern, so that the log itself stays on the
engine.
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
class VotePatterns:
    """The distinct patterns of votes in a log, in the order of their numbers.

    Attributes:
        numbers: As `pattern_number` gives them, shape `(m,)`.
        votes: Each source's vote, −1, 0 or +1, shape `(m, s)`.
        turns: How many turns have each, shape `(m,)`.
    """

    numbers: Counts
    votes: Votes
    turns: Counts

    @property
    def has_vote(self) -> NDArray[np.bool_]:
        """Which have any vote, shape `(m,)`."""
        return np.asarray((self.votes != 0).any(axis=1))

    def positions(self, numbers: Counts) -> Counts:
        """The positions of numbers in `numbers`; each must be among them."""
        return np.searchsorted(self.numbers, numbers)


def pattern_number(votes: ibis.Table, codes: Sequence[str]) -> ibis.Value:
    """A number for the votes of each row: its digits in base 3 are each vote + 1."""
    digits = [
        (votes[code].cast("int64") + 1) * 3**place for place, code in enumerate(reversed(codes))
    ]
    return reduce(add, digits).cast("int64")


def voteless_number(sources: int) -> int:
    """The pattern number of a row without any vote."""
    return sum(3**place for place in range(sources))


def count_patterns(backend: ibis.BaseBackend, rows: ibis.Table, sources: int) -> VotePatterns:
    """Count the rows of each `pattern`."""
    counted = rows.group_by("pattern").agg(turns=rows.count())
    table = backend.to_pyarrow(counted).sort_by("pattern")
    numbers = table["pattern"].to_numpy().astype(np.int64)
    powers = 3 ** np.arange(sources - 1, -1, -1, dtype=np.int64)
    votes = (numbers[:, None] // powers % 3 - 1).astype(np.int8)
    return VotePatterns(numbers, votes, table["turns"].to_numpy().astype(np.int64))
