"""The messages that a router decides on, as rows for histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.routing.message_facts import MessageFacts
from turnout.routing.reference import NAMED, SCORE, Bins
from turnout.stats.histograms import Histogram, histogram, posterior

Floats = NDArray[np.float64]

TURNS = "turns"


@dataclass(frozen=True, slots=True)
class TrafficRows:
    """n decisions.

    Attributes:
        conversations: The conversation of each, numbered from 0, shape `(n,)`.
        turn_counts: Turns of that conversation, shape `(n,)`; None where unknown.
        scores: Probabilities for the router's population, shape `(n,)`, in (0, 1).
        facts: Facts of the messages; None where texts are not stored.
        weights: How much each counts, shape `(n,)`.
        prior: The share of reasoning in the population of the scores.
    """

    conversations: NDArray[np.int64]
    turn_counts: Floats | None
    scores: Floats
    facts: MessageFacts | None
    weights: Floats
    prior: float

    def values(self, quantity: str) -> Sequence[str] | Floats | None:
        """A quantity of every row; None where it is not known."""
        if quantity == SCORE:
            return self.scores
        if quantity == TURNS:
            return self.turn_counts
        if self.facts is None:
            return None
        facts = self.facts
        values: dict[str, Sequence[str] | Floats] = {
            "length": facts.chars,
            "script": facts.script,
            "piece_chars": facts.piece_chars,
            "surprise": facts.surprise,
            "kind": [str(kind) for kind in facts.kind.tolist()],
        }
        return values[quantity]

    def weights_of(self, quantity: str) -> Floats:
        """The weight of every row; for the number of turns, each conversation counts once."""
        if quantity != TURNS:
            return self.weights
        rows = np.bincount(self.conversations)
        return np.asarray(self.weights / rows[self.conversations])

    def median(self, quantity: str) -> float | None:
        """The weighted median of a quantity, rounded to two digits so that it reveals no message.

        None for names, and where the quantity is not known.
        """
        values = self.values(quantity)
        if values is None or quantity in NAMED:
            return None
        numbers, weights = np.asarray(values, np.float64), self.weights_of(quantity)
        order = np.argsort(numbers, kind="stable")
        half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
        return float(f"{numbers[order][half]:.2g}")

    def counted(self, quantity: str, bins: Bins) -> Histogram | None:
        """The histogram of a quantity; None where it is not known."""
        values = self.values(quantity)
        if values is None:
            return None
        weights = self.weights_of(quantity)
        estimated = posterior(self.scores, self.prior, weights)
        return histogram(bins.of(values), len(bins), self.conversations, weights, estimated)
