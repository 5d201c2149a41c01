"""From a checked data set to the files of a router."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from turnout.errors import SettingsError
from turnout.progress import OnProgress
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import RouterSpec, write_description
from turnout.samples import Samples
from turnout.training.calibration import fit_calibration, fold
from turnout.training.card import write_card
from turnout.training.disk import disk_errors
from turnout.training.encoder import BaseEncoder, Classifier, load_base
from turnout.training.export import check_export, write_model
from turnout.training.loop import Fit, FitContext, SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.precision import quick_attention
from turnout.training.recipe import Recipe
from turnout.training.report import Calibration, TrainReport
from turnout.training.samples import Dataset
from turnout.training.split import TokenisedSplit, logits_of, predict
from turnout.training.tfidf_teacher import TeacherTargets, teacher_targets

DEFAULT_MAX_TOKENS = {"session": 128, "conversation": 192}
MIN_MAX_TOKENS = 16
_PROGRESS_EVERY_ROWS = 256


@dataclass(frozen=True, slots=True)
class FittedRouter:
    """A fine-tuned encoder and what it was fitted on.

    Attributes:
        dataset: Its rows.
        encoder: On the CPU, with the weights of the best epoch, not yet calibrated.
        recipe: How it was fine-tuned.
        reader: How it reads an input.
        train: Tokenised; the rows with shuffled context come last.
        validation: Tokenised.
        teacher_weight: Weight of the TF-IDF teacher when training began.
        fit: Its epochs and speed.
        started_s: When the run began, on the monotonic clock.
    """

    dataset: Dataset
    encoder: BaseEncoder
    recipe: Recipe
    reader: InputEncoder
    train: TokenisedSplit
    validation: TokenisedSplit
    teacher_weight: float
    fit: Fit
    started_s: float


def fit_router(
    dataset: Dataset,
    *,
    base: str | None,
    recipe: Recipe,
    max_tokens: int | None,
    context: FitContext,
) -> FittedRouter:
    """Tokenise and fine-tune; every process of the run does this.

    Raises:
        ArtifactError: If the base, or the checkpoint of an earlier run, cannot be used.
        SettingsError: If the token budget does not suit the encoder, or the loss diverges.
        StoppedError: If it was told to stop.
        StorageError: If a checkpoint cannot be written.
    """
    started_s = time.monotonic()
    encoder = load_base(base, recipe.seed)
    budget = (
        DEFAULT_MAX_TOKENS[dataset.formatter.architecture] if max_tokens is None else max_tokens
    )
    _check_budget(budget, encoder)
    reader = InputEncoder(encoder.tokenizer, budget)
    rows, distilled_from = dataset.train, None
    teacher = None if dataset.measured else teacher_targets(rows, recipe.seed, context.on_progress)
    if dataset.shuffled is not None:
        distilled_from = np.concatenate([np.arange(len(rows)), dataset.shuffled.message_rows])
        teacher = None if teacher is None else teacher.at(distilled_from)
        rows = rows.followed_by(dataset.shuffled.samples)
    train = _tokenised(rows, reader, "tokenise", context.on_progress)
    validation = _tokenised(dataset.validation, reader, "tokenise validation", context.on_progress)
    model = encoder.model.to(context.processes.device)
    optimizer = adamw(model, recipe.learning_rate, encoder.fresh)
    with quick_attention(model, recipe.precision):
        fitted = fit(
            model,
            optimizer,
            _view(model, train, recipe, teacher, distilled_from),
            _view(model, validation, recipe),
            recipe,
            context,
        )
    model.to("cpu")
    weight = 0.0 if teacher is None else teacher.weight
    return FittedRouter(
        dataset, encoder, recipe, reader, train, validation, weight, fitted, started_s
    )


def write_router(fitted: FittedRouter, folder: Path, on_progress: OnProgress) -> TrainReport:
    """Calibrate, export, check and describe a router in `folder`; one process does this.

    Raises:
        ArtifactError: If an exported graph strays from the model.
        StorageError: If a file cannot be written.
    """
    dataset, encoder, reader = fitted.dataset, fitted.encoder, fitted.reader
    calibration = _calibrated(encoder.model, fitted.validation)
    fold(encoder.head, calibration)
    with disk_errors(folder):
        write_model(encoder, folder, reader.max_tokens, on_progress)
    check = check_export(folder, encoder.model, reader, fitted.validation, on_progress)
    report = TrainReport(
        router=folder,
        fresh=True,
        base=encoder.name,
        architecture=dataset.formatter.architecture,
        rows={"train": len(dataset.train), "validation": len(dataset.validation)},
        labelled_rows={
            "train": int(dataset.train.labelled.sum()),
            "validation": int(dataset.validation.labelled.sum()),
        },
        shuffled_rows=len(fitted.train.tokens) - len(dataset.train),
        teacher_weight=fitted.teacher_weight,
        cut_rows=sum(
            tokens.truncated_tokens > 0 for tokens in fitted.train.tokens[: len(dataset.train)]
        ),
        epochs=fitted.fit.epochs,
        calibration=calibration,
        export=check,
        tokens_per_s=round(fitted.fit.tokens / fitted.fit.seconds),
        rows_per_s=round(fitted.fit.rows / fitted.fit.seconds, 1),
        seconds=round(time.monotonic() - fitted.started_s, 1),
    )
    spec = RouterSpec(
        formatter=dataset.formatter,
        max_tokens=reader.max_tokens,
        calibration=asdict(calibration),
        trained_on={"base": encoder.name, "rows": report.rows, "export": asdict(check)},
    )
    write_card(folder, spec, report)
    write_description(folder, spec)
    return report


def _view(
    model: PreTrainedModel,
    split: TokenisedSplit,
    recipe: Recipe,
    teacher: TeacherTargets | None = None,
    distilled_from: NDArray[np.int64] | None = None,
) -> SplitView:
    logits = logits_of(model, split, recipe.precision)
    return SplitView(split.samples, split.lengths, logits, teacher, distilled_from)


def _tokenised(
    samples: Samples, reader: InputEncoder, step: str, on_progress: OnProgress
) -> TokenisedSplit:
    tokens = []
    for row, model_input in enumerate(samples.inputs):
        if row % _PROGRESS_EVERY_ROWS == 0:
            on_progress(step, row, len(samples))
        tokens.append(reader.encode(model_input))
    on_progress(step, len(samples), len(samples))
    return TokenisedSplit(samples, tokens)


def _calibrated(model: Classifier, validation: TokenisedSplit) -> Calibration:
    rows = np.flatnonzero(validation.samples.labelled)
    logits = predict(model, validation, rows)
    return fit_calibration(
        np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST],
        validation.samples.labels[rows] == LABEL_REASONING,
    )


def _check_budget(budget: int, encoder: BaseEncoder) -> None:
    if not MIN_MAX_TOKENS <= budget <= encoder.max_tokens:
        raise SettingsError(
            f"--max-tokens: found {budget}; expected {MIN_MAX_TOKENS} to {encoder.max_tokens}, "
            f"which is what {encoder.name} can read."
        )
