"""The fine-tuning loop: rows in, the best epoch's weights out; knows no encoder and no export."""

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
from turnout.training.words import Words

MAX_GRADIENT_NORM = 1.0
# What is left of the words' share at the last step; it falls evenly.
WORDS_LEFT = 0.5
# Of a row that aims at another's score too: how much of its target that is.
ANSWER_SHARE = 0.5
# Epochs without a lower validation loss before the rest is left out.
PATIENCE_EPOCHS = 1
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
        lengths: What each row costs, shape `(n,)`; rows of like length share a batch.
        logits: From b rows of the split to logits of shape `(b, 2)`, label by label.
        words: What words tell of the n rows, and how much of it they aim at in place of their
            targets, less from step to step. None: nothing.
        answers: Of every row, the row whose score, as it is when the step begins, makes up
            `ANSWER_SHARE` of what it aims at; a row that names itself aims at no score. Shape
            `(n,)`; None: every row does.
    """

    samples: Samples
    lengths: NDArray[np.int64]
    logits: Callable[[NDArray[np.int64]], torch.Tensor]
    words: Words | None = None
    answers: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a fit runs among.

    Attributes:
        processes: The other processes that share every batch.
        checkpoint: Where it keeps how far it is.
        stop: Whether it was told to stop.
        on_progress: Told every step.
        on_metrics: Told what was measured.
    """

    processes: Processes = field(default_factory=Processes)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    stop: StopRequest = field(default_factory=StopRequest)
    on_progress: OnProgress = silent
    on_metrics: OnMetrics = unrecorded


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit gave.

    Attributes:
        epochs: In order.
        rows: Training rows seen since the start or the checkpoint.
        tokens: The lengths of these rows, added up.
        seconds: What that took, validation included.
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
    around: Surroundings | None = None,
) -> Fit:
    """Fit a model in place; it ends with the weights of the best epoch.

    The best epoch is that of least validation loss after calibration. The loss is cross-entropy
    against what a row aims at, weighted by row. The same seed on the same machine gives the same
    weights, also where a run was stopped and went on from its checkpoint, and the same but for
    rounding where several processes share the rows of every batch.

    The model is left in the mode it comes in: in evaluation mode dropout costs nothing, whose
    random numbers take a quarter of a step on a CPU; over few epochs the early stop does its work.

    Args:
        model: On its device; the views' logits come from it.
        optimizer: Of its parameters, as `adamw` makes it.
        train: What it learns from.
        validation: What chooses the epoch; both labels present.
        recipe: Epochs, rows a step, seed.
        around: By default: alone, silent, without checkpoints.

    Raises:
        SettingsError: If the loss diverges.
        StoppedError: If it was told to stop; a checkpoint was written.
        StorageError: If a checkpoint cannot be written.
    """
    return _Fitting(
        model, optimizer, train, validation, recipe, around or Surroundings()
    ).finished()


@dataclass(slots=True)
class _Fitting:
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    train: SplitView
    validation: SplitView
    recipe: Recipe
    around: Surroundings
    progress: Progress = field(default_factory=Progress)
    rows: int = 0
    tokens: int = 0

    def finished(self) -> Fit:
        started = time.monotonic()
        self.progress = self.around.checkpoint.read(self.model, self.optimizer)
        with self.around.stop.held():
            while not self._is_over():
                self._train_epoch()
                self._close_epoch()
        self.around.on_progress("fine-tune", self._steps, self._steps)
        self.model.load_state_dict(self.progress.best)
        return Fit(tuple(self.progress.results), self.rows, self.tokens, time.monotonic() - started)

    @property
    def _steps_an_epoch(self) -> int:
        return math.ceil(len(self.train.lengths) / self.recipe.batch_size)

    @property
    def _steps(self) -> int:
        return self.recipe.epochs * self._steps_an_epoch

    @property
    def _steps_done(self) -> int:
        return (self.progress.epoch - 1) * self._steps_an_epoch + self.progress.step

    def _is_over(self) -> bool:
        over, kept = len(self.progress.results), self.progress.kept
        return over == self.recipe.epochs or (
            kept is not None and over - kept.epoch >= PATIENCE_EPOCHS
        )

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
            self.around.on_progress("fine-tune", self._steps_done, self._steps)
            self.around.on_metrics(self._steps_done, {"train/loss": loss, "train/rate": share})
            if stop:
                self._stop()
            if self.around.checkpoint.due:
                self._keep()

    def _step(self, rows: NDArray[np.int64]) -> tuple[float, bool]:
        """One step on a batch, of which every process takes its share: loss, and whether to stop.

        Divided by rows, not by the batch's weight: a batch of light rows is a light step.
        """
        processes, samples = self.around.processes, self.train.samples
        share = processes.share(rows)
        loss = torch.zeros((), device=processes.device)
        if len(share):
            per_row = _cross_entropy(self.train.logits(share), self._targets(share))
            weight = torch.as_tensor(samples.weights[share], device=per_row.device)  # (b,)
            loss = (per_row * weight).sum() / (len(rows) * float(samples.weights.mean()))
            loss.backward()  # type: ignore[no-untyped-call]
        stop = float(self.around.stop.signal_name is not None)
        sums = torch.stack(
            [loss.detach().double(), torch.tensor(stop, device=loss.device).double()]
        )
        processes.add_up([sums])
        value = _finite(float(sums[0]), self.recipe)
        self._add_up_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value, float(sums[1]) > 0

    def _targets(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What these rows aim at, shape `(b,)`."""
        targets = self.train.samples.targets[rows]
        if self.train.words is not None:
            left = 1 - (1 - WORDS_LEFT) * self._steps_done / self._steps
            told, share = self.train.words.at(rows)
            targets += left * share * (told - targets)
        if self.train.answers is None:
            return targets
        answers = self.train.answers[rows]
        asked = np.flatnonzero(answers != rows)
        if len(asked):
            with torch.no_grad():
                scores = self.train.logits(answers[asked]).float().softmax(1)[:, LABEL_REASONING]
            targets[asked] += ANSWER_SHARE * (scores.cpu().numpy() - targets[asked])
        return targets

    def _add_up_gradients(self) -> None:
        if self.around.processes.count == 1:
            return
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # this process had no row of the batch
                parameter.grad = torch.zeros_like(parameter)
        self.around.processes.add_up([p.grad for p in trained if p.grad is not None])

    def _close_epoch(self) -> None:
        progress = self.progress
        train_loss = progress.loss_sum / len(self.train.lengths)
        result = _epoch_result(
            progress.epoch, train_loss, self._validation_logits(), self.validation.samples
        )
        _finite(result.validation_loss, self.recipe)
        progress.results.append(result)
        if progress.kept is result:
            progress.best = {
                name: value.detach().cpu().clone()
                for name, value in self.model.state_dict().items()
            }
        self.around.on_metrics(
            self._steps_done,
            {
                "epoch/train_loss": result.train_loss,
                "epoch/validation_loss": result.validation_loss,
                "epoch/validation_auroc": result.validation_auroc,
            },
        )
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        self._keep()

    def _validation_logits(self) -> NDArray[np.float32]:
        """Logits of shape `(n, 2)`; every process computes its share of them."""
        processes, lengths = self.around.processes, self.validation.lengths
        found = torch.zeros((len(lengths), 2), device=processes.device)
        with torch.inference_mode():
            for rows in batch_rows(lengths, _VALIDATION_ROWS)[processes.rank :: processes.count]:
                found[torch.from_numpy(rows)] = self.validation.logits(rows).float()
        processes.add_up([found])
        logits: NDArray[np.float32] = found.cpu().numpy()
        return logits

    def _keep(self) -> None:
        if self.around.processes.first:
            self.around.checkpoint.write(self.model, self.optimizer, self.progress)

    def _stop(self) -> None:
        self._keep()
        progress = self.progress
        kept = (
            "no checkpoint is kept here"
            if self.around.checkpoint.path is None
            else ("run the same command again to go on from there")
        )
        raise self.around.stop.error(
            f" in epoch {progress.epoch} after {progress.step} of {self._steps_an_epoch} steps; "
            f"{kept}"
        )


def _cross_entropy(logits: torch.Tensor, targets: NDArray[np.float32]) -> torch.Tensor:
    """Of the soft target, in nats, shape `(b,)`."""
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
