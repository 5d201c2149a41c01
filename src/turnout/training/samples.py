"""A data set folder → checked arrays for training; knows no torch and no encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import ArtifactError, RecordError
from turnout.records import LABEL_FAST, LABEL_REASONING, ModelInput
from turnout.routing import Formatter

DATASET_FORMAT_VERSION = 1
MIN_TRAIN_ROWS = 10
_NO_LABEL = -1


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
        known: NDArray[np.bool_] = self.labels != _NO_LABEL
        return known


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that training may use.

    Attributes:
        formatter: How its rows were shown.
        description: The whole `dataset.json`.
        train: At least `MIN_TRAIN_ROWS` rows.
        validation: At least one labelled row of each class.
    """

    formatter: Formatter
    description: dict[str, Any]
    train: Samples
    validation: Samples


def read_dataset(folder: Path) -> Dataset:
    """Read and check what `turnout build` wrote.

    Raises:
        ArtifactError: If the folder is not a data set, or a newer or other version wrote it.
        RecordError: If its rows cannot train a router.
    """
    where = folder / "dataset.json"
    if not where.is_file():
        raise ArtifactError(
            f"{folder}: no dataset.json in it; expected a data set folder. Make one with "
            "`turnout build`."
        )
    description = json.loads(where.read_text(encoding="utf-8"))
    version = description.get("format_version")
    if version != DATASET_FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: data set format {version}; expected {DATASET_FORMAT_VERSION}. "
            "Build it again with this Turnout."
        )
    formatter = Formatter.from_json(description["formatter"], str(where))
    train = _samples(folder / "train.parquet")
    validation = _samples(folder / "validation.parquet")
    _check(folder, train, validation)
    return Dataset(formatter, description, train, validation)


def _samples(path: Path) -> Samples:
    try:
        table = pq.read_table(
            path, columns=["message", "context", "label", "target", "weight"], partitioning=None
        )
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ArtifactError(
            f"{path}: not readable as a split of a data set ({error}). Build it again."
        ) from error
    inputs = [
        ModelInput(message, context)
        for message, context in zip(
            table["message"].to_pylist(), table["context"].to_pylist(), strict=True
        )
    ]
    return Samples(
        inputs,
        np.asarray(table["label"].fill_null(_NO_LABEL), np.int8),
        np.asarray(table["target"], np.float32),
        np.asarray(table["weight"], np.float32),
    )


def _check(folder: Path, train: Samples, validation: Samples) -> None:
    if len(train) < MIN_TRAIN_ROWS:
        raise RecordError(
            f"{folder}: {len(train)} training rows; expected at least {MIN_TRAIN_ROWS}. "
            "Build from a longer log."
        )
    if not any(row.message.strip() for row in train.inputs):
        raise RecordError(
            f"{folder}: every training message is empty; expected text to learn from."
        )
    for name, split in (("train", train), ("validation", validation)):
        _check_numbers(folder / f"{name}.parquet", split)
        for label, word in ((LABEL_REASONING, "reasoning"), (LABEL_FAST, "fast")):
            if not np.any(split.labels == label):
                raise RecordError(
                    f"{folder / name}.parquet: no row with label {label} ({word}) among "
                    f"{len(split)}; expected both labels. Build from a log where both model "
                    "classes were used."
                )


def _check_numbers(path: Path, split: Samples) -> None:
    for name, values, high in (("target", split.targets, 1.0), ("weight", split.weights, np.inf)):
        bad = ~np.isfinite(values) | (values < 0) | (values > high)
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordError(
                f"{path}: row {row + 1} has {name} {values[row]}; expected a number in "
                f"[0, {'1' if high == 1 else '∞'}). Build the data set again."
            )
    if not split.weights.sum() > 0:
        raise RecordError(f"{path}: the weights sum to zero; expected at least one above zero.")
