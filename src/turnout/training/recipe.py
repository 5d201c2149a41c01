"""The recipe of a fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Model: TypeAlias = Literal["auto", "encoder", "words"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
Tracker: TypeAlias = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Epochs, rates and precision of a run.

    Attributes:
        epochs: Most passes over the training rows; the best epoch's weights are used.
        learning_rate: Peak rate of the encoder; warmed up over a tenth of the steps, then linear
            to zero.
        batch_size: Rows a step, over all processes.
        seed: Decides the head's first weights and the order of rows.
        precision: Of matrix products; `auto` is bfloat16 where machine and encoder have it.
            Weights are float32 always.
        model: `encoder`, or `words` for a linear model on words; `auto` fits both, and the one
            that is better on validation serves.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 16
    seed: int = 0
    precision: Precision = "auto"
    model: Model = "auto"
