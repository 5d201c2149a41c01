"""Token ids → padded batches of like length, in a seeded order; knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from turnout.routing.encoding import TokenIds

# Few distinct lengths: the CPU backend keeps a kernel for every shape it has met.
LENGTH_STEP = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of like length.

    Attributes:
        rows: Which rows of the split, shape `(b,)`.
        inputs: `input_ids`, `attention_mask` and, for BERT, `token_type_ids`; shape `(b, t)`.
    """

    rows: torch.Tensor
    inputs: dict[str, torch.Tensor]


def batches(
    tokens: Sequence[TokenIds],
    batch_size: int,
    *,
    pad_id: int,
    input_names: frozenset[str],
    order: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """Yield every row once.

    Args:
        tokens: n inputs.
        batch_size: Rows a batch; the last one may be shorter.
        pad_id: Fills up ids.
        input_names: What the model takes.
        order: Shuffles rows of like length and the batches; None keeps the order by length.
    """
    lengths = np.asarray([len(t.ids) for t in tokens])
    buckets = -(-lengths // LENGTH_STEP)
    noise = order.random(len(tokens)) if order is not None else lengths / 1e6
    by_length = np.lexsort((noise, buckets))
    starts = np.arange(0, len(tokens), batch_size)
    if order is not None:
        order.shuffle(starts)
    for start in starts:
        rows = by_length[start : start + batch_size]
        width = int(buckets[rows].max()) * LENGTH_STEP
        yield Batch(torch.as_tensor(rows), _padded(tokens, rows, width, pad_id, input_names))


def _padded(
    tokens: Sequence[TokenIds],
    rows: np.ndarray,
    width: int,
    pad_id: int,
    input_names: frozenset[str],
) -> dict[str, torch.Tensor]:
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros_like(ids)
    types = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        n = len(tokens[row].ids)
        ids[at, :n] = torch.as_tensor(tokens[row].ids)
        mask[at, :n] = 1
        types[at, :n] = torch.as_tensor(tokens[row].type_ids)
    named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: value for name, value in named.items() if name in input_names}
