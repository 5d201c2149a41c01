"""The report of a training run, and its form in the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from turnout.records import Architecture
from turnout.training.choice import ModelChoice, Served

WORDS_NAME = "linear model on words"


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
class Int8Check:
    """An int8 graph compared with the model on labelled validation rows.

    Attributes:
        products: Matrix products by weights in the graph.
        float_products: Those of them that were left in float32.
        rows: Rows compared.
        largest_difference: Largest |Δ p_reasoning|.
        mean_difference: Mean |Δ p_reasoning|.
        auroc: The graph's.
        accepted: Whether it is close enough to serve.
    """

    products: int
    float_products: int
    rows: int
    largest_difference: float
    mean_difference: float
    auroc: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """The exported graphs compared with the model on validation rows.

    Attributes:
        float_rows: Rows the float graph was compared on.
        float_difference: Largest |Δ p_reasoning| over them.
        auroc_float: The model's, on the labelled rows.
        judged_by_auroc: Whether there were enough labelled rows to bound the loss of AUROC too.
        int8: Every int8 graph that was tried, in order; the last one serves if it was accepted.
            Empty where ONNX Runtime cannot quantise the graph.
        served_bytes: Size of the graph that serves.
    """

    float_rows: int
    float_difference: float
    auroc_float: float
    judged_by_auroc: bool
    int8: tuple[Int8Check, ...]
    served_bytes: int

    @property
    def serves(self) -> Literal["int8", "float32"]:
        """The graph that serves."""
        return "int8" if self.int8 and self.int8[-1].accepted else "float32"

    @property
    def int8_text(self) -> str:
        """Which graph serves, and how close to the model the int8 graph is."""
        if not self.int8:
            return "none: ONNX Runtime cannot quantise this encoder; model.onnx (float32) serves"
        last = self.int8[-1]
        close = (
            f"AUROC {last.auroc:.4f} against {self.auroc_float:.4f} in float32, mean difference "
            f"{last.mean_difference:.4f} ({last.rows:,} rows)"
        )
        if self.serves == "float32":
            return f"none: too far from the model ({close}); model.onnx (float32) serves"
        if last.float_products:
            close += f"; {last.float_products} of {last.products} matrix products stay in float32"
        return f"{close}; {self.served_bytes / 1e6:.1f} MB"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ExportCheck:
        """A check as the manifest keeps it."""
        return cls(**{**stored, "int8": tuple(Int8Check(**check) for check in stored["int8"])})


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The result of a training run.

    Attributes:
        router: The folder.
        fresh: False where the router was already there, made from the same inputs.
        model: What serves.
        choice: How it was chosen; None where only one was fitted.
        base: The encoder that was fine-tuned; for a linear model alone, the one whose tokenizer it
            has.
        architecture: `session` or `conversation`.
        rows: Split → rows in it.
        labelled_rows: Split → rows that carry a label.
        shuffled_rows: First messages shown once more after the turns of another conversation.
        teacher_weight: Weight of the TF-IDF teacher in what rows aim at when training begins, in
            [0, 1]; 0 where TF-IDF explains the labels well, or there was no teacher.
        cut_rows: Training rows with text beyond the token budget.
        epochs: In order; the encoder has the weights of the one with the least validation loss.
            Empty where no encoder was fine-tuned.
        calibration: Folded into the weights.
        export: The graphs beside the weights.
        precision: Of the matrix products in training.
        without_bfloat16: Whether the machine has bfloat16 and the encoder does not run in it.
        tokens_per_s: Training tokens a second, validation included.
        rows_per_s: Training rows a second, validation included.
        seconds: The whole run.
    """

    router: Path
    fresh: bool
    model: Served
    choice: ModelChoice | None
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
    precision: Literal["float32", "bfloat16"]
    without_bfloat16: bool
    tokens_per_s: int
    rows_per_s: float
    seconds: float

    @property
    def best_epoch(self) -> EpochResult:
        """The epoch whose weights the router has."""
        return min(self.epochs, key=lambda result: result.validation_loss)

    @property
    def precision_text(self) -> str:
        """The precision of training, and why it is not bfloat16 where the machine has that."""
        if self.without_bfloat16:
            return f"{self.precision}: the encoder does not run in bfloat16"
        return self.precision

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
            "export": ExportCheck.from_json(stored["export"]),
            "choice": stored["choice"] and ModelChoice.from_json(stored["choice"]),
        }
        return cls(router=router, fresh=False, **{**stored, **nested})
