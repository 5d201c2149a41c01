"""A tokenised split, and an encoder's logits of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from turnout.routing.encoding import TokenIds
from turnout.samples import Samples
from turnout.training.batches import batch_rows, padded
from turnout.training.encoder import Classifier, input_names
from turnout.training.precision import autocast
from turnout.training.recipe import Precision

_PREDICT_ROWS = 64


@dataclass(frozen=True, slots=True)
class TokenisedSplit:
    """A split as the encoder reads it; `tokens[i]` belongs to row i of `samples`."""

    samples: Samples
    tokens: Sequence[TokenIds]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every row, shape `(n,)`."""
        return np.asarray([len(t.ids) for t in self.tokens], np.int64)

    def tokens_of(self, rows: NDArray[np.int64]) -> list[TokenIds]:
        """The tokens of some rows, in their order."""
        return [self.tokens[int(row)] for row in rows]


def logits_of(
    model: Classifier, split: TokenisedSplit, precision: Precision
) -> Callable[[NDArray[np.int64]], torch.Tensor]:
    """A function from b rows of the split to their logits of shape `(b, 2)`."""
    names = input_names(model)
    pad_id = model.config.pad_token_id or 0
    longest = int(split.lengths.max())

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        batch = padded(split.tokens_of(rows), pad_id, longest)
        inputs = {name: getattr(batch, name).to(model.device) for name in names}
        with autocast(model.device, precision):
            output: torch.Tensor = model(**inputs).logits
        return output

    return logits


def predict(
    model: Classifier, split: TokenisedSplit, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Logits of some rows in float32, shape `(len(rows), 2)`, in their order."""
    logits = logits_of(model, split, "float32")
    predicted = np.zeros((len(rows), 2), np.float32)
    with torch.inference_mode():
        for places in batch_rows(split.lengths[rows], _PREDICT_ROWS):
            predicted[places] = logits(rows[places]).cpu().numpy()
    return predicted
