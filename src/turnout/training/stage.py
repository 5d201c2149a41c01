"""The training stage: a data set folder in, a router folder out; knows how to order the steps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from scipy.special import expit

from turnout.errors import SettingsError
from turnout.manifest import Manifest, read_manifest, staged_output, up_to_date
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import RouterSpec, write_description
from turnout.training.calibration import Calibration, fit_calibration, fold
from turnout.training.card import write_card
from turnout.training.encoder import BaseEncoder, load_base
from turnout.training.export import ExportCheck, check_export, write_model
from turnout.training.loop import EpochResult, Recipe, fine_tune, predict
from turnout.training.samples import Dataset, Samples, read_dataset

DEFAULT_MAX_TOKENS = {"session": 128, "conversation": 192}


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run gave.

    Attributes:
        router: The folder.
        fresh: False where an earlier run on the same inputs was found and nothing was done.
        facts: Counts, epochs, calibration and export check, as the manifest keeps them.
    """

    router: Path
    fresh: bool
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fine-tuned, calibrated model, and what its validation rows said."""

    model: transformers.PreTrainedModel
    epochs: list[EpochResult]
    calibration: Calibration
    labelled: list[int]
    probabilities: np.ndarray  # (n labelled,)
    tokens_per_s: float


def train(
    dataset: Path,
    out: Path,
    *,
    base: str | None = None,
    recipe: Recipe | None = None,
    max_tokens: int | None = None,
    on_progress: OnProgress = silent,
) -> TrainReport:
    """Fine-tune a base encoder on a data set, calibrate it on validation, export it.

    Args:
        dataset: What `turnout build` wrote.
        out: The router folder; it appears only when whole.
        base: A local folder or a Hugging Face id; None for all-MiniLM-L6-v2, without a network.
        recipe: How to fine-tune.
        max_tokens: Token budget; by default 128 (session) or 192 (conversation).
        on_progress: Told every step.

    Raises:
        ArtifactError: If the data set or the base encoder cannot be used, or an exported graph
            strays from the model.
        RecordError: If the rows cannot train a router (one label only, too few, …).
        SettingsError: If the token budget does not suit the encoder.
        StorageError: If the folder cannot be written.
    """
    recipe = recipe or Recipe()
    options = {"base": base, "max_tokens": max_tokens, **asdict(recipe)}
    manifest = Manifest.of("train", [dataset, *_local(base)], options)
    if up_to_date(out, manifest):
        return TrainReport(out, fresh=False, facts=(read_manifest(out) or {})["counts"])
    samples = read_dataset(dataset)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)  # the head's first weights
        encoder = load_base(base)
    budget = max_tokens or DEFAULT_MAX_TOKENS[samples.formatter.architecture]
    _check_budget(budget, encoder)
    input_encoder = InputEncoder(encoder.tokenizer, budget)
    fitted = _fit(samples, encoder, input_encoder, recipe, on_progress)
    with staged_output(out, manifest) as partial:
        partial.mkdir()
        check = _export(partial, samples.validation, encoder, input_encoder, fitted)
        facts = _facts(samples, fitted, check, encoder)
        spec = RouterSpec(
            formatter=samples.formatter,
            max_tokens=budget,
            calibration=fitted.calibration.to_json(),
            trained_on={"base": encoder.name, "rows": facts["rows"]},
        )
        write_card(partial, spec, facts)
        write_description(partial, spec)
        manifest.counts.update(facts)
        manifest.notes.update(torch=torch.__version__, transformers=transformers.__version__)
    return TrainReport(out, fresh=True, facts=facts)


def _fit(
    samples: Dataset,
    encoder: BaseEncoder,
    input_encoder: InputEncoder,
    recipe: Recipe,
    on_progress: OnProgress,
) -> _Fitted:
    pad_id = encoder.model.config.pad_token_id or 0
    train_tokens = [input_encoder.encode(row) for row in samples.train.inputs]
    validation_tokens = [input_encoder.encode(row) for row in samples.validation.inputs]
    started = time.monotonic()
    epochs = fine_tune(
        encoder.model,
        (samples.train, train_tokens),
        (samples.validation, validation_tokens),
        recipe,
        pad_id=pad_id,
        on_progress=on_progress,
    )
    elapsed_s = time.monotonic() - started
    labelled = np.flatnonzero(samples.validation.labelled)
    needs_reasoning = samples.validation.labels[labelled] == LABEL_REASONING
    logits = predict(encoder.model, [validation_tokens[row] for row in labelled], pad_id)
    margins = (logits[:, LABEL_REASONING] - logits[:, LABEL_FAST]).astype(np.float64)
    calibration = fit_calibration(margins, needs_reasoning)
    fold(encoder.model, calibration)
    return _Fitted(
        model=encoder.model,
        epochs=epochs,
        calibration=calibration,
        labelled=[int(row) for row in labelled],
        probabilities=expit(calibration.scale * margins + calibration.bias),
        tokens_per_s=recipe.epochs * sum(len(t.ids) for t in train_tokens) / elapsed_s,
    )


def _export(
    folder: Path,
    validation: Samples,
    encoder: BaseEncoder,
    input_encoder: InputEncoder,
    fitted: _Fitted,
) -> ExportCheck:
    write_model(fitted.model, encoder.tokenizer_folder, folder)
    return check_export(
        folder,
        input_encoder,
        [validation.inputs[row] for row in fitted.labelled],
        fitted.probabilities,
        validation.labels[fitted.labelled] == LABEL_REASONING,
    )


def _facts(
    samples: Dataset, fitted: _Fitted, check: ExportCheck, encoder: BaseEncoder
) -> dict[str, Any]:
    return {
        "base": encoder.name,
        "architecture": samples.formatter.architecture,
        "rows": {"train": len(samples.train), "validation": len(samples.validation)},
        "epochs": [asdict(epoch) for epoch in fitted.epochs],
        "calibration": fitted.calibration.to_json(),
        "export": asdict(check),
        "tokens_per_s": round(fitted.tokens_per_s),
    }


def _check_budget(budget: int, encoder: BaseEncoder) -> None:
    most = getattr(encoder.model.config, "max_position_embeddings", budget)
    if not 16 <= budget <= most:
        raise SettingsError(
            f"--max-tokens: found {budget}; expected 16 to {most}, which is what {encoder.name} "
            "can read."
        )


def _local(base: str | None) -> list[Path]:
    return [Path(base)] if base is not None and Path(base).is_dir() else []
