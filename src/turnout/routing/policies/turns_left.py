"""The expected number of turns left in a conversation, by turn index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A turn index that fewer conversations reach takes the value of the one before.
MIN_CONVERSATIONS = 30
_WITHOUT_A_LOG = 2.0


@dataclass(frozen=True, slots=True)
class TurnsLeft:
    """Expected turns left, including the current one.

    Attributes:
        by_turn: By turn index from 1, each at least 1; the last is used for all later turns.
    """

    by_turn: tuple[float, ...] = (_WITHOUT_A_LOG,)

    def __post_init__(self) -> None:
        if not self.by_turn or min(self.by_turn) < 1:
            raise ValueError(f"turns left must be at least 1 at each turn; found {self.by_turn}")

    def from_turn(self, turn_index: int) -> float:
        """Expected turns left at a 1-based turn, including it."""
        return self.by_turn[min(turn_index, len(self.by_turn)) - 1]

    @classmethod
    def from_turn_counts(cls, counts: Sequence[int]) -> TurnsLeft:
        """The estimate from a log's conversations.

        At turn t it is the mean of `n - t + 1` over the conversations with `n ≥ t` turns, rounded
        to hundredths so that a settings file holds the same numbers. Turns that fewer than 30
        conversations reach take the last value.

        Args:
            counts: Turns of each conversation; empty for no log.
        """
        turns = np.asarray(counts, np.int64)  # (conversations,)
        if not len(turns):
            return cls()
        reached = np.cumsum(np.bincount(turns)[::-1])[::-1][1:]  # [t - 1]: with at least t turns
        left = np.cumsum(reached[::-1])[::-1] / np.maximum(reached, 1)
        measured = max(1, int((reached >= MIN_CONVERSATIONS).sum()))
        return cls(tuple(round(float(value), 2) for value in left[:measured]))
