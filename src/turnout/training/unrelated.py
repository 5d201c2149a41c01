"""First messages shown again after another conversation; knows no model and no tokenizer.

A first message asks for itself: it needs the same after turns that have nothing to do with it. A
conversation router that is never shown such rows takes any hard history for a hard request. Such
rows aim at the message's label and, as repeating it was measured to cost, as much at what the
router itself says of the message alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from turnout.records import Turn
from turnout.samples import DatasetFolder, Samples

# Such rows beside every training row (docs/experiments/022-self-distillation.md).
UNRELATED_SHARE = 0.4
_SPLIT = "train"


class Unrelated(NamedTuple):
    """First messages in the place of another conversation's message.

    Attributes:
        samples: m rows; label, target and weight are those of the message.
        messages: The training row that shows the message by itself, shape `(m,)`.
    """

    samples: Samples
    messages: NDArray[np.int64]


def after_unrelated_turns(found: DatasetFolder, train: Samples, seed: int) -> Unrelated | None:
    """Show first messages once more, after turns that have nothing to do with them.

    Args:
        found: The data set.
        train: Its training rows.
        seed: Decides who meets whom.

    Returns:
        `UNRELATED_SHARE` of the number of training rows; None for a session data set, one that
        keeps no previous turns, and one of fewer than two conversations.

    Raises:
        ArtifactError: If the previous turns cannot be read.
    """
    first = np.flatnonzero(train.turn_indices == 1)
    later = np.flatnonzero(train.turn_indices > 1)
    if found.formatter.architecture == "session" or not len(first) or not len(later):
        return None
    n = round(UNRELATED_SHARE * len(train))
    draw = np.random.default_rng(seed)
    messages, places = draw.choice(first, n), draw.choice(later, n)
    owners = np.asarray(train.conversation_ids, dtype=object)
    others = owners[messages] != owners[places]
    messages, places = messages[others], places[others]
    previous = found.previous(_SPLIT, places)
    if previous is None:
        return None
    return Unrelated(_replaced(found, train, messages, places, previous), messages)


def _replaced(
    found: DatasetFolder,
    train: Samples,
    messages: NDArray[np.int64],
    places: NDArray[np.int64],
    previous: list[tuple[Turn, ...]],
) -> Samples:
    turn_indices = train.turn_indices[places]
    shown = zip(messages, turn_indices, previous, strict=True)
    return replace(
        train.at(messages),
        inputs=[
            found.formatter.format([*reversed(turns), Turn(train.inputs[row].message)], int(index))
            for row, index, turns in shown
        ],
        turn_indices=turn_indices,
    )
