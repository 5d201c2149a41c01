"""Tables in memory (pandas, polars, Arrow) → data sets in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.api.frames import (
    REMEDY,
    TABLE,
    arrow_table,
    columns_of,
    labels_table,
    require_names,
    split_of_turns,
    splits_in,
    turn_keys,
    turns_table,
)
from turnout.catalog import load_catalog
from turnout.dataset import assembly
from turnout.dataset.cells import SPLITS
from turnout.dataset.description import usage_sentence
from turnout.dataset.outcomes import outcomes_in
from turnout.dataset.selection import DatasetSpec
from turnout.dataset.stage import write_dataset
from turnout.errors import RecordError, SettingsError
from turnout.parquet import write_parquet
from turnout.records import ID2LABEL, Architecture, ModelInput, Turn
from turnout.routing import Formatter, Priors
from turnout.samples import PREVIOUS_COLUMN, Samples, label_factors, previous_of, samples_of
from turnout.schema import TURN_KEYS

Parts = tuple[float, float, float]
_LABELS = (
    "Give the name of one of its columns; of models with model=, or of known labels with label=."
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Split:
    """The rows of one split; a pandas, polars or Arrow table can be made of it.

    Attributes:
        table: One row a sample, as `turnout build` writes them.
        rows: For each sample its 0-based row in the input table, shape `(n,)`; of duplicates the
            first.
        formatter: How the encoder reads a sample.
        priors: The share of reasoning among the training rows, and in the log they come from.
        measured: Whether targets are measured outcomes rather than labels.
        factors: How much each row counts where the labels have their ratio by weights, shape
            `(n,)`.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    formatter: Formatter
    priors: Priors
    measured: bool
    factors: NDArray[np.float64]

    @property
    def samples(self) -> Samples:
        """The rows as arrays."""
        return samples_of(self.table)

    def inputs_for(self, formatter: Formatter, name: str) -> list[ModelInput]:
        """The rows as a router with this formatter reads them: with its number of previous turns.

        Args:
            formatter: The router's.
            name: What was given, for messages.

        Raises:
            SettingsError: If the formatters differ in anything else.
        """
        if formatter.architecture != self.formatter.architecture:
            raise SettingsError(
                f"{name}: found a {formatter.architecture} router for rows of a "
                f"{self.formatter.architecture} data set; expected one architecture. Make the data "
                "set with the router's."
            )
        if not formatter.equals_but_for_previous_turns(self.formatter):
            raise SettingsError(
                f"{name}: the router reads {formatter}; the rows are shown as {self.formatter}. "
                "Make the data set and fit the router again."
            )
        return samples_of(self.table, None if formatter == self.formatter else formatter).inputs

    @property
    def previous(self) -> list[tuple[Turn, ...]] | None:
        """The turns before each row, newest first."""
        return previous_of(self.table[PREVIOUS_COLUMN])

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        labels = Counter(self.table["label"].to_pylist())
        counts = [f"{labels[label]:,} {name}" for label, name in ID2LABEL.items()]
        if labels[None]:
            counts.append(f"{labels[None]:,} without a label")
        return f"Split({len(self):,} rows: {', '.join(counts)})"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as an Arrow stream, which pandas, polars and pyarrow read."""
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data set in memory.

    Attributes:
        train: Rows to train a router on.
        validation: Rows to choose the best epoch and to calibrate on.
        test: Rows to evaluate it on.
        description: What `dataset.json` says: rows used and left out, leaks, shares of reasoning.
        traffic: A sample of the log as it is, for `turnout drift`; None for measured outcomes.
    """

    train: Split
    validation: Split
    test: Split
    description: Mapping[str, Any]
    traffic: pa.Table | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture of a router trained on it: `session` or `conversation`."""
        return self.train.formatter.architecture

    def save(self, folder: str | Path) -> None:
        """Write the data set folder that `turnout train` and `turnout evaluate` read.

        Raises:
            StorageError: If the place cannot be written, or holds something else.
        """
        tables = {name: getattr(self, name).table for name in SPLITS}
        dataset = assembly.Dataset(tables, dict(self.description), {}, self.traffic)
        write_dataset(dataset, Path(folder))

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(getattr(self, name)):,} {name}" for name in SPLITS)
        lines = [f"Data({self.architecture}: {rows})"]
        if not_used := self.description["usage"]["not_used"]:
            lines.append(usage_sentence(self.description))
            lines += [f"Not used: {n:,} {reason}" for reason, n in not_used.items()]
        return "\n".join(lines)


def require_split(value: object, name: str) -> None:
    """Refuse anything but a split; `name` is the argument in the message.

    Raises:
        SettingsError: If it is not a split.
    """
    if isinstance(value, Data):
        raise SettingsError(f"{name}: found Data; expected one of its splits, such as data.{name}.")
    if not isinstance(value, Split):
        raise SettingsError(
            f"{name}: found {type(value).__name__}; expected a split of a data set, such as "
            f"data.{name} of data = turnout.from_outcomes(df)."
        )


def from_outcomes(
    df: object,
    *,
    text: str = "prompt",
    messages: str | None = None,
    strong: str = "reasoning_score",
    weak: str = "fast_score",
    conversation: str | None = None,
    group: str | None = None,
    cv_group: str | None = None,
    label: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    split: str | Parts = (80, 10, 10),
    architecture: Architecture | None = None,
    margin: float = 0.1,
    seed: int = 0,
) -> Data:
    """Make a data set from messages on which a strong and a weak model were both measured.

    Args:
        df: A pandas or polars DataFrame, an Arrow table, any other object with an Arrow stream, or
            a mapping of columns.
        text: The column of single messages.
        messages: The column of conversations up to the measured turn: lists of chat messages
            (`role`, `content`), or their JSON text.
        strong: The column of the reasoning model's scores, in [0, 1].
        weak: The column of the fast model's scores, in [0, 1].
        conversation: The column that names conversations.
        group: The column of benchmarks or sources.
        cv_group: The column of groups that are never divided between splits or folds.
        label: The column of labels (0 or reasoning, 1 or fast, or nothing), instead of those that
            follow from the scores.
        target: The column of targets in [0, 1], instead of the gap between the scores.
        weight: The column of weights, from 0 to 1,000,000.
        split: Parts of training, validation and test; or the column that says `train`,
            `validation` or `test` of each row. With such a column, nearly equal rows may be in
            different splits; `description["leaks"]` counts what is in more than one.
        architecture: `session` uses first turns, `conversation` all; by default `conversation`
            if `messages` is given.
        margin: The least gap that counts as a need for reasoning, in (0, 1].
        seed: Decides which rows go to which split.

    Raises:
        RecordError: If a column is missing, a row cannot be read, or a split lacks a label.
        SettingsError: If `df` is not a table, or an option is out of range.

    Example:
        >>> import pandas as pd
        >>> import turnout as tn
        >>> df = pd.DataFrame({
        ...     "prompt": [f"question {n}" for n in range(100)],
        ...     "gpt5": [0.9] * 100,
        ...     "mini": [0.9, 0.2] * 50,
        ... })
        >>> tn.from_outcomes(df, strong="gpt5", weak="mini")
        Data(session: 80 train, 10 validation, 10 test)
    """
    named = {
        "messages": messages, "conversation_id": conversation, "group": group,
        "cv_group": cv_group, "label": label, "target": target, "weight": weight,
    }  # fmt: skip
    require_names(
        {"strong": strong, "weak": weak} | ({} if messages else {"text": text}),
        {
            "text": text, "messages": messages, "conversation": conversation, "group": group,
            "cv_group": cv_group, "label": label, "target": target, "weight": weight,
        },
    )  # fmt: skip
    _require_architecture(architecture or "session")
    require_seed(seed)
    names = {field: name for field, name in named.items() if name is not None}
    split_column = split if isinstance(split, str) else None
    required = [*names.values(), *([split_column] if split_column else [])]
    names |= {"prompt": text, "reasoning_score": strong, "fast_score": weak}
    table = columns_of(df, required, names.values())
    dataset = assembly.dataset_from_outcomes(
        outcomes_in(table, names, REMEDY),
        architecture=architecture or ("conversation" if messages else "session"),
        margin=margin,
        split=assembly.DEFAULT_SPLIT if isinstance(split, str) else split,
        fixed_split=None if split_column is None else splits_in(table, split_column),
        seed=seed,
    )
    rows = {name: np.asarray(places, np.int64) for name, places in dataset.places.items()}
    return _data(dataset, rows)


def from_turns(
    df: object,
    *,
    labels: object = None,
    text: str = "user_message",
    model: str = "model",
    conversation: str | None = "conversation_id",
    turn: str | None = None,
    answer: str | None = None,
    user: str | None = None,
    label: str | None = None,
    architecture: Architecture = "session",
    size: int = assembly.DEFAULT_SIZE,
    ratio: tuple[int, int] = (50, 50),
    split: str | Parts = (80, 10, 10),
    seed: int = 0,
) -> Data:
    """Make a data set from the turns of conversations.

    Args:
        df: One row a turn; a table as `from_outcomes` takes.
        labels: What `turnout label` wrote, as a table; without it and without `label`, the class
            of each turn's model is its label.
        text: The column of user messages.
        model: The column of model names; not needed if labels are given.
        conversation: The column that names conversations; None if each row is one of its own.
        turn: The column of 1-based turn indices; by default `turn_index` if there is one, else the
            order of a conversation's rows.
        answer: The column of the assistant's answers; by default `assistant_message`, if any.
        user: The column of users; a user is in one split only. By default `user_id`, if any.
        label: The column of known labels (0 or reasoning, 1 or fast, or nothing).
        architecture: `session` takes first turns, `conversation` all with their context.
        size: The number of rows; if there are fewer, all are used and weighted.
        ratio: Parts of reasoning and fast.
        split: Parts of training, validation and test; or the column that says `train`,
            `validation` or `test` of each row, as in `from_outcomes`.
        seed: Decides which rows are drawn, and which go to which split.

    Raises:
        RecordError: If a column is missing, a row cannot be read, or a split lacks a label.
        SettingsError: If `df` is not a table, or an option is out of range.
    """
    if labels is not None and label is not None:
        raise SettingsError("labels and label: found both; expected one of them.")
    require_names(
        {"text": text, "model": model},
        {
            "conversation": conversation, "turn": turn, "answer": answer, "user": user,
            "label": label,
        },
    )  # fmt: skip
    _require_architecture(architecture)
    require_seed(seed)
    arrow = arrow_table(df)
    index = turn or ("turn_index" if "turn_index" in arrow.column_names else None)
    named = {"user_message": text, "assistant_message": answer, "user_id": user}
    if labels is None and label is None:
        named["model"] = model
    columns = {field: name or field for field, name in {"model": model, **named}.items()}
    split_column = split if isinstance(split, str) else None
    required = [name for name in (conversation, turn, label, split_column, *named.values()) if name]
    remedy = _LABELS if labels is None and model not in arrow.column_names else REMEDY
    optional = [*columns.values(), *([index] if index else [])]
    table = columns_of(arrow, required, optional, remedy)
    columns = {field: name for field, name in columns.items() if name in table.columns}
    keys = turn_keys(table, conversation, index)
    if label is not None:
        labels = labels_table(table, keys, label)
    spec = assembly.dataset_spec(
        size,
        ratio,
        assembly.DEFAULT_SPLIT if isinstance(split, str) else split,
        seed=seed,
        fixed_split=None if split_column is None else split_of_turns(table, keys, split_column),
    )
    dataset = _dataset_of(
        turns_table(table, keys, columns),
        None if labels is None else arrow_table(labels, "labels"),
        spec,
        architecture,
    )
    first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
    rows = {}
    for name, samples in dataset.tables.items():
        sample_keys = zip(*(samples[column].to_pylist() for column in TURN_KEYS), strict=True)
        rows[name] = np.asarray([first_row[key] for key in sample_keys], np.int64)
    return _data(dataset, rows)


def require_seed(seed: object) -> None:
    """Refuse a seed that is not a whole number from 0.

    Raises:
        SettingsError: If it is anything else.
    """
    if not isinstance(seed, Integral) or int(seed) < 0:
        raise SettingsError(f"seed: found {seed!r}; expected a whole number from 0.")


def _require_architecture(name: str) -> None:
    if name not in get_args(Architecture):
        raise SettingsError(f"architecture: found {name!r}; expected session or conversation.")


def _dataset_of(
    turns: pa.Table, labels: pa.Table | None, spec: DatasetSpec, architecture: Architecture
) -> assembly.Dataset:
    """The data set of turns in memory, by way of a temporary file that the engine reads."""
    with TemporaryDirectory(prefix="turnout-") as folder:
        paths = {"turns": Path(folder) / "turns.parquet", "labels": Path(folder) / "labels.parquet"}
        write_parquet(turns, paths["turns"])
        if labels is not None:
            write_parquet(labels, paths["labels"])
        try:
            return assembly.dataset_from_turns(
                paths["turns"],
                spec,
                architecture=architecture,
                catalog=load_catalog(),
                labels=None if labels is None else paths["labels"],
            )
        except RecordError as error:
            message = str(error)
            for name, path in paths.items():
                message = message.replace(str(path), str(TABLE) if name == "turns" else name)
            raise RecordError(message) from error


def _data(dataset: assembly.Dataset, rows: Mapping[str, NDArray[np.int64]]) -> Data:
    description = dataset.description
    formatter = Formatter.from_json(description["formatter"], str(TABLE))
    priors = Priors.from_json(description["priors"], str(TABLE))
    measured = description["source"] == "outcomes"
    splits = {}
    for name, table in dataset.tables.items():
        factors = label_factors(description, name, samples_of(table).labels)
        splits[name] = Split(table, rows[name], formatter, priors, measured, factors)
    return Data(**splits, description=description, traffic=dataset.traffic)
