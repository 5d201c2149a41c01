"""A checked data set → the files of a router; knows how to order the steps, and no manifest."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from turnout.errors import SettingsError
from turnout.progress import OnProgress
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import RouterSpec, write_description
from turnout.samples import Samples
from turnout.training.calibration import fit_calibration, fold
from turnout.training.card import write_card
from turnout.training.encoder import BaseEncoder, load_base
from turnout.training.export import check_export, write_model
from turnout.training.loop import TokenisedSplit, fine_tune, predict
from turnout.training.recipe import Recipe
from turnout.training.report import Calibration, TrainReport
from turnout.training.samples import Dataset

DEFAULT_MAX_TOKENS = {"session": 128, "conversation": 192}
MIN_MAX_TOKENS = 16
_PROGRESS_EVERY_ROWS = 256


def fit_router(
    dataset: Dataset,
    folder: Path,
    *,
    base: str | None,
    recipe: Recipe,
    max_tokens: int | None,
    on_progress: OnProgress,
) -> TrainReport:
    """Fine-tune, calibrate, export and describe a router in `folder`.

    Raises:
        ArtifactError: If the base cannot be used, or an exported graph strays from the model.
        SettingsError: If the token budget does not suit the encoder, or the loss diverges.
    """
    started = time.monotonic()
    encoder = load_base(base, recipe.seed)
    architecture = dataset.formatter.architecture
    budget = DEFAULT_MAX_TOKENS[architecture] if max_tokens is None else max_tokens
    _check_budget(budget, encoder)
    reader = InputEncoder(encoder.tokenizer, budget)
    train = _tokenised(dataset.train, reader, "tokenise", on_progress)
    validation = _tokenised(dataset.validation, reader, "tokenise validation", on_progress)

    fit_started = time.monotonic()
    epochs = fine_tune(encoder, train, validation, recipe, on_progress)
    fit_s = time.monotonic() - fit_started
    calibration = _calibrate(encoder, validation)

    write_model(encoder, folder, budget, on_progress)
    check = check_export(folder, encoder, reader, validation, on_progress)
    report = TrainReport(
        router=folder,
        fresh=True,
        base=encoder.name,
        architecture=architecture,
        rows={"train": len(train.tokens), "validation": len(validation.tokens)},
        labelled_rows={
            "train": int(dataset.train.labelled.sum()),
            "validation": int(dataset.validation.labelled.sum()),
        },
        cut_rows=sum(tokens.truncated_tokens > 0 for tokens in train.tokens),
        epochs=epochs,
        calibration=calibration,
        export=check,
        tokens_per_s=round(len(epochs) * sum(len(t.ids) for t in train.tokens) / fit_s),
        seconds=round(time.monotonic() - started, 1),
    )
    spec = RouterSpec(
        formatter=dataset.formatter,
        max_tokens=budget,
        calibration=asdict(calibration),
        trained_on={"base": encoder.name, "rows": report.rows, "export": asdict(check)},
    )
    write_card(folder, spec, report)
    write_description(folder, spec)
    return report


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


def _calibrate(encoder: BaseEncoder, validation: TokenisedSplit) -> Calibration:
    rows = np.flatnonzero(validation.samples.labelled)
    logits = predict(encoder.model, validation.tokens_of(rows))
    calibration = fit_calibration(
        np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST],
        validation.samples.labels[rows] == LABEL_REASONING,
    )
    fold(encoder.head, calibration)
    return calibration


def _check_budget(budget: int, encoder: BaseEncoder) -> None:
    if not MIN_MAX_TOKENS <= budget <= encoder.max_tokens:
        raise SettingsError(
            f"--max-tokens: found {budget}; expected {MIN_MAX_TOKENS} to {encoder.max_tokens}, "
            f"which is what {encoder.name} can read."
        )
