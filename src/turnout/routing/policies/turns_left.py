"""How many more turns a conversation is expected to have, by its turn index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Fewer conversations than this say nothing of their own about how long they go on.
MIN_CONVERSATIONS = 30
_WITHOUT_A_LOG = 2.0


@dataclass(frozen=True, slots=True)
class TurnsLeft:
    """Expected turns left, the current one counted.

    Attributes:
        by_turn: By turn index, from 1 on, each at least 1; the last holds for all later turns.
    """

    by_turn: tuple[float, ...] = (_WITHOUT_A_LOG,)

    def __post_init__(self) -> None:
        if not self.by_turn or min(self.by_turn) < 1:
            raise ValueError(f"turns left must be at least 1 at each turn; found {self.by_turn}")

    def at(self, turn_index: int) -> float:
        """Expected turns left at a turn (1-based), itself counted."""
        return self.by_turn[min(turn_index, len(self.by_turn)) - 1]

    @classmethod
    def from_turn_counts(cls, counts: Sequence[int]) -> TurnsLeft:
        """What a log's conversations say.

        At turn t it is the mean of `n - t + 1` over the conversations with `n ≥ t` turns, the sum
        of their survival (one minus the hazard, multiplied up) from t on. It stands as far as 30
        conversations reach; later turns take the last value.

        Args:
            counts: Turns of each conversation; empty for no log.
        """
        turns = np.asarray(counts, np.int64)  # (conversations,)
        if not len(turns):
            return cls()
        reached = np.cumsum(np.bincount(turns)[::-1])[::-1][1:]  # [t - 1]: with at least t turns
        left = np.cumsum(reached[::-1])[::-1] / np.maximum(reached, 1)
        known = max(1, int((reached >= MIN_CONVERSATIONS).sum()))
        return cls(tuple(float(value) for value in left[:known]))
