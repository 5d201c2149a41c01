"""Which turns' messages are said again in the turn after, repeated or rephrased; knows no vote."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
from rapidfuzz import fuzz, process, utils

from turnout.engine import batches
from turnout.schema import TURN_KEYS, TURNS

# Two messages are one request said again from this likeness on, of 100: words in any order, so that
# a rephrased one counts.
_SAME_REQUEST = 75
# Very short messages ("yes", "no") are alike by chance.
_SHORT_CHARS = 12
# Comparing is quadratic: longer messages are compared by their beginnings.
_COMPARED_CHARS = 400


def said_again(turns: ibis.Table, asked: ibis.Value, backend: ibis.BaseBackend) -> pa.Table:
    """The conversation and index of the turns that are said again.

    Args:
        turns: A turns table.
        asked: Whether to compare a turn with the next.
        backend: Where it is computed.
    """
    message = turns.user_message
    long = turns.mutate(asked=asked).filter(message.length() >= _SHORT_CHARS)
    texts = long.select(*TURN_KEYS, "asked", text=long.user_message.left(_COMPARED_CHARS))
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    near = texts.mutate(
        following=texts.text.lead().over(in_order),
        next_index=texts.turn_index.lead().over(in_order),
    )
    pairs = near.filter(near.asked, near.next_index == near.turn_index + 1)
    schema = pa.schema([TURNS.field(name) for name in TURN_KEYS])
    found = [
        batch.select(TURN_KEYS)
        .filter(pa.array(_alike(batch["text"], batch["following"])))
        .cast(schema)
        for batch in batches(backend, pairs.select(*TURN_KEYS, "text", "following"))
    ]
    return pa.Table.from_batches(found, schema).combine_chunks()


def _alike(these: pa.Array, following: pa.Array) -> np.ndarray:
    likeness = process.cpdist(
        *(
            [utils.default_process(text) for text in texts.to_pylist()]
            for texts in (these, following)
        ),
        scorer=fuzz.token_sort_ratio,
        score_cutoff=_SAME_REQUEST,
    )
    return np.asarray(likeness) >= _SAME_REQUEST
