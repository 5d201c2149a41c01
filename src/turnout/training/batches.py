"""Batches of rows of similar length, in a seeded order, padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from turnout.routing.encoding import TokenIds

# Few distinct lengths: the CPU backend keeps a kernel for every shape.
LENGTH_STEP = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of similar length.

    Attributes:
        input_ids: Shape `(b, t)`; `pad_id` where the mask is 0.
        attention_mask: Shape `(b, t)`.
        token_type_ids: Shape `(b, t)`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor


def batch_rows(
    lengths: NDArray[np.int64], batch_size: int, order: np.random.Generator | None = None
) -> list[NDArray[np.int64]]:
    """Every row once, in batches of similar length whose sizes differ by at most one.

    Args:
        lengths: Tokens of each of n rows, shape `(n,)`.
        batch_size: Most rows a batch.
        order: Shuffles rows of similar length, and the batches; None keeps the order by length.
    """
    noise = lengths if order is None else order.random(len(lengths))
    by_length = np.lexsort((noise, -(-lengths // LENGTH_STEP)))
    parts = np.array_split(by_length, math.ceil(len(lengths) / batch_size))
    if order is None:
        return parts
    return [parts[place] for place in order.permutation(len(parts))]


def padded(tokens: Sequence[TokenIds], pad_id: int, longest: int) -> Batch:
    """One batch of inputs, `pad_id` up to a width that is a multiple of `LENGTH_STEP`.

    Args:
        tokens: b inputs.
        pad_id: Fills ids up to the batch's width.
        longest: Never wider than this: the encoder may have no position beyond it.
    """
    width = max(len(t.ids) for t in tokens)
    width = max(width, min(-(-width // LENGTH_STEP) * LENGTH_STEP, longest))
    ids = np.full((len(tokens), width), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, encoded in enumerate(tokens):
        n = len(encoded.ids)
        ids[row, :n], mask[row, :n], types[row, :n] = encoded.ids, 1, encoded.type_ids
    return Batch(*map(torch.from_numpy, (ids, mask, types)))
