"""The share of unlabelled messages that need reasoning, from their scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.stats.bootstrap import Estimate
from turnout.stats.intervals import NORMAL_975

Floats = NDArray[np.float64]

_MAX_GROUPS = 1_000
_MAX_LOG_RATIO = 60.0
_HALVINGS = 40  # to 1e-12


def estimated_prior(scores: NDArray[np.floating[Any]], prior: float) -> Estimate:
    """The share of reasoning among messages without labels, estimated from their scores.

    It assumes that the scores are calibrated, and that the messages of each class look the same
    here and in the population of the scores. The interval is the normal one of a
    maximum-likelihood estimate, for independent messages.

    Args:
        scores: Probabilities for one population, shape `(n,)`, in (0, 1); at least one.
        prior: The share of reasoning in that population, in (0, 1).

    Returns:
        In [0, 1].
    """
    ratios = log_ratios(scores, prior)
    if np.allclose(ratios, 0.0):  # every share is as likely
        return Estimate(prior, 0.0, 1.0)
    share = float(prior_shares(ratios, np.ones((1, len(ratios))))[0])
    gain = np.expm1(ratios)
    half = NORMAL_975 / math.sqrt(float(np.sum((gain / (1.0 + share * gain)) ** 2)))
    return Estimate(share, max(0.0, share - half), min(1.0, share + half))


def log_ratios(scores: NDArray[np.floating[Any]], prior: float) -> Floats:
    """How much more likely rows are among those that need reasoning than among the others.

    Args:
        scores: Probabilities for one population, shape `(n,)`, in (0, 1).
        prior: The share of reasoning in that population, in (0, 1).

    Returns:
        As a logarithm, shape `(n,)`, in [−60, 60]: log-odds of the score less those of the share.
    """
    exact = np.asarray(scores, np.float64)
    ratios = np.log(exact) - np.log1p(-exact) - math.log(prior) + math.log1p(-prior)
    return np.clip(ratios, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)


def prior_shares(ratios: Floats, weights: Floats) -> Floats:
    """The most likely share of positive rows, for every row of weights.

    It is the share to which expectation maximisation converges. Its likelihood is concave, so its
    slope is halved to zero instead.

    Args:
        ratios: See `log_ratios`; shape `(n,)`.
        weights: Shape `(b, n)`, a resampling a row.

    Returns:
        Shape `(b,)`, in [0, 1].

    Source:
        Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new a
        priori probabilities", section 2.2.
    """
    order = np.argsort(ratios, kind="stable")
    starts = np.unique(np.linspace(0, len(order), _MAX_GROUPS, endpoint=False).astype(int))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)  # (b, g)
    sums = np.add.reduceat(ratios[order], starts)
    gain = np.expm1(sums / np.diff(np.append(starts, len(order))))  # (g,)
    low, high = np.zeros(len(weights)), np.ones(len(weights))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = (mass * (gain / (1.0 + middle[:, None] * gain))).sum(1)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return (low + high) / 2
