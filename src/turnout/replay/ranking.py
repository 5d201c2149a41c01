"""Compares scorers on the same turns: how well each tells which turns need reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.records import LABEL_REASONING
from turnout.replay.columns import Floats
from turnout.replay.evidence import NO_LABEL
from turnout.replay.log import ScoredLog
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import auroc

# Fewer known turns of a class rank nothing.
MIN_TURNS_A_CLASS = 30
# Resampling takes whole conversations of about so many turns, drawn at random.
_MOST_TURNS = 20_000


@dataclass(frozen=True, slots=True)
class Ranked:
    """One scorer.

    Attributes:
        name: `session, pinned` (a conversation keeps its first turn's score), `conversation`, or
            what routers are compared with.
        auroc: Area under the ROC curve.
        ahead: How far the first scorer is ahead of this one, paired.
    """

    name: str
    auroc: Estimate
    ahead: Estimate


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scorers on the same turns.

    Attributes:
        turns: Turns whose need is known by evidence.
        reasoning: Of them, those that need reasoning.
        conversations: Of so many conversations.
        rows: The scorers; the conversation router first where there is one.
    """

    turns: int
    reasoning: int
    conversations: int
    rows: list[Ranked]


def ranking_of(log: ScoredLog, trivial: Mapping[str, NDArray[np.float32]]) -> Ranking | None:
    """Rank scorers by evidence; None where too few turns of a class are known.

    Args:
        log: A log with evidence.
        trivial: Name → scores, shape `(n,)`, of what is compared too.
    """
    if log.labels is None:
        return None
    lengths = np.diff(log.turns.starts)
    of_turn = np.repeat(np.arange(len(lengths)), lengths)
    known = np.flatnonzero(log.labels != NO_LABEL)
    known = known[np.isin(of_turn[known], _drawn(of_turn[known]))]
    needs = log.labels[known] == LABEL_REASONING
    if min(needs.sum(), (~needs).sum()) < MIN_TURNS_A_CLASS:
        return None
    scorers: dict[str, Floats] = {}
    if "conversation" in log.scores:
        scorers["conversation"] = log.scores["conversation"].astype(np.float64)
    if "session" in log.scores:
        first = log.scores["session"][log.turns.starts[:-1]]
        scorers["session, pinned"] = np.repeat(first, lengths).astype(np.float64)
    scorers |= {name: scores.astype(np.float64) for name, scores in trivial.items()}

    def aurocs(weights: Floats) -> Floats:
        of = np.stack([auroc(s[known], needs, weights) for s in scorers.values()], axis=1)
        return np.concatenate([of, of[:, :1] - of], axis=1)

    clusters = of_turn[known].astype(str).tolist()
    estimates = Resampling(clusters).estimates(aurocs)
    k = len(scorers)
    rows = [
        Ranked(name, estimates[number], estimates[k + number])
        for number, name in enumerate(scorers)
    ]
    return Ranking(len(known), int(needs.sum()), len(set(clusters)), rows)


def _drawn(conversation_of_known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Conversations with about the most turns that are resampled."""
    names, counts = np.unique(conversation_of_known, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(counts[order]), _MOST_TURNS)) + 1
    drawn: NDArray[np.int64] = names[order[:enough]]
    return drawn
