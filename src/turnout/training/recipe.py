"""The recipe of a fine-tuning run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeAlias, get_args

from turnout.errors import SettingsError

MIN_EPOCHS, MAX_EPOCHS = 3, 10
MIN_STEPS = 200
_MOST = 2**32 - 1  # what scikit-learn takes as a seed
Model: TypeAlias = Literal["auto", "encoder", "words"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
Tracker: TypeAlias = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Epochs, rates and precision of a run.

    Attributes:
        epochs: Most passes over the training rows; the best epoch's weights are used. None for as
            many as the rows need, see `epochs_for`.
        learning_rate: Peak rate of the encoder; warmed up over a tenth of the steps, then linear
            to zero.
        batch_size: Rows a step, over all processes.
        seed: Decides the head's first weights and the order of rows.
        precision: Of matrix products; `auto` is bfloat16 where machine and encoder have it.
            Weights are float32 always.
        model: `encoder`, or `words` for a linear model on words; `auto` fits both, and the one
            that is better on validation serves.

    Raises:
        SettingsError: If model, precision, epochs or seed are none of these.
    """

    epochs: int | None = None
    learning_rate: float = 1e-4
    batch_size: int = 16
    seed: int = 0
    precision: Precision = "auto"
    model: Model = "auto"

    def __post_init__(self) -> None:
        for name, choices in (("model", get_args(Model)), ("precision", get_args(Precision))):
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name}: found {getattr(self, name)!r}; expected {', '.join(choices)}."
                )
        for name, least in (("epochs", 1), ("seed", 0)):
            number = getattr(self, name)
            if name == "epochs" and number is None:
                continue
            if not isinstance(number, Integral) or not least <= int(number) <= _MOST:
                raise SettingsError(
                    f"{name}: found {number!r}; expected a whole number from {least} to {_MOST:,}."
                )

    def epochs_for(self, rows: int) -> int:
        """Most passes over so many training rows: 3, or more until there are `MIN_STEPS` steps.

        With few rows three passes are so few steps that the encoder has learned little
        (docs/experiments/038-steps-of-few-rows.md).
        """
        if self.epochs is not None:
            return self.epochs
        steps_an_epoch = math.ceil(rows / self.batch_size)
        return min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(MIN_STEPS / steps_an_epoch)))
