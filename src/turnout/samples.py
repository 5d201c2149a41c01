"""Reads a data set folder into arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import ArtifactError
from turnout.records import ID2LABEL, LABEL_FAST, LABEL_REASONING, ModelInput, Turn
from turnout.routing import Formatter, Priors
from turnout.schema import SAMPLES

DESCRIPTION_NAME = "dataset.json"
FORMAT_VERSION = 1
NO_LABEL = -1
PREVIOUS_COLUMN = "previous"
# With fewer labelled training rows fine-tuning was not ahead of counting words
# (docs/results/few-labels.md).
FEW_LABELS = 1_000
TRAFFIC_NAME = "traffic.parquet"
_TRAFFIC_COLUMNS = ("conversation_id", "turn_count", "message", "context")
_ROWS_AT_A_TIME = 1_000
_COLUMNS = (
    "conversation_id",
    "turn_index",
    "message",
    "context",
    "label",
    "target",
    "weight",
    "group",
    "cv_group",
)


@dataclass(frozen=True, slots=True)
class Samples:
    """One split, n rows.

    Attributes:
        inputs: What the encoder reads.
        conversation_ids: Whose turns they are.
        turn_indices: int32, shape `(n,)`, 1-based.
        groups: The benchmark or source of a measured prompt; None elsewhere.
        labels: int8, shape `(n,)`: 0 = reasoning, 1 = fast, −1 where neither was shown.
        targets: float32, shape `(n,)`, in [0, 1]; 1 = needs reasoning.
        weights: float32, shape `(n,)`, ≥ 0.
        cv_groups: Rows of one group depend on each other beyond their conversation; None elsewhere.
    """

    inputs: list[ModelInput]
    conversation_ids: list[str]
    turn_indices: NDArray[np.int32]
    groups: list[str | None]
    labels: NDArray[np.int8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    cv_groups: list[str | None]

    def __len__(self) -> int:
        return len(self.inputs)

    def followed_by(self, other: Samples) -> Samples:
        """These rows followed by those of `other`."""
        return Samples(
            inputs=self.inputs + other.inputs,
            conversation_ids=self.conversation_ids + other.conversation_ids,
            turn_indices=np.concatenate([self.turn_indices, other.turn_indices]),
            groups=self.groups + other.groups,
            labels=np.concatenate([self.labels, other.labels]),
            targets=np.concatenate([self.targets, other.targets]),
            weights=np.concatenate([self.weights, other.weights]),
            cv_groups=self.cv_groups + other.cv_groups,
        )

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """The rows of these numbers, in that order."""
        return Samples(
            inputs=[self.inputs[row] for row in rows],
            conversation_ids=[self.conversation_ids[row] for row in rows],
            turn_indices=self.turn_indices[rows],
            groups=[self.groups[row] for row in rows],
            labels=self.labels[rows],
            targets=self.targets[rows],
            weights=self.weights[rows],
            cv_groups=[self.cv_groups[row] for row in rows],
        )

    def clusters_of(self, rows: Iterable[int]) -> list[str]:
        """The cluster of each row for intervals and folds: `cv_group`, else the conversation."""
        return [self.cv_groups[row] or self.conversation_ids[row] for row in rows]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label, bool, shape `(n,)`."""
        mask: NDArray[np.bool_] = self.labels != NO_LABEL
        return mask


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages as they come, none of which trained a router; n rows.

    Attributes:
        inputs: What the encoder reads.
        conversation_ids: Whose turns they are.
        turn_counts: Turns of that conversation, shape `(n,)`.
        weights: How much each counts, so that together they are as the log is, shape `(n,)`.
        source: `traffic`: a sample of the log; `validation`: the validation rows.
    """

    inputs: list[ModelInput]
    conversation_ids: list[str]
    turn_counts: NDArray[np.float64]
    weights: NDArray[np.float64]
    source: Literal["traffic", "validation"]


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A data set folder of this version.

    Attributes:
        path: The folder.
        description: What `dataset.json` says.
        formatter: The formatter that made its rows' texts.
        priors: The share of reasoning among the training rows, and in the log they come from.
    """

    path: Path
    description: dict[str, Any]
    formatter: Formatter
    priors: Priors

    @classmethod
    def read(cls, path: Path) -> DatasetFolder:
        """Open a folder of `turnout build`, without reading its rows yet.

        Raises:
            ArtifactError: If it is absent, not a data set, or of another version.
        """
        where = path / DESCRIPTION_NAME
        if not where.is_file():
            problem = f"no {DESCRIPTION_NAME} in it" if path.exists() else "not found"
            raise ArtifactError(
                f"{path}: {problem}; expected a data set folder. Make one with `turnout build`, or "
                "check the path."
            )
        try:
            description: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
            version = description["format_version"]
            formatter = Formatter.from_json(description["formatter"], str(where))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{where}: not in the form of a data set description ({error!r}); expected what "
                "`turnout build` wrote. Build it again."
            ) from error
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{where}: data set format {version!r}; expected {FORMAT_VERSION}. "
                "Upgrade Turnout, or build it again."
            )
        return cls(
            path, description, formatter, Priors.from_json(description.get("priors"), str(where))
        )

    @property
    def measures_outcomes(self) -> bool:
        """Whether targets are gaps, measured or stated, rather than labels."""
        return self.description.get("source") == "outcomes"

    @property
    def measures_gaps(self) -> bool:
        """Whether every target is a measured gap, moved to [0, 1], and nothing else."""
        return self.measures_outcomes and not self.description.get("stated_targets")

    def label_factors(self, name: str, labels: NDArray[np.int8]) -> NDArray[np.float64]:
        """Factors for the rows' weights that bring the labels to the data set's ratio.

        They are all 1 where rows were drawn in that ratio, or where outcomes were measured. A log
        too short for that is balanced by these factors alone.

        Args:
            name: `train`, `validation` or `test`.
            labels: Of the split's rows, or of some of them, shape `(n,)`.

        Returns:
            Shape `(n,)`, > 0.
        """
        return label_factors(self.description, name, labels)

    @property
    def stores_previous(self) -> bool:
        """Whether its rows can be shown with more previous turns; not in earlier versions."""
        names = ("train.parquet", "validation.parquet", TRAFFIC_NAME)
        files = [self.path / name for name in names if (self.path / name).is_file()]
        return all(PREVIOUS_COLUMN in pq.read_schema(file).names for file in files)

    def require_shown_as(self, formatter: Formatter, router: Path) -> None:
        """Refuse a data set whose rows cannot be shown as the router reads them.

        Routers may read other numbers of previous turns than the data set shows.

        Raises:
            ArtifactError: If the router's formatter differs from the data set's in anything else.
        """
        if formatter.architecture != self.formatter.architecture:
            raise ArtifactError(
                f"{self.path}: is a {self.formatter.architecture} data set; {router} is a "
                f"{formatter.architecture} router. Build a data set with --architecture "
                f"{formatter.architecture}, or take the other router."
            )
        if not formatter.equals_but_for_previous_turns(self.formatter):
            raise ArtifactError(
                f"{self.path}: shows its rows as {self.formatter}; the router {router} reads "
                f"{formatter}. Build the data set and train the router again."
            )

    def split(self, name: str, formatter: Formatter | None = None) -> Samples:
        """The rows of `train`, `validation` or `test`, in the file's order.

        Args:
            name: Of the split.
            formatter: Shows the rows; by default the data set's own.

        Raises:
            ArtifactError: If the file is absent, unreadable or lacks a column.
        """
        path = self.path / f"{name}.parquet"
        formatter = self._other(formatter)
        names = [*_COLUMNS, *([PREVIOUS_COLUMN] if formatter else [])]
        try:
            table = pq.read_table(path, columns=names, partitioning=None)
            columns = {name: table[name].cast(SAMPLES.field(name).type) for name in names}
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{path}: not readable as a split of a data set ({error}); expected the columns "
                f"{', '.join(names)}. Build it again."
            ) from error
        _require_previous(path, columns)
        return samples_of(pa.table(columns), formatter)

    def traffic(self, formatter: Formatter | None = None) -> Traffic:
        """A sample of the log as it is; no training row is in it.

        A data set of measured outcomes, or of an earlier version, has no such sample. Its
        validation rows take that place, weighted to the log's share of reasoning where known.

        Args:
            formatter: Shows the rows; by default the data set's own.

        Raises:
            ArtifactError: If the file is unreadable or lacks a column.
        """
        sampled = (self.path / TRAFFIC_NAME).is_file()
        path = self.path / (TRAFFIC_NAME if sampled else "validation.parquet")
        formatter = self._other(formatter)
        names = [*_TRAFFIC_COLUMNS, "weight" if sampled else "label"]
        names += ["turn_index", PREVIOUS_COLUMN] if formatter else []
        try:
            table = pq.read_table(path, columns=names, partitioning=None)
            counts = np.asarray(table["turn_count"].to_numpy(), np.float64)
            inputs = _inputs(table, formatter)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{path}: not readable as rows of a data set ({error}); expected the columns "
                f"{', '.join(names)}. Build it again."
            ) from error
        if sampled:
            weights = np.asarray(table["weight"].to_numpy(), np.float64)
        else:
            weights = self._weights_of_log(table["label"].fill_null(NO_LABEL).to_numpy())
        return Traffic(
            inputs=inputs,
            conversation_ids=table["conversation_id"].to_pylist(),
            turn_counts=counts,
            weights=weights,
            source="traffic" if sampled else "validation",
        )

    def _other(self, formatter: Formatter | None) -> Formatter | None:
        """The formatter if it is not the data set's own."""
        return None if formatter == self.formatter else formatter

    def _weights_of_log(self, labels: NDArray[np.int8]) -> NDArray[np.float64]:
        """Weights that give labels the share that they have in the log, where it is known."""
        weights = np.ones(len(labels))
        reasoning = self.priors.log
        if reasoning is None:
            return weights
        for label, share in ((LABEL_REASONING, reasoning), (LABEL_FAST, 1 - reasoning)):
            rows = labels == label
            if rows.any():
                weights[rows] = share / rows.mean()
        return weights

    def previous(
        self, name: str, rows: NDArray[np.int64] | None = None
    ) -> list[tuple[Turn, ...]] | None:
        """The turns before each row of a split, newest first; None where the data set stores none.

        Args:
            name: `train`, `validation` or `test`.
            rows: Only of these, in their order; by default of all.

        Raises:
            ArtifactError: If the column is there and unreadable.
        """
        path = self.path / f"{name}.parquet"
        try:
            if PREVIOUS_COLUMN not in pq.read_schema(path).names:
                return None
            table = pq.read_table(path, columns=[PREVIOUS_COLUMN], partitioning=None)
            column = table[PREVIOUS_COLUMN].cast(SAMPLES.field(PREVIOUS_COLUMN).type)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{path}: {PREVIOUS_COLUMN} is not readable as previous turns ({error}); expected "
                "what `turnout build` wrote. Build it again."
            ) from error
        return previous_of(column, rows)


def label_factors(
    description: Mapping[str, Any], name: str, labels: NDArray[np.int8]
) -> NDArray[np.float64]:
    """As `DatasetFolder.label_factors`, by what `dataset.json` says."""
    factors = np.ones(len(labels))
    stored = (description.get("weighting") or {}).get("label_factors", {}).get(name, {})
    for label, class_name in ID2LABEL.items():
        factors[labels == label] = stored.get(class_name, 1.0)
    return factors


def few_labels(labelled: int) -> str | None:
    """A warning about so few labelled training rows; None where they are enough."""
    if labelled >= FEW_LABELS:
        return None
    return (
        f"{labelled:,} labelled training rows: below about {FEW_LABELS:,} do not expect an encoder "
        "to be better than a linear model on words; more labels, or a judge (`turnout judge`), help"
    )


def samples_of(table: pa.Table, formatter: Formatter | None = None) -> Samples:
    """Rows of `schema.SAMPLES` as arrays, shown by the formatter; by default as they are stored."""
    return Samples(
        inputs=_inputs(table, formatter),
        conversation_ids=table["conversation_id"].to_pylist(),
        turn_indices=table["turn_index"].to_numpy(),
        groups=table["group"].to_pylist(),
        labels=table["label"].fill_null(NO_LABEL).to_numpy(),
        targets=table["target"].fill_null(np.nan).to_numpy(),
        weights=table["weight"].fill_null(np.nan).to_numpy(),
        cv_groups=table["cv_group"].to_pylist(),
    )


def _require_previous(path: Path, columns: Mapping[str, pa.ChunkedArray]) -> None:
    """Refuse rows of which another formatter cannot show the turns before."""
    if PREVIOUS_COLUMN in columns and (missing := columns[PREVIOUS_COLUMN].null_count):
        raise ArtifactError(
            f"{path}: {missing:,} rows store no previous turns; expected what `turnout build` "
            "writes. Build it again."
        )


def _inputs(table: pa.Table, formatter: Formatter | None) -> list[ModelInput]:
    """What rows show; without a formatter as they are stored."""
    if formatter is None:
        texts = zip(table["message"].to_pylist(), table["context"].to_pylist(), strict=True)
        return [ModelInput(message or "", context or "") for message, context in texts]
    names = ("message", "turn_index", PREVIOUS_COLUMN)
    return [
        input_shown(formatter, row["message"], row["turn_index"], _turns(row[PREVIOUS_COLUMN]))
        for batch in table.select(names).to_batches(_ROWS_AT_A_TIME)
        for row in batch.to_pylist()
    ]


def input_shown(
    formatter: Formatter, message: str, turn_index: int, previous: Sequence[Turn]
) -> ModelInput:
    """A row as a formatter shows it.

    Args:
        formatter: Not necessarily that of the data set.
        message: As the data set stores it, already shortened.
        turn_index: 1-based.
        previous: Newest first.
    """
    model_input = formatter.format([*reversed(previous), Turn(message)], turn_index)
    return ModelInput(message, model_input.context)


def _turns(stored: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(**turn) for turn in stored)


def previous_of(
    column: pa.ChunkedArray, rows: NDArray[np.int64] | None = None
) -> list[tuple[Turn, ...]] | None:
    """The turns before each row, newest first; None where a row stores none.

    Args:
        column: `previous` of `schema.SAMPLES`.
        rows: Only of these, in their order; by default of all.
    """
    if column.null_count:
        return None
    if rows is not None:
        column = column.take(pa.array(rows))
    return [_turns(turns) for turns in column.to_pylist()]
