"""From a checked data set to the files of a router."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from turnout.errors import SettingsError
from turnout.progress import OnProgress
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS, RouterSpec, write_description
from turnout.routing.scorer import reasoning_probability
from turnout.samples import Samples
from turnout.training.calibration import fit_calibration, fold
from turnout.training.card import write_card
from turnout.training.choice import ModelChoice, choose_model
from turnout.training.disk import disk_errors
from turnout.training.encoder import BaseEncoder, Classifier, load_base
from turnout.training.export import (
    KNOWN_TO_EXPORT,
    check_exportable,
    check_float_graph,
    write_float_graph,
    write_model,
)
from turnout.training.linear import MAX_TOKENS as WORDS_MAX_TOKENS
from turnout.training.linear_card import write_words_card
from turnout.training.linear_router import FittedWords, fit_words, refit_words, write_words_graph
from turnout.training.loop import Fit, FitContext, SplitView, fit
from turnout.training.memory import require_memory, training_bytes
from turnout.training.optimizer import adamw
from turnout.training.precision import (
    has_bfloat16,
    quick_attention,
    trains_in_bfloat16,
)
from turnout.training.quantisation import quantise
from turnout.training.recipe import Recipe
from turnout.training.reference import write_traffic_reference
from turnout.training.report import WORDS_NAME, Calibration, ExportCheck, TrainReport
from turnout.training.samples import Dataset
from turnout.training.split import TokenisedSplit, logits_of, predict
from turnout.training.tfidf_teacher import MIN_ROWS, TeacherTargets, out_of_fold_targets

DEFAULT_MAX_TOKENS = {"session": 128, "conversation": 192}
MIN_MAX_TOKENS = 16
_PROGRESS_EVERY_ROWS = 256
_EXPORT_STEPS = 3


@dataclass(frozen=True, slots=True)
class FittedRouter:
    """A fine-tuned encoder and what it was fitted on.

    Attributes:
        dataset: Its rows.
        encoder: On the CPU, with the weights of the best epoch, not yet calibrated.
        recipe: How it was fine-tuned; its precision is `float32` or `bfloat16`.
        without_bfloat16: Whether the machine has bfloat16 and the encoder does not run in it.
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
    without_bfloat16: bool
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
        SettingsError: If token budget, precision or memory do not suffice, or the loss diverges.
        StoppedError: If a signal asked to stop.
        StorageError: If a checkpoint cannot be written.
    """
    started_s = time.monotonic()
    encoder = load_base(base, recipe.seed)
    budget = max_tokens
    if budget is None:
        budget = min(DEFAULT_MAX_TOKENS[dataset.formatter.architecture], encoder.max_tokens)
    _check_budget(budget, encoder)
    reader = InputEncoder(encoder.tokenizer, budget)
    if not context.processes.on_gpu:
        require_memory(
            training_bytes(encoder.model, -(-recipe.batch_size // context.processes.count), budget),
            "lower --batch-size or --max-tokens, or choose a smaller base",
        )
    rows, distilled_from = dataset.train, None
    teacher = teacher_of(dataset, recipe.seed, context.on_progress)
    if dataset.shuffled is not None:
        distilled_from = np.concatenate([np.arange(len(rows)), dataset.shuffled.message_rows])
        teacher = None if teacher is None else teacher.of_rows(distilled_from)
        rows = rows.followed_by(dataset.shuffled.samples)
    train = _tokenised(rows, reader, "tokenise", context.on_progress)
    validation = _tokenised(dataset.validation, reader, "tokenise validation", context.on_progress)
    if encoder.model.config.model_type not in KNOWN_TO_EXPORT:
        with tempfile.TemporaryDirectory() as folder:
            check_exportable(encoder, reader, validation, Path(folder))
    model = encoder.model.to(context.processes.device)
    recipe, without_bfloat16 = _with_known_precision(model, train, recipe)
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
        dataset,
        encoder,
        recipe,
        without_bfloat16,
        reader,
        train,
        validation,
        weight,
        fitted,
        started_s,
    )


def teacher_of(dataset: Dataset, seed: int, on_progress: OnProgress) -> TeacherTargets | None:
    """The TF-IDF teacher of the training rows; None where they are few or measured."""
    if dataset.measured or len(dataset.train) < MIN_ROWS:
        return None
    return out_of_fold_targets(dataset.train, seed, on_progress)


def write_router(fitted: FittedRouter, folder: Path, on_progress: OnProgress) -> TrainReport:
    """Calibrate, export, check and describe a router in `folder`; one process does this.

    Where a linear model on words is better on validation, the router is that model.

    Raises:
        ArtifactError: If a graph differs from its model.
        StorageError: If a file cannot be written.
    """
    dataset, encoder = fitted.dataset, fitted.encoder
    calibration = _calibrated(encoder.model, fitted.validation)
    fold(encoder.head, calibration)
    words, choice = _compared(fitted, on_progress)
    cut_rows = sum(
        tokens.truncated_tokens > 0 for tokens in fitted.train.tokens[: len(dataset.train)]
    )
    if words is not None:
        words, check = _write_words(words, fitted.recipe.seed, folder, on_progress)
        dataset = words.dataset
        calibration, cut_rows = words.calibration, words.cut_rows
    else:
        check = _exported(fitted, folder, on_progress)
    report = TrainReport(
        router=folder,
        fresh=True,
        model="encoder" if words is None else "words",
        choice=choice,
        base=encoder.name,
        architecture=dataset.formatter.architecture,
        rows=_rows(dataset),
        labelled_rows=_labelled_rows(dataset),
        shuffled_rows=len(fitted.train.tokens) - len(dataset.train),
        teacher_weight=fitted.teacher_weight,
        cut_rows=cut_rows,
        epochs=fitted.fit.epochs,
        calibration=calibration,
        export=check,
        precision="bfloat16" if fitted.recipe.precision == "bfloat16" else "float32",
        without_bfloat16=fitted.without_bfloat16,
        tokens_per_s=round(fitted.fit.tokens / fitted.fit.seconds),
        rows_per_s=round(fitted.fit.rows / fitted.fit.seconds, 1),
        seconds=round(time.monotonic() - fitted.started_s, 1),
    )
    _describe(dataset, report, fitted.reader.max_tokens, words, on_progress)
    return report


def write_words_router(
    dataset: Dataset, base: str | None, seed: int, folder: Path, on_progress: OnProgress
) -> TrainReport:
    """Fit a linear model on words alone, and write it into `folder`; one process does this.

    Args:
        dataset: Its rows.
        base: The encoder whose tokenizer it has.
        seed: Decides the folds that choose its penalty.
        folder: The router's.
        on_progress: Called at every fit.

    Raises:
        ArtifactError: If the base cannot be used, or the graph differs from the model.
        StorageError: If a file cannot be written.
    """
    started_s = time.monotonic()
    encoder = load_base(base, seed)
    words = fit_words(dataset, encoder.tokenizer, seed, on_progress)
    words, check = _write_words(words, seed, folder, on_progress)
    dataset = words.dataset
    report = TrainReport(
        router=folder,
        fresh=True,
        model="words",
        choice=None,
        base=encoder.name,
        architecture=dataset.formatter.architecture,
        rows=_rows(dataset),
        labelled_rows=_labelled_rows(dataset),
        shuffled_rows=0,
        teacher_weight=0.0,
        cut_rows=words.cut_rows,
        epochs=(),
        calibration=words.calibration,
        export=check,
        precision="float32",
        without_bfloat16=False,
        tokens_per_s=0,
        rows_per_s=0.0,
        seconds=round(time.monotonic() - started_s, 1),
    )
    _describe(dataset, report, WORDS_MAX_TOKENS, words, on_progress)
    return report


def _compared(
    fitted: FittedRouter, on_progress: OnProgress
) -> tuple[FittedWords | None, ModelChoice | None]:
    """The linear model on words where it is better on validation, and both models' results."""
    if fitted.recipe.model == "encoder":
        return None, None
    dataset, validation = fitted.dataset, fitted.validation
    words = fit_words(dataset, fitted.encoder.tokenizer, fitted.recipe.seed, on_progress)
    logits = predict(fitted.encoder.model, validation, np.arange(len(validation.samples)))
    encoder_scores = reasoning_probability(logits).astype(np.float64)
    choice = choose_model(
        int(dataset.train.labelled.sum()),
        validation.samples,
        encoder_scores,
        words.validation_scores(),
        fitted.recipe.seed,
    )
    return (words if choice.served == "words" else None), choice


def _write_words(
    words: FittedWords, seed: int, folder: Path, on_progress: OnProgress
) -> tuple[FittedWords, ExportCheck]:
    """Write the router of a linear model; the model that serves is fitted on validation rows too.

    Traffic is scored before that, as it may have conversations of validation rows; and the AUROC
    on them is that of the model that was not fitted on them.
    """
    check = write_words_graph(words, folder)
    dataset = words.dataset
    spec = RouterSpec(dataset.formatter, WORDS_MAX_TOKENS, priors=dataset.priors)
    _write_reference(dataset, folder, spec, check, on_progress)
    served = refit_words(words, seed, on_progress)
    last = write_words_graph(served, folder)
    return served, replace(last, auroc_float=check.auroc_float)


def _write_reference(
    dataset: Dataset, folder: Path, spec: RouterSpec, check: ExportCheck, on_progress: OnProgress
) -> None:
    with disk_errors(folder):
        write_traffic_reference(
            folder, spec, check.serves, dataset.traffic, dataset.train, on_progress
        )


def _describe(
    dataset: Dataset,
    report: TrainReport,
    max_tokens: int,
    words: FittedWords | None,
    on_progress: OnProgress,
) -> None:
    """Write card, reference and description of what lies in the report's folder."""
    spec = RouterSpec(
        formatter=dataset.formatter,
        max_tokens=max_tokens if words is None else WORDS_MAX_TOKENS,
        priors=dataset.priors,
        calibration=asdict(report.calibration),
        trained_on={
            "base": report.base if words is None else WORDS_NAME,
            "rows": report.rows,
            "export": asdict(report.export),
            "choice": None if report.choice is None else report.choice.text,
        },
    )
    if words is None:
        write_card(report.router, spec, report)
        _write_reference(dataset, report.router, spec, report.export, on_progress)
    else:
        write_words_card(report.router, spec, report, words.model)
    write_description(report.router, spec)


def _rows(dataset: Dataset) -> dict[str, int]:
    return {"train": len(dataset.train), "validation": len(dataset.validation)}


def _labelled_rows(dataset: Dataset) -> dict[str, int]:
    splits = {"train": dataset.train, "validation": dataset.validation}
    return {name: int(split.labelled.sum()) for name, split in splits.items()}


def _exported(fitted: FittedRouter, folder: Path, on_progress: OnProgress) -> ExportCheck:
    """Write weights, tokenizer and both graphs, and compare the graphs with the model."""
    encoder, reader, validation = fitted.encoder, fitted.reader, fitted.validation
    path = folder / GRAPHS["float32"]
    on_progress("export", 0, _EXPORT_STEPS)
    with disk_errors(folder):
        write_model(encoder, folder, reader.max_tokens)
        on_progress("export", 1, _EXPORT_STEPS)
        write_float_graph(encoder.model, path)
    on_progress("export", 2, _EXPORT_STEPS)
    float_check = check_float_graph(path, encoder.model, reader, validation)
    check = quantise(folder, encoder.model, reader, validation, float_check, on_progress)
    on_progress("export", _EXPORT_STEPS, _EXPORT_STEPS)
    return check


def _with_known_precision(
    model: PreTrainedModel, train: TokenisedSplit, recipe: Recipe
) -> tuple[Recipe, bool]:
    """The recipe with `float32` or `bfloat16`, and whether the encoder alone lacks bfloat16."""
    if not has_bfloat16(model.device, recipe.precision):
        return replace(recipe, precision="float32"), False
    with quick_attention(model, recipe.precision):
        logits = logits_of(model, train, recipe.precision)
        if trains_in_bfloat16(model, recipe.precision, lambda: logits(np.arange(2))):
            return replace(recipe, precision="bfloat16"), False
    return replace(recipe, precision="float32"), True


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
    samples = validation.samples
    rows = np.flatnonzero(samples.labelled & (samples.weights > 0))
    logits = predict(model, validation, rows)
    return fit_calibration(
        np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST],
        samples.labels[rows] == LABEL_REASONING,
        samples.weights[rows].astype(np.float64),
    )


def _check_budget(budget: int, encoder: BaseEncoder) -> None:
    if not isinstance(budget, int) or not MIN_MAX_TOKENS <= budget <= encoder.max_tokens:
        raise SettingsError(
            f"token budget: found {budget!r}; expected {MIN_MAX_TOKENS} to {encoder.max_tokens}, "
            f"which is what {encoder.name} can read."
        )
