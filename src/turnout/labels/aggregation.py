"""Votes → the probability that a turn needs reasoning, from the accuracy of each source.

Sources are assumed independent given the need, so that their log-odds add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from turnout.labels.evidence import SOURCES
from turnout.labels.vote_patterns import Votes
from turnout.stats.intervals import effective_trials

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# A source that is nearly always right on few votes is not certain.
_MAX_ACCURACY = 0.98
# The even prior counts as so many turns of known truth.
_PRIOR_TURNS = 50.0
# Strength of the pull towards no calibration, and enough steps to converge.
_RIDGE = 4.0
_NEWTON_STEPS = 25
_SMALL_STEP = 1e-9


def _log_odds(share: Floats) -> Floats:
    return np.asarray(np.log(share / (1 - share)))


@dataclass(frozen=True, slots=True)
class SourceAccuracies:
    """The accuracy of each source, and the weight of its votes.

    Attributes:
        accuracy: The assumed share of each source's votes that are right, shape `(s,)`.
        votes: The number of independent votes of known truth behind each accuracy, including the
            prior votes of the stated one; shape `(s,)`.
        log_odds: The weight of one vote of each source, shape `(s,)`.
        prior_log_odds: The log-odds of reasoning before any vote.
    """

    accuracy: Floats
    votes: Floats
    log_odds: Floats
    prior_log_odds: float = 0.0

    @property
    def prior(self) -> float:
        """The assumed share of turns that need reasoning, where no source votes."""
        return float(1 / (1 + np.exp(-self.prior_log_odds)))


# Which sources are people's labels.
_PEOPLE = np.asarray([source.code == "human" for source in SOURCES])
_STATED = np.asarray([source.accuracy for source in SOURCES])
STATED_ACCURACIES = SourceAccuracies(
    _STATED, np.asarray([source.prior_votes for source in SOURCES]), _log_odds(_STATED)
)


@dataclass(frozen=True, slots=True)
class CheckedVotes:
    """Counts of votes on turns whose truth is known.

    Attributes:
        votes: How many of each source, shape `(s,)`.
        right: Of them, those that are right, shape `(s,)`.
        independent: Their number as independent votes, shape `(s,)`; smaller than `votes`, as turns
            of one conversation resemble each other.
        turns: Turns whose truth is known.
        reasoning: Of them, those that need reasoning.
    """

    votes: Floats
    right: Floats
    independent: Floats
    turns: int
    reasoning: int


def check_votes(votes: Votes, truth: Votes, conversation: NDArray[np.int64]) -> CheckedVotes:
    """Compare votes with the truth.

    Args:
        votes: −1, 0 or +1, shape `(n, s)`.
        truth: 1 = needs reasoning, 0 = does not, −1 = not known; shape `(n,)`.
        conversation: A number for each turn's conversation, shape `(n,)`.
    """
    has_truth = truth >= 0
    voted = votes[has_truth] != 0
    right = voted & ((votes[has_truth] > 0) == (truth[has_truth] == 1)[:, None])
    cluster = np.unique(conversation[has_truth], return_inverse=True)[1].astype(np.int64)
    independent = [_independent(voted[:, s], right[:, s], cluster) for s in range(votes.shape[1])]
    return CheckedVotes(
        voted.sum(axis=0).astype(np.float64),
        right.sum(axis=0).astype(np.float64),
        np.asarray(independent),
        int(has_truth.sum()),
        int((truth == 1).sum()),
    )


def fitted_accuracies(checked: CheckedVotes) -> SourceAccuracies:
    """Estimate accuracies; where few turns have a known truth they stay near the stated ones."""
    stated = STATED_ACCURACIES
    accuracy = (checked.right + stated.votes * stated.accuracy) / (checked.votes + stated.votes)
    # A source right less than half the time is ignored: its votes never count for the other side.
    accuracy = np.clip(accuracy, 0.5, _MAX_ACCURACY)
    prior = (checked.reasoning + stated.prior * _PRIOR_TURNS) / (checked.turns + _PRIOR_TURNS)
    return SourceAccuracies(
        accuracy,
        stated.votes + checked.independent,
        _log_odds(accuracy),
        float(_log_odds(np.asarray(prior))),
    )


def calibrated(
    accuracies: SourceAccuracies, votes: Votes, truth: Votes, scaled: Flags
) -> SourceAccuracies:
    """Scale and shift the log-odds so that they are calibrated on turns of known truth.

    Sources are not quite independent, so the sum of their log-odds is over- or underconfident. With
    few known turns it changes little.

    Args:
        accuracies: Whose log-odds are scaled.
        votes: −1, 0 or +1, shape `(n, s)`.
        truth: 1 = needs reasoning, 0 = does not, −1 = not known; shape `(n,)`.
        scaled: The sources whose weights change, shape `(s,)`.

    Source:
        Platt (1999), "Probabilistic outputs for support vector machines".
    """
    rows = (truth >= 0) & (votes != 0).any(axis=1)
    z = accuracies.prior_log_odds + vote_weights(votes[rows], accuracies).sum(axis=1)
    x = np.stack([z, np.ones_like(z)], axis=1)
    line = _fitted_line(x, truth[rows].astype(np.float64))
    # Below 0, evidence for reasoning would count for fast.
    scale, shift = max(0.0, float(line[0])), float(line[1])
    return replace(
        accuracies,
        log_odds=np.where(scaled, scale, 1.0) * accuracies.log_odds,
        prior_log_odds=scale * accuracies.prior_log_odds + shift,
    )


def vote_weights(votes: Votes, accuracies: SourceAccuracies) -> Floats:
    """What each vote adds to the log-odds of reasoning, in nats, shape `(n, s)`.

    A vote adds the log-odds that it is right. People are taken at their word, whichever label is
    rare: their vote also takes the prior out again, so that alone it is as sure for reasoning as
    for fast.

    Source:
        Nitzan and Paroush (1982), "Optimal decision rules in uncertain dichotomous choice
        situations".
    """
    weights = votes * accuracies.log_odds
    weights -= accuracies.prior_log_odds * ((votes != 0) & _PEOPLE)
    return np.asarray(weights)


def probability(votes: Votes, accuracies: SourceAccuracies) -> Floats:
    """Probability that each turn needs reasoning, shape `(n,)`: the prior where nothing votes."""
    log_odds = accuracies.prior_log_odds + vote_weights(votes, accuracies).sum(axis=1)
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _fitted_line(x: Floats, truth: Floats) -> Floats:
    """Scale and shift of least log loss, by Newton steps that are halved while they overshoot."""
    identity = np.asarray([1.0, 0.0])

    def loss(line: Floats) -> float:
        z = x @ line
        penalty = _RIDGE / 2 * ((line - identity) ** 2).sum()
        return float((np.logaddexp(0, z) - truth * z).sum() + penalty)

    line = identity
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ line)))
        gradient = x.T @ (p - truth) + _RIDGE * (line - identity)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(line - step) > loss(line) and np.abs(step).max() > _SMALL_STEP:
            step = step / 2
        line = line - step
    return line


def _independent(voted: Flags, right: Flags, cluster: NDArray[np.int64]) -> float:
    """The number of independent votes, by the design effect.

    It is the number of conversations where all votes are right, or all are wrong.
    """
    n = np.bincount(cluster, weights=voted)
    r = np.bincount(cluster, weights=right)
    n, r = n[n > 0], r[n > 0]
    total, correct = n.sum(), r.sum()
    if len(n) < 2 or correct in (0.0, total):
        return float(len(n))
    deviation = ((r - correct / total * n) ** 2).sum() * len(n) / (len(n) - 1)
    return effective_trials(correct, total, deviation)
