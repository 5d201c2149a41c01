"""The report of a training run, and its form in the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from turnout.records import Architecture


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The result of one epoch.

    Attributes:
        epoch: 1-based.
        train_loss: Mean weighted cross-entropy in nats.
        validation_loss: The same on validation, after the best calibration for that epoch.
        validation_auroc: Area under ROC for the reasoning class, labelled rows only.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_auroc: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """p = σ(scale · margin + bias), where margin = logit(reasoning) − logit(fast).

    Attributes:
        method: `temperature` (scale alone) or `platt` (scale and bias).
        scale: > 0, so that the order of scores never changes.
        bias: In nats.
        n: Labelled validation rows it was fitted on.
        ece_before: Expected calibration error in [0, 1] of the raw probabilities.
        ece_after: The same after fitting, on the same rows: an optimistic number.
    """

    method: Literal["temperature", "platt"]
    scale: float
    bias: float
    n: int
    ece_before: float
    ece_after: float


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """How far the exported graphs are from the model, on validation rows.

    Attributes:
        float_rows: Rows the float graph was compared on.
        float_difference: Largest |Δ p_reasoning| over them.
        int8_rows: Labelled rows the int8 graph was compared on.
        int8_difference: Largest |Δ p_reasoning| over them.
        auroc_float: The model's, on the same rows.
        auroc_int8: The int8 graph's.
        binding: Whether the rows were enough to hold the int8 graph to its allowed loss.
        int8_bytes: Size of the int8 graph.
    """

    float_rows: int
    float_difference: float
    int8_rows: int
    int8_difference: float
    auroc_float: float
    auroc_int8: float
    binding: bool
    int8_bytes: int


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The result of a training run.

    Attributes:
        router: The folder.
        fresh: False where the router was already there, made from the same inputs.
        base: The encoder that was fine-tuned.
        architecture: `session` or `conversation`.
        rows: Split → rows in it.
        labelled_rows: Split → rows that carry a label.
        shuffled_rows: First messages shown once more after the turns of another conversation.
        teacher_weight: Weight of the TF-IDF teacher in what rows aim at when training begins, in
            [0, 1]; 0 where TF-IDF explains the labels well, or there was no teacher.
        cut_rows: Training rows with text beyond the token budget.
        epochs: In order; the router has the weights of the one with the least validation loss.
        calibration: Folded into the weights.
        export: The graphs beside the model.
        tokens_per_s: Training tokens a second, validation included.
        rows_per_s: Training rows a second, validation included.
        seconds: The whole run.
    """

    router: Path
    fresh: bool
    base: str
    architecture: Architecture
    rows: Mapping[str, int]
    labelled_rows: Mapping[str, int]
    shuffled_rows: int
    teacher_weight: float
    cut_rows: int
    epochs: tuple[EpochResult, ...]
    calibration: Calibration
    export: ExportCheck
    tokens_per_s: int
    rows_per_s: float
    seconds: float

    @property
    def best_epoch(self) -> EpochResult:
        """The epoch whose weights the router has."""
        return min(self.epochs, key=lambda result: result.validation_loss)

    def to_json(self) -> dict[str, Any]:
        """Everything but `router` and `fresh`."""
        stored = asdict(self)
        del stored["router"], stored["fresh"]
        return stored

    @classmethod
    def from_json(cls, router: Path, stored: Mapping[str, Any]) -> TrainReport:
        """The report of an earlier run, as `to_json` stored it."""
        nested = {
            "epochs": tuple(EpochResult(**epoch) for epoch in stored["epochs"]),
            "calibration": Calibration(**stored["calibration"]),
            "export": ExportCheck(**stored["export"]),
        }
        return cls(router=router, fresh=False, **{**stored, **nested})
