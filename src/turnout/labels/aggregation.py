"""Votes → a probability, and how far each source is trusted; knows no log and no source's meaning.

Sources are taken as independent given the need, so the log-odds that each is right add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from turnout.labels.evidence import SOURCES

Floats = NDArray[np.float64]
Votes = NDArray[np.int8]
Flags = NDArray[np.bool_]

# A source that is nearly always right on few votes is not certain.
_MAX_ACCURACY = 0.98
# How many turns of known truth the belief in an even prior is worth.
_PRIOR_WEIGHT = 50.0
# How strongly a calibration is held near none, and enough steps to find it.
_RIDGE = 4.0
_NEWTON_STEPS = 25
_SMALL_STEP = 1e-9


def _log_odds(share: Floats) -> Floats:
    return np.asarray(np.log(share / (1 - share)))


@dataclass(frozen=True, slots=True)
class Trust:
    """How far evidence is trusted.

    Attributes:
        accuracy: How often each source is right, shape `(s,)`.
        votes: How many independent votes of known truth each accuracy rests on, the belief's own
            worth among them; shape `(s,)`.
        log_odds: What one vote of each source weighs, shape `(s,)`.
        prior_log_odds: What stands before any vote.
    """

    accuracy: Floats
    votes: Floats
    log_odds: Floats
    prior_log_odds: float = 0.0

    @property
    def prior(self) -> float:
        """Share of turns taken to need reasoning where nothing votes."""
        return float(1 / (1 + np.exp(-self.prior_log_odds)))


_ACCURACY = np.asarray([source.accuracy for source in SOURCES])
BELIEF = Trust(_ACCURACY, np.asarray([source.weight for source in SOURCES]), _log_odds(_ACCURACY))


@dataclass(frozen=True, slots=True)
class Record:
    """How votes did where the truth is known.

    Attributes:
        votes: How many of each source meet the truth, shape `(s,)`.
        right: Of them, those that are right, shape `(s,)`.
        independent: What they are worth as independent votes, shape `(s,)`: turns of one
            conversation resemble each other.
        turns: Turns whose truth is known.
        reasoning: Of them, those that need reasoning.
    """

    votes: Floats
    right: Floats
    independent: Floats
    turns: int
    reasoning: int


def record(cast: Votes, truth: Votes, conversation: NDArray[np.int64]) -> Record:
    """Compare votes with the truth.

    Args:
        cast: Votes, shape `(n, s)`.
        truth: 1 = needs reasoning, 0 = does not, −1 = not known; shape `(n,)`.
        conversation: A number for each turn's conversation, shape `(n,)`.

    Source:
        Kish (1965), "Survey Sampling": the design effect, the variance of a share over clusters by
        that of a simple sample.
    """
    known = truth >= 0
    spoken = cast[known] != 0
    right = spoken & ((cast[known] > 0) == (truth[known] == 1)[:, None])
    place = np.unique(conversation[known], return_inverse=True)[1].astype(np.int64)
    n = spoken.sum(axis=0).astype(np.float64)
    r = right.sum(axis=0).astype(np.float64)
    independent = np.asarray(
        [_independent(spoken[:, s], right[:, s], place) for s in range(cast.shape[1])]
    )
    return Record(n, r, independent, int(known.sum()), int((truth == 1).sum()))


def fit(found: Record) -> Trust:
    """Estimate how often sources are right, held near the belief where known turns are few."""
    accuracy = (found.right + BELIEF.votes * BELIEF.accuracy) / (found.votes + BELIEF.votes)
    # Evidence may be weak, never perverse: a source below a coin's chance would vote the other way.
    # Evidence may be weak, never perverse: a source below a coin's chance would vote the other way.
    accuracy = np.clip(accuracy, 0.5, _MAX_ACCURACY)
    prior = (found.reasoning + BELIEF.prior * _PRIOR_WEIGHT) / (found.turns + _PRIOR_WEIGHT)
    return Trust(
        accuracy,
        BELIEF.votes + found.independent,
        _log_odds(accuracy),
        float(_log_odds(np.asarray(prior))),
    )


def calibrated(trust: Trust, cast: Votes, truth: Votes, scaled: Flags) -> Trust:
    """Scale and shift the log-odds to what they turned out to mean on turns of known truth.

    Sources are not quite independent, so their sum is too sure or not sure enough. Held near what
    it was where known turns are few.

    Args:
        trust: What is scaled.
        cast: Votes, shape `(n, s)`.
        truth: 1 = needs reasoning, 0 = does not, −1 = not known; shape `(n,)`.
        scaled: The sources whose weights change, shape `(s,)`.

    Source:
        Platt (1999), "Probabilistic outputs for support vector machines".
    """
    rows = (truth >= 0) & (cast != 0).any(axis=1)
    z = trust.prior_log_odds + cast[rows] @ trust.log_odds
    x = np.stack([z, np.ones_like(z)], axis=1)
    found = _fitted_line(x, truth[rows].astype(np.float64))
    # Below 0 evidence would speak for its opposite.
    scale, shift = max(0.0, float(found[0])), float(found[1])
    return replace(
        trust,
        log_odds=np.where(scaled, scale, 1.0) * trust.log_odds,
        prior_log_odds=scale * trust.prior_log_odds + shift,
    )


def probability(cast: Votes, trust: Trust) -> Floats:
    """Probability that each turn needs reasoning, shape `(n,)`: the prior where nothing votes.

    Source:
        Nitzan and Paroush (1982), "Optimal decision rules in uncertain dichotomous choice
        situations": a vote's weight is the log-odds that it is right.
    """
    return np.asarray(1 / (1 + np.exp(-(trust.prior_log_odds + cast @ trust.log_odds))))


def _fitted_line(x: Floats, truth: Floats) -> Floats:
    """Scale and shift of least log loss, by Newton's steps, halved while they overshoot."""
    identity = np.asarray([1.0, 0.0])

    def loss(line: Floats) -> float:
        z = x @ line
        held = _RIDGE / 2 * ((line - identity) ** 2).sum()
        return float((np.logaddexp(0, z) - truth * z).sum() + held)

    found = identity
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ found)))
        slope = x.T @ (p - truth) + _RIDGE * (found - identity)
        bend = (x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(2)
        step = np.linalg.solve(bend, slope)
        while loss(found - step) > loss(found) and np.abs(step).max() > _SMALL_STEP:
            step = step / 2
        found = found - step
    return found


def _independent(spoken: Flags, right: Flags, place: NDArray[np.int64]) -> float:
    """Votes by their design effect; the number of conversations where all are right or wrong."""
    n = np.bincount(place, weights=spoken)
    r = np.bincount(place, weights=right)
    n, r = n[n > 0], r[n > 0]
    total, share = n.sum(), r.sum() / max(1.0, n.sum())
    if len(n) < 2 or share in (0.0, 1.0):
        return float(len(n))
    between = ((r - share * n) ** 2).sum() * len(n) / (len(n) - 1)
    simple = total * share * (1 - share)
    return float(total * min(1.0, simple / between)) if between > 0 else float(total)
