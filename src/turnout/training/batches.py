"""Token ids → padded batches of like length, in a seeded order; knows no model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from turnout.routing.encoding import TokenIds

# Few distinct lengths: the CPU backend keeps a kernel for every shape it has met.
LENGTH_STEP = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of like length.

    Attributes:
        rows: Which rows of the split, shape `(b,)`.
        input_ids: Shape `(b, t)`; `pad_id` where the mask is 0.
        attention_mask: Shape `(b, t)`.
        token_type_ids: Shape `(b, t)`.
    """

    rows: NDArray[np.int64]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor


def batches(
    tokens: Sequence[TokenIds],
    batch_size: int,
    *,
    pad_id: int,
    order: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """Yield every row once, in batches that differ by at most one row.

    Args:
        tokens: n inputs.
        batch_size: Most rows a batch.
        pad_id: Fills ids up to the batch's width.
        order: Shuffles rows of like length and the batches; None keeps the order by length.
    """
    lengths = np.asarray([len(t.ids) for t in tokens])
    buckets = -(-lengths // LENGTH_STEP)
    noise = lengths if order is None else order.random(len(tokens))
    parts = np.array_split(np.lexsort((noise, buckets)), math.ceil(len(tokens) / batch_size))
    for at in range(len(parts)) if order is None else order.permutation(len(parts)):
        # Never wider than the longest input: the encoder may have no position beyond it.
        width = min(buckets[parts[at]].max() * LENGTH_STEP, lengths.max())
        yield _padded(tokens, parts[at], int(width), pad_id)


def _padded(tokens: Sequence[TokenIds], rows: NDArray[np.int64], width: int, pad_id: int) -> Batch:
    ids = np.full((len(rows), width), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for at, row in enumerate(rows):
        n = len(tokens[row].ids)
        ids[at, :n], mask[at, :n], types[at, :n] = tokens[row].ids, 1, tokens[row].type_ids
    return Batch(rows, torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(types))
