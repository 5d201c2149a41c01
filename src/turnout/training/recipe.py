"""How to fine-tune; knows no data and no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
Tracker: TypeAlias = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fine-tune.

    Attributes:
        epochs: Passes over the training rows, at most; the best one is kept.
        learning_rate: Peak rate of the encoder; warmed up over a tenth of the steps, then linear
            to zero.
        batch_size: Rows a step, over all processes.
        seed: Decides the head's start and the order of rows.
        precision: What matrices are multiplied in; `auto` takes bfloat16 where the machine
            multiplies it itself. Weights are float32 always.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 16
    seed: int = 0
    precision: Precision = "auto"
