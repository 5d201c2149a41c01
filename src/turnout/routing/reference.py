"""The traffic of the time when a router was trained: `reference.json` in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.errors import ArtifactError
from turnout.records import Population
from turnout.routing.message_facts import BUCKETS, DIRECTIONS, WordGroups
from turnout.stats.histograms import Histogram

REFERENCE_NAME = "reference.json"
REFERENCE_VERSION = 1
OTHER = "other"
_DIGITS = 6
_REMEDY = "Copy the folder again, or train again."

SCORE = "score"
# In the order of the report; all but the score are inputs.
QUANTITIES = ("length", "turns", "script", "piece_chars", "surprise", "kind", SCORE)
NAMED = ("script", "kind")  # the others are numbers


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of a quantity.

    Attributes:
        edges: For numbers: the least value of every bin but the first, in ascending order.
        names: For names: those with their own bin; all others share the last bin.
    """

    edges: tuple[float, ...] = ()
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.edges) + 1 if self.names is None else len(self.names) + 1

    def of(self, values: Sequence[str] | NDArray[np.generic]) -> NDArray[np.int64]:
        """The bin of every value, shape `(n,)`."""
        if self.names is None:
            bins = np.searchsorted(self.edges, np.asarray(values, np.float64), side="right")
            return bins.astype(np.int64)
        bin_of = {name: number for number, name in enumerate(self.names)}
        return np.array([bin_of.get(str(v), len(self.names)) for v in values], np.int64)

    def labels(self) -> list[str]:
        """Names of the bins, for a person."""
        if self.names is not None:
            return [*self.names, OTHER]
        if not self.edges:
            return ["all"]
        if all(edge * 2 == int(edge * 2) for edge in self.edges):
            # Edges between whole numbers: a bin is named by the whole numbers in it.
            starts = [math.ceil(edge) for edge in self.edges]
            middle = [
                f"{low:,}" if high == low + 1 else f"{low:,}–{high - 1:,}"
                for low, high in pairwise(starts)
            ]
            return [f"< {starts[0]:,}", *middle, f"≥ {starts[-1]:,}"]
        numbers = [f"{edge:.2g}" if edge < 1 else f"{edge:.3g}" for edge in self.edges]
        middle = [f"{low}–{high}" for low, high in pairwise(numbers)]
        return [f"< {numbers[0]}", *middle, f"≥ {numbers[-1]}"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity of the traffic.

    Attributes:
        bins: Its bins.
        histogram: The reference's rows in them.
        median: For numbers; None for names.
    """

    bins: Bins
    histogram: Histogram
    median: float | None


@dataclass(frozen=True, slots=True)
class Reference:
    """The traffic that new traffic is compared with; no message can be read from it.

    Attributes:
        source: `traffic`, a sample of the log as it is; or `validation`, the data set's validation
            rows, where it stores no such sample. None of them trained the router.
        rows: The number of decisions.
        conversations: The number of their conversations.
        population: The messages that scores are probabilities for.
        words: The groups of words.
        quantities: Name → quantity.
    """

    source: str
    rows: int
    conversations: int
    population: Population
    words: WordGroups
    quantities: Mapping[str, Quantity]

    def to_json(self) -> dict[str, Any]:
        """As it is stored; numbers have six digits."""
        return {
            "version": REFERENCE_VERSION,
            "source": self.source,
            "rows": self.rows,
            "conversations": self.conversations,
            "population": self.population,
            "words": {
                "surprise": self.words.surprise.tolist(),
                "centres": self.words.centres.tolist(),
            },
            "quantities": {name: _quantity(q) for name, q in self.quantities.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], where: str) -> Reference:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: If it is of another version or form; `where` names the file.
        """
        version = stored.get("version")
        if version != REFERENCE_VERSION:
            raise ArtifactError(
                f"{where}: reference version {version!r}; expected {REFERENCE_VERSION}. Use the "
                "Turnout version that trained the router, or train it again."
            )
        try:
            words = WordGroups(
                np.asarray(stored["words"]["surprise"], np.float64).reshape(BUCKETS),
                np.asarray(stored["words"]["centres"], np.float64).reshape(-1, DIRECTIONS),
            )
            return cls(
                source=str(stored["source"]),
                rows=int(stored["rows"]),
                conversations=int(stored["conversations"]),
                population=stored["population"],
                words=words,
                quantities={
                    name: _read_quantity(stored["quantities"][name]) for name in QUANTITIES
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{where}: not in the form of a router's reference ({error!r}); expected what "
                f"`turnout train` writes. {_REMEDY}"
            ) from error


def write_reference(folder: Path, reference: Reference) -> None:
    """Write `reference.json` into a router folder that is being made."""
    text = json.dumps(reference.to_json(), separators=(",", ":"), sort_keys=True) + "\n"
    (folder / REFERENCE_NAME).write_text(text, encoding="utf-8")


def read_reference(folder: Path) -> Reference:
    """The reference of a verified router folder.

    Raises:
        ArtifactError: If the folder has none, or it cannot be read.
    """
    path = folder / REFERENCE_NAME
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: has no {REFERENCE_NAME}; expected the traffic of the time when the router "
            "was trained. An earlier version of Turnout trained it: build the data set and train "
            "the router again."
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not readable as JSON ({error}); expected a router's reference. {_REMEDY}"
        ) from error
    return Reference.from_json(stored if isinstance(stored, dict) else {}, str(path))


def _quantity(quantity: Quantity) -> dict[str, Any]:
    bins, histogram = quantity.bins, quantity.histogram
    stored = {"edges": list(bins.edges)} if bins.names is None else {"names": list(bins.names)}
    return stored | {
        "reasoning": _stored(histogram.reasoning),
        "fast": _stored(histogram.fast),
        "prior": histogram.prior,
        "clusters": histogram.clusters,
        "median": quantity.median,
        "covariance": [_stored(row) for row in histogram.covariance],
    }


def _read_quantity(stored: Mapping[str, Any]) -> Quantity:
    names = stored.get("names")
    edges = tuple(map(float, stored.get("edges", ())))
    bins = Bins(edges, None if names is None else tuple(map(str, names)))
    k = len(bins)
    histogram = Histogram(
        np.asarray(stored["reasoning"], np.float64).reshape(k),
        np.asarray(stored["fast"], np.float64).reshape(k),
        float(stored["prior"]),
        np.asarray(stored["covariance"], np.float64).reshape(2 * k + 1, 2 * k + 1),
        int(stored["clusters"]),
    )
    median = stored["median"]
    return Quantity(bins, histogram, None if median is None else float(median))


def _stored(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]
