"""The turns of a replay in columns, conversation by conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.records import ModelClass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """n turns of c conversations, in their order.

    Attributes:
        starts: Where each conversation begins, and n at the end, shape `(c + 1,)`.
        turn_index: 1-based, shape `(n,)`.
        at_s: Unix seconds, shape `(n,)`; NaN where the log has no time.
        prompt_tokens: Of the whole prompt, shape `(n,)`.
        output_tokens: Class → what its model answers with, reasoning tokens included, shape `(n,)`.
        reasoning_tokens: Class → of the output, shape `(n,)`.
    """

    starts: NDArray[np.int64]
    turn_index: NDArray[np.int32]
    at_s: Floats
    prompt_tokens: NDArray[np.float32]
    output_tokens: Mapping[ModelClass, NDArray[np.float32]]
    reasoning_tokens: Mapping[ModelClass, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.turn_index)

    @property
    def conversations(self) -> int:
        """The number of conversations."""
        return len(self.starts) - 1

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Values of turns summed by conversation: `(n,)` gives `(c,)`."""
        if not len(self):
            return np.zeros(0)
        return np.add.reduceat(values, self.starts[:-1], dtype=np.float64)
