"""A data set folder → checked arrays for training; knows no torch and no encoder."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import ArtifactError, RecordError
from turnout.records import ID2LABEL, ModelInput
from turnout.routing import Formatter
from turnout.schema import SAMPLES

DESCRIPTION_NAME = "dataset.json"
DATASET_FORMAT_VERSION = 1
MIN_TRAIN_ROWS = 10
NO_LABEL = -1
_COLUMNS = ("message", "context", "label", "target", "weight")


@dataclass(frozen=True, slots=True)
class Samples:
    """One split.

    Attributes:
        inputs: What the encoder reads, n rows.
        labels: int8, shape `(n,)`: 0 = reasoning, 1 = fast, −1 where neither was shown.
        targets: float32, shape `(n,)`, in [0, 1]; 1 = needs reasoning.
        weights: float32, shape `(n,)`, ≥ 0.
    """

    inputs: list[ModelInput]
    labels: NDArray[np.int8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows that carry a label, shape `(n,)`."""
        known: NDArray[np.bool_] = self.labels != NO_LABEL
        return known


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that training may use.

    Attributes:
        formatter: How its rows were shown.
        train: At least `MIN_TRAIN_ROWS` rows.
        validation: At least one labelled row of each class.
    """

    formatter: Formatter
    train: Samples
    validation: Samples


def read_dataset(folder: Path) -> Dataset:
    """Read and check what `turnout build` wrote.

    Raises:
        ArtifactError: If the folder is not a data set, or a newer or other version wrote it.
        RecordError: If its rows cannot train a router.
    """
    description = _description(folder)
    formatter = Formatter.from_json(description["formatter"], str(folder / DESCRIPTION_NAME))
    train = _samples(folder / "train.parquet")
    validation = _samples(folder / "validation.parquet")
    _check(folder, train, validation)
    return Dataset(formatter, train, validation)


def _description(folder: Path) -> dict[str, Any]:
    where = folder / DESCRIPTION_NAME
    if not where.is_file():
        raise ArtifactError(
            f"{folder}: no {DESCRIPTION_NAME} in it; expected a data set folder. Make one with "
            "`turnout build`."
        )
    try:
        description: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
        version = description["format_version"]
        description["formatter"]["architecture"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{where}: not in the form of a data set description ({error!r}); expected what "
            "`turnout build` wrote. Build it again."
        ) from error
    if version != DATASET_FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: data set format {version!r}; expected {DATASET_FORMAT_VERSION}. "
            "Upgrade Turnout, or build it again."
        )
    return description


def _samples(path: Path) -> Samples:
    try:
        table = pq.read_table(path, columns=list(_COLUMNS), partitioning=None)
        columns = {name: table[name].cast(SAMPLES.field(name).type) for name in _COLUMNS}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{path}: not readable as a split of a data set ({error}); expected the columns "
            f"{', '.join(_COLUMNS)}. Build it again."
        ) from error
    texts = zip(columns["message"].to_pylist(), columns["context"].to_pylist(), strict=True)
    return Samples(
        [ModelInput(message or "", context or "") for message, context in texts],
        columns["label"].fill_null(NO_LABEL).to_numpy(),
        columns["target"].fill_null(np.nan).to_numpy(),
        columns["weight"].fill_null(np.nan).to_numpy(),
    )


def _check(folder: Path, train: Samples, validation: Samples) -> None:
    if len(train) < MIN_TRAIN_ROWS:
        raise RecordError(
            f"{folder}: {len(train)} training rows; expected at least {MIN_TRAIN_ROWS}. "
            "Build from a longer log."
        )
    if not any(row.message.strip() for row in train.inputs):
        raise RecordError(
            f"{folder}: every training message is empty; expected text to learn from. "
            "Check which column of the log was taken as the message."
        )
    for name, split in (("train", train), ("validation", validation)):
        path = folder / f"{name}.parquet"
        _check_numbers(path, split)
        _check_labels(path, split)


def _check_labels(path: Path, split: Samples) -> None:
    found = Counter(split.labels.tolist())
    if unknown := sorted(found.keys() - {*ID2LABEL, NO_LABEL}):
        raise RecordError(
            f"{path}: label {unknown[0]} in {found[unknown[0]]:,} rows; expected 0 (reasoning), "
            "1 (fast) or none. Build the data set again."
        )
    for label, word in ID2LABEL.items():
        if not found[label]:
            raise RecordError(
                f"{path}: no row with label {label} ({word}) among {len(split):,}; expected both "
                "labels. Build from a log where both model classes were used."
            )


def _check_numbers(path: Path, split: Samples) -> None:
    checks = (
        ("target", split.targets, 1.0, "in [0, 1]"),
        ("weight", split.weights, np.inf, "of at least 0"),
    )
    for name, values, high, expected in checks:
        bad = ~np.isfinite(values) | (values < 0) | (values > high)
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordError(
                f"{path}: row {row + 1} has {name} {values[row]}; expected a number "
                f"{expected}. Build the data set again."
            )
    if not split.weights.sum() > 0:
        raise RecordError(f"{path}: the weights sum to zero; expected at least one above zero.")
