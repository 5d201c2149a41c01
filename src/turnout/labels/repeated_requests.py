"""Finds turns whose request the next turn repeats or rephrases."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
from rapidfuzz import fuzz, process, utils

from turnout.engine import batches
from turnout.schema import TURN_KEYS, TURNS

# Messages of at least this similarity, of 100, are the same request. Word order is ignored, so that
# a rephrased request counts.
_SAME_REQUEST = 75
# Very short messages ("yes", "no") are similar by chance.
_SHORT_CHARS = 12
# Comparing takes quadratic time, so only the beginnings of longer messages are compared.
_COMPARED_CHARS = 400


def repeated_requests(
    turns: ibis.Table, compared: ibis.Value, backend: ibis.BaseBackend
) -> pa.Table:
    """The conversation and index of the turns whose request the next turn repeats.

    Args:
        turns: A turns table.
        compared: Whether to compare a turn with the next.
        backend: Where it is computed.
    """
    message = turns.user_message
    long = turns.mutate(compared=compared).filter(message.length() >= _SHORT_CHARS)
    texts = long.select(*TURN_KEYS, "compared", text=long.user_message.left(_COMPARED_CHARS))
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    near = texts.mutate(
        following=texts.text.lead().over(in_order),
        next_index=texts.turn_index.lead().over(in_order),
    )
    pairs = near.filter(near.compared, near.next_index == near.turn_index + 1)
    schema = pa.schema([TURNS.field(name) for name in TURN_KEYS])
    repeated = [
        batch.select(TURN_KEYS)
        .filter(pa.array(_similar(batch["text"], batch["following"])))
        .cast(schema)
        for batch in batches(backend, pairs.select(*TURN_KEYS, "text", "following"))
    ]
    return pa.Table.from_batches(repeated, schema).combine_chunks()


def _similar(texts: pa.Array, following: pa.Array) -> np.ndarray:
    similarity = process.cpdist(
        *(
            [utils.default_process(text) for text in side.to_pylist()]
            for side in (texts, following)
        ),
        scorer=fuzz.token_sort_ratio,
        score_cutoff=_SAME_REQUEST,
    )
    return np.asarray(similarity) >= _SAME_REQUEST
