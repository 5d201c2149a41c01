"""Read a data set, and check that it can train a router."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from turnout.errors import RecordError
from turnout.records import ID2LABEL
from turnout.routing import Formatter, Priors
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.samples import NO_LABEL, DatasetFolder, Samples, Traffic
from turnout.training.shuffled_context import ShuffledContext, shuffled_context

MIN_TRAIN_ROWS = 10
# Shuffled-context rows of a smaller data set drown what turn index and lengths tell of need
# (docs/experiments/037-shuffled-context-of-few-rows.md).
MIN_ROWS_TO_SHUFFLE = 1_500
# In float32 the sum of larger ones may overflow, or lose the others.
MAX_WEIGHT = 1e9


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that can train a router.

    Attributes:
        formatter: Made its rows.
        train: At least `MIN_TRAIN_ROWS` rows.
        validation: At least one labelled row of each class.
        measured: Whether its targets are outcomes of models rather than labels.
        shuffled: Additional training rows; None where there are none.
        priors: Shares of reasoning among the training rows and in the log.
        traffic: Messages as they come, kept from training.
        folder: Where it lies.
    """

    formatter: Formatter
    train: Samples
    validation: Samples
    measured: bool
    shuffled: ShuffledContext | None
    priors: Priors
    traffic: Traffic
    folder: Path

    def shown_to_words(self) -> Dataset:
        """The same rows with all previous turns that are stored, for the linear model on words.

        To an encoder few previous turns are shown: its token budget is small and its time grows
        with it.
        """
        data = DatasetFolder.read(self.folder)
        if self.formatter.architecture == "session" or not data.stores_previous:
            return self
        formatter = replace(self.formatter, previous_turns=MAX_STORED_TURNS)
        return replace(
            self,
            formatter=formatter,
            train=data.split("train", formatter),
            validation=data.split("validation", formatter),
            shuffled=None,
            traffic=data.traffic(formatter),
        )


def read_dataset(folder: Path, seed: int) -> Dataset:
    """Read and check what `turnout build` wrote.

    Args:
        folder: The data set.
        seed: Decides the rows with shuffled context.

    Raises:
        ArtifactError: If the folder is not a data set, or a newer or other version wrote it.
        RecordError: If its rows cannot train a router.
    """
    dataset = DatasetFolder.read(folder)
    train, validation = dataset.split("train"), dataset.split("validation")
    _check(folder, train, validation)
    few = len(train) < MIN_ROWS_TO_SHUFFLE
    shuffled = None if few else shuffled_context(dataset, train, seed)
    return Dataset(
        formatter=dataset.formatter,
        train=train,
        validation=validation,
        measured=dataset.measures_outcomes,
        shuffled=shuffled,
        priors=dataset.priors,
        traffic=dataset.traffic(),
        folder=folder,
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
    counts = Counter(split.labels.tolist())
    if unknown := sorted(counts.keys() - {*ID2LABEL, NO_LABEL}):
        raise RecordError(
            f"{path}: label {unknown[0]} in {counts[unknown[0]]:,} rows; expected 0 (reasoning), "
            "1 (fast) or none. Build the data set again."
        )
    weighted = set(split.labels[split.weights > 0].tolist())
    for label, word in ID2LABEL.items():
        if label not in weighted:
            raise RecordError(
                f"{path}: no row with label {label} ({word}) and a weight above 0 among "
                f"{len(split):,}; expected both labels. Build from a log where both model classes "
                "were used."
            )


def _check_numbers(path: Path, split: Samples) -> None:
    checks = (
        ("target", split.targets, 1.0, "in [0, 1]"),
        ("weight", split.weights, MAX_WEIGHT, f"from 0 to {MAX_WEIGHT:,.0f}"),
    )
    for name, values, high, expected in checks:
        bad = ~np.isfinite(values) | (values < 0) | (values > high)
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordError(
                f"{path}: row {row + 1} has {name} {values[row]}; expected a number "
                f"{expected}. Build the data set again."
            )
