"""The fine-tuning loop: rows in, the weights of the best epoch out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from turnout.errors import SettingsError
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.samples import Samples
from turnout.training.batches import batch_rows
from turnout.training.calibration import refined_loss
from turnout.training.checkpoint import Checkpoint, Progress
from turnout.training.optimizer import set_rate
from turnout.training.processes import Processes
from turnout.training.recipe import Recipe
from turnout.training.report import EpochResult
from turnout.training.stopping import StopRequest
from turnout.training.tfidf_teacher import TeacherTargets

MAX_GRADIENT_NORM = 1.0
# The teacher's weight at the last step, as a share of its first weight; it falls linearly.
FINAL_TEACHER_WEIGHT = 0.5
# Share of the router's own score in the target of a row that is self-distilled.
SELF_DISTILLATION_WEIGHT = 0.5
# Share of the epochs that may pass without a lower validation loss before training ends.
PATIENCE_SHARE = 1 / 3
_VALIDATION_ROWS = 64

OnMetrics: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Called with the number of steps done and what was measured there."""


def unrecorded(step: int, metrics: Mapping[str, float]) -> None:
    """Record nothing."""


@dataclass(frozen=True, slots=True)
class SplitView:
    """A split as the loop sees it, whatever the model is.

    Attributes:
        samples: Targets, weights and labels, n rows.
        lengths: Tokens of each row, shape `(n,)`; rows of similar length share a batch.
        logits: From b row numbers to logits of shape `(b, 2)`, in the order of the labels.
        teacher: Targets of a teacher, mixed with the rows' own by its weight, which falls from
            step to step. None: the rows' own alone.
        distilled_from: For every row, the row whose current score makes up
            `SELF_DISTILLATION_WEIGHT` of its target; its own number for no self-distillation.
            Shape `(n,)`; None: no row is self-distilled.
    """

    samples: Samples
    lengths: NDArray[np.int64]
    logits: Callable[[NDArray[np.int64]], torch.Tensor]
    teacher: TeacherTargets | None = None
    distilled_from: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class FitContext:
    """Where a fit runs and whom it reports to.

    Attributes:
        processes: The other processes that share every batch.
        checkpoint: Where progress is saved.
        stop: Whether a signal asked to stop.
        on_progress: Called every step.
        on_metrics: Called with what was measured.
    """

    processes: Processes = field(default_factory=Processes)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    stop: StopRequest = field(default_factory=StopRequest)
    on_progress: OnProgress = silent
    on_metrics: OnMetrics = unrecorded


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a fit.

    Attributes:
        epochs: In order.
        rows: Training rows seen since the start or the checkpoint.
        tokens: Tokens of these rows.
        seconds: Time for these rows, validation included.
    """

    epochs: tuple[EpochResult, ...]
    rows: int
    tokens: int
    seconds: float


def fit(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: SplitView,
    validation: SplitView,
    recipe: Recipe,
    context: FitContext | None = None,
) -> Fit:
    """Fit a model in place; it ends with the weights of the best epoch.

    The best epoch has the least validation loss after calibration. The loss is cross-entropy
    against soft targets, weighted by row. The same seed on the same machine gives the same weights,
    also where a run was stopped and resumed, and the same up to rounding where several processes
    share the rows of every batch.

    The model keeps its mode. In evaluation mode there is no dropout, whose random numbers take a
    quarter of a step on a CPU; over few epochs early stopping regularises enough.

    Args:
        model: On its device; the views' logits come from it.
        optimizer: Of its parameters, as `adamw` makes it.
        train: Rows to learn from.
        validation: Rows that choose the epoch; both labels present.
        recipe: Epochs, batch size, seed.
        context: By default: one process, silent, without checkpoints.

    Raises:
        SettingsError: If the loss diverges.
        StoppedError: If a signal asked to stop; a checkpoint was written.
        StorageError: If a checkpoint cannot be written.
    """
    return _Fitting(model, optimizer, train, validation, recipe, context or FitContext()).finished()


@dataclass(slots=True)
class _Fitting:
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    train: SplitView
    validation: SplitView
    recipe: Recipe
    context: FitContext
    progress: Progress = field(default_factory=Progress)
    rows: int = 0
    tokens: int = 0

    def finished(self) -> Fit:
        started = time.monotonic()
        self.progress = self.context.checkpoint.read(self.model, self.optimizer)
        with self.context.stop.held():
            while not self._is_over():
                self._train_epoch()
                self._close_epoch()
        self.context.on_progress("fine-tune", self._steps, self._steps)
        self.model.load_state_dict(self.progress.best_weights)
        return Fit(tuple(self.progress.results), self.rows, self.tokens, time.monotonic() - started)

    @property
    def _epochs(self) -> int:
        return self.recipe.epochs_for(len(self.train.lengths))

    @property
    def _steps_an_epoch(self) -> int:
        return math.ceil(len(self.train.lengths) / self.recipe.batch_size)

    @property
    def _steps(self) -> int:
        return self._epochs * self._steps_an_epoch

    @property
    def _steps_done(self) -> int:
        return (self.progress.epoch - 1) * self._steps_an_epoch + self.progress.step

    def _is_over(self) -> bool:
        done, best = len(self.progress.results), self.progress.best_epoch
        patience = max(1, round(PATIENCE_SHARE * self._epochs))
        return done == self._epochs or (best is not None and done - best.epoch >= patience)

    def _train_epoch(self) -> None:
        # An order of its own for every epoch: a resumed run needs no state of the generator.
        order = np.random.default_rng([self.recipe.seed, self.progress.epoch])
        batches = batch_rows(self.train.lengths, self.recipe.batch_size, order)
        for rows in batches[self.progress.step :]:
            share = set_rate(self.optimizer, self._steps_done, self._steps)
            loss, stop = self._step(rows)
            self.progress.loss_sum += loss * len(rows)
            self.progress.step += 1
            self.rows += len(rows)
            self.tokens += int(self.train.lengths[rows].sum())
            self.context.on_progress("fine-tune", self._steps_done, self._steps)
            self.context.on_metrics(self._steps_done, {"train/loss": loss, "train/rate": share})
            if stop:
                self._stop()
            if self.context.checkpoint.due:
                self._save()

    def _step(self, rows: NDArray[np.int64]) -> tuple[float, bool]:
        """One step on a batch, shared by all processes: its loss, and whether to stop.

        The loss is divided by rows, not by the batch's weight, so that a batch of light rows makes
        a small step.
        """
        processes, samples = self.context.processes, self.train.samples
        share = processes.share(rows)
        loss = torch.zeros((), device=processes.device)
        if len(share):
            per_row = _cross_entropy(self.train.logits(share), self._targets(share))
            weight = torch.as_tensor(samples.weights[share], device=per_row.device)  # (b,)
            loss = (per_row * weight).sum() / (len(rows) * float(samples.weights.mean()))
            loss.backward()  # type: ignore[no-untyped-call]
        stop = float(self.context.stop.signal_name is not None)
        sums = torch.stack(
            [loss.detach().double(), torch.tensor(stop, device=loss.device).double()]
        )
        processes.sum_tensors([sums])
        value = _finite(float(sums[0]), self.recipe)
        self._sum_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value, float(sums[1]) > 0

    def _targets(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Soft targets of these rows at this step, shape `(b,)`."""
        targets = self.train.samples.targets[rows]
        teacher, distilled_from = self.train.teacher, self.train.distilled_from
        if teacher is not None:
            decay = 1 - (1 - FINAL_TEACHER_WEIGHT) * self._steps_done / self._steps
            targets += decay * teacher.weight * (teacher.predictions[rows] - targets)
        if distilled_from is None:
            return targets
        sources = distilled_from[rows]
        distilled = np.flatnonzero(sources != rows)
        if len(distilled):
            with torch.no_grad():
                logits = self.train.logits(sources[distilled]).float()
            scores = logits.softmax(1)[:, LABEL_REASONING].cpu().numpy()
            targets[distilled] += SELF_DISTILLATION_WEIGHT * (scores - targets[distilled])
        return targets

    def _sum_gradients(self) -> None:
        if self.context.processes.count == 1:
            return
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # this process had no row of the batch
                parameter.grad = torch.zeros_like(parameter)
        self.context.processes.sum_tensors([p.grad for p in trained if p.grad is not None])

    def _close_epoch(self) -> None:
        progress = self.progress
        train_loss = progress.loss_sum / len(self.train.lengths)
        result = _epoch_result(
            progress.epoch, train_loss, self._validation_logits(), self.validation.samples
        )
        _finite(result.validation_loss, self.recipe)
        progress.results.append(result)
        if progress.best_epoch is result:
            progress.best_weights = {
                name: value.detach().cpu().clone()
                for name, value in self.model.state_dict().items()
            }
        self.context.on_metrics(
            self._steps_done,
            {
                "epoch/train_loss": result.train_loss,
                "epoch/validation_loss": result.validation_loss,
                "epoch/validation_auroc": result.validation_auroc,
            },
        )
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        self._save()

    def _validation_logits(self) -> NDArray[np.float32]:
        """Logits of shape `(n, 2)`; every process computes its share of them."""
        processes, lengths = self.context.processes, self.validation.lengths
        shared = torch.zeros((len(lengths), 2), device=processes.device)
        with torch.inference_mode():
            for rows in batch_rows(lengths, _VALIDATION_ROWS)[processes.rank :: processes.count]:
                shared[torch.from_numpy(rows)] = self.validation.logits(rows).float()
        processes.sum_tensors([shared])
        logits: NDArray[np.float32] = shared.cpu().numpy()
        return logits

    def _save(self) -> None:
        if self.context.processes.first:
            self.context.checkpoint.write(self.model, self.optimizer, self.progress)

    def _stop(self) -> None:
        self._save()
        progress = self.progress
        advice = (
            "there is no checkpoint to go on from"
            if self.context.checkpoint.path is None
            else "run the same command again to go on from there"
        )
        raise self.context.stop.error(
            f" in epoch {progress.epoch} after {progress.step} of {self._steps_an_epoch} steps; "
            f"{advice}"
        )


def _cross_entropy(logits: torch.Tensor, targets: NDArray[np.float32]) -> torch.Tensor:
    """Cross-entropy against soft targets, in nats, shape `(b,)`."""
    reasoning = torch.as_tensor(targets, device=logits.device)  # (b,)
    target = torch.zeros_like(logits, dtype=torch.float32)  # (b, 2)
    target[:, LABEL_REASONING] = reasoning
    target[:, LABEL_FAST] = 1 - reasoning
    return torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")


def _finite(loss: float, recipe: Recipe) -> float:
    if not math.isfinite(loss):
        raise SettingsError(
            f"--learning-rate: with {recipe.learning_rate:g} the loss became {loss}; expected it "
            "to stay finite. Choose a lower rate."
        )
    return loss


def _epoch_result(
    epoch: int, train_loss: float, logits: NDArray[np.float32], validation: Samples
) -> EpochResult:
    margins = np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST]  # (n,)
    if not np.isfinite(margins).all():
        return EpochResult(epoch, train_loss, math.nan, math.nan)
    loss = refined_loss(
        margins, validation.targets.astype(np.float64), validation.weights.astype(np.float64)
    )
    labelled = validation.labelled
    needs_reasoning = validation.labels[labelled] == LABEL_REASONING
    return EpochResult(
        epoch, train_loss, loss, float(roc_auc_score(needs_reasoning, margins[labelled]))
    )
