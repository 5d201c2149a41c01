"""Shuffled-context augmentation: first messages shown once more after another conversation's turns.

A first message needs the same model after turns that have nothing to do with it. A conversation
router that never sees such rows takes any hard history for a hard request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from turnout.records import Turn
from turnout.samples import DatasetFolder, Samples

# Such rows for every training row (docs/experiments/022-self-distillation.md).
SHUFFLED_SHARE = 0.4
_SPLIT = "train"


class ShuffledContext(NamedTuple):
    """First messages after the turns of another conversation.

    Attributes:
        samples: m rows; label, target and weight are those of the message.
        message_rows: The training row that shows the message by itself, shape `(m,)`.
    """

    samples: Samples
    message_rows: NDArray[np.int64]


def shuffled_context(dataset: DatasetFolder, train: Samples, seed: int) -> ShuffledContext | None:
    """Draw first messages and other conversations' turns, and put the first after the second.

    Args:
        dataset: The data set.
        train: Its training rows.
        seed: Decides which message goes after which turns.

    Returns:
        About `SHUFFLED_SHARE` of the number of training rows; None for a session data set, one
        that keeps no previous turns, and one of fewer than two conversations.

    Raises:
        ArtifactError: If the previous turns cannot be read.
    """
    first = np.flatnonzero(train.turn_indices == 1)
    later = np.flatnonzero(train.turn_indices > 1)
    if dataset.formatter.architecture == "session" or not len(first) or not len(later):
        return None
    n = round(SHUFFLED_SHARE * len(train))
    draw = np.random.default_rng(seed)
    message_rows, context_rows = draw.choice(first, n), draw.choice(later, n)
    conversations = np.asarray(train.conversation_ids, dtype=object)
    others = conversations[message_rows] != conversations[context_rows]
    message_rows, context_rows = message_rows[others], context_rows[others]
    previous = dataset.previous(_SPLIT, context_rows)
    if previous is None:
        return None
    turn_indices = train.turn_indices[context_rows]
    inputs = [
        dataset.formatter.format(
            [*reversed(turns), Turn(train.inputs[row].message)], int(turn_index)
        )
        for row, turn_index, turns in zip(message_rows, turn_indices, previous, strict=True)
    ]
    samples = replace(train.take(message_rows), inputs=inputs, turn_indices=turn_indices)
    return ShuffledContext(samples, message_rows)
