"""What the turns of a log needed, as far as it is known beside the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.engine import connect, reading
from turnout.errors import ArtifactError
from turnout.manifest import read_manifest, tree_sha256
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.schema import TURN_KEYS
from turnout.tables import read_known_labels
from turnout.turns import read_labels

# A label of at least this confidence is strong evidence.
STRONG_CONFIDENCE = 0.8
NO_LABEL = -1
EvidenceKind = Literal["strong evidence", "weighed evidence", "simulated truth"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the n turns of a log needed.

    Attributes:
        labels: 0 = reasoning, 1 = fast, −1 where it is not known, shape `(n,)`.
        left_out: Turns with evidence in conversations that trained a router; −1 in `labels`.
    """

    labels: NDArray[np.int8]
    left_out: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where misses are counted beside the expected ones.

    Attributes:
        labels: What `turnout label` wrote.
        least_confidence: Of a label that is taken, in [0, 1]. Evidence of less than 0.8 is called
            weighed, not strong: it errs, and for every policy alike.
        truth: Truth of a simulated log; taken in place of labels.
        datasets: What the routers were trained on. Evidence then counts only in conversations of
            test splits that no router saw in training.
        trained_on: The same, where the log may be another one: evidence counts in all
            conversations that no router saw in training.
    """

    labels: Path | None = None
    least_confidence: float = STRONG_CONFIDENCE
    truth: Path | None = None
    datasets: Sequence[Path] = ()
    trained_on: Sequence[Path] = ()

    @property
    def kind(self) -> EvidenceKind | None:
        """What it is; None where there is none."""
        if self.truth is not None:
            return "simulated truth"
        if self.labels is None:
            return None
        is_strong = self.least_confidence >= STRONG_CONFIDENCE
        return "strong evidence" if is_strong else "weighed evidence"

    @property
    def needs_training_data(self) -> bool:
        """Whether it is not said which conversations trained the routers."""
        return self.kind is not None and not (self.datasets or self.trained_on)

    def of(self, scored: Path, table: pa.Table) -> Needs | None:
        """What the turns of a log needed; None without evidence.

        Args:
            scored: A scored table.
            table: The same, read.

        Raises:
            ArtifactError: If a data set cannot be read.
            RecordError: If labels or truth cannot be read.
        """
        if self.truth is not None:
            codes = _true(table, self.truth)
        elif self.labels is not None:
            codes = _labelled(scored, self.labels, self.least_confidence)
        else:
            return None
        if self.datasets:
            codes[~_is_in(table["conversation_id"], _held_out(self.datasets))] = NO_LABEL
        seen = _is_in(table["conversation_id"], _seen(self.trained_on)) & (codes != NO_LABEL)
        codes[seen] = NO_LABEL
        return Needs(codes, int(seen.sum()))


def _true(table: pa.Table, truth: Path) -> NDArray[np.int8]:
    known = read_known_labels(truth)
    keys = zip(*(table[name].to_pylist() for name in TURN_KEYS), strict=True)
    return np.fromiter((known.get(key, NO_LABEL) for key in keys), np.int8, table.num_rows)


def _labelled(scored: Path, labels: Path, least_confidence: float) -> NDArray[np.int8]:
    backend = connect()
    with reading(labels, backend):
        sure = read_labels(backend, labels)
        sure = sure.filter(sure.confidence >= least_confidence)
        rows = backend.read_parquet(str(scored)).select(*TURN_KEYS)
        joined = rows.left_join(sure, list(TURN_KEYS)).select(*TURN_KEYS, "p_reasoning")
        column = backend.to_pyarrow(joined.order_by(*TURN_KEYS))["p_reasoning"]
    p = pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy()
    codes = np.where(p >= 0.5, LABEL_REASONING, LABEL_FAST)
    return np.where(np.isfinite(p), codes, NO_LABEL).astype(np.int8)


def training_data(router: Path) -> Path | None:
    """The data set that a router was trained on; None where it is not there, or has changed.

    Looked for where the router's manifest says, and beside the router.
    """
    for made_from in (read_manifest(router) or {}).get("inputs", {}).get("dataset", ()):
        named = Path(made_from["path"])
        for path in (named, router.absolute().parent / named.name):
            if path.is_dir() and tree_sha256(path) == made_from["sha256"]:
                return path
    return None


def _held_out(datasets: Sequence[Path]) -> set[str]:
    """Conversations of test splits, without those that another split of any data set has."""
    return _conversations(datasets, "test") - _seen(datasets)


def _seen(datasets: Sequence[Path]) -> set[str]:
    """Conversations that training or calibration saw."""
    return _conversations(datasets, "train") | _conversations(datasets, "validation")


def _conversations(datasets: Sequence[Path], split: str) -> set[str]:
    return {name for path in datasets for name in _conversations_of(path / f"{split}.parquet")}


def _conversations_of(split: Path) -> set[str]:
    try:
        column = pq.read_table(split, columns=["conversation_id"], partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{split}: not readable as a split of a data set ({error}); expected what `turnout "
            "build` wrote. Build it again."
        ) from error
    return set(column["conversation_id"].unique().to_pylist())


def _is_in(column: pa.ChunkedArray, names: set[str]) -> NDArray[np.bool_]:
    is_in = pc.is_in(column, value_set=pa.array(sorted(names), pa.string()))
    return np.asarray(is_in.to_numpy(), bool)
