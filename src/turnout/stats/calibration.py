"""The calibration error of scores, and how much of it chance alone explains.

With few rows in a bin, the observed share differs from the mean score by chance, even where the
scores are right. So the error is given with the level that chance alone reaches, and with an
estimate from which chance is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.stats.bootstrap import TAILS, Estimate, Resampling

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_BINS = 15
MIN_BINS = 5
ROWS_PER_BIN = 50
_CHANCE_DRAWS = 500


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of scores on some rows.

    Attributes:
        rows: How many.
        ece: Mean |score − observed share| over bins of equal mass, biased upwards by chance.
        chance: The `ece` that a perfect score does not exceed with 95 % probability on these rows.
        debiased: Root mean square of score − observed share over the same bins, less the sampling
            variance. Without chance it is at least `ece`, as a root mean square is at least a mean.
    """

    rows: int
    ece: Estimate
    chance: float
    debiased: Estimate


def calibration(
    scores: Floats,
    positive: Bools,
    resampling: Resampling,
    seed: int,
    weights: Floats | None = None,
) -> Calibration:
    """Measure the calibration of n scores.

    Args:
        scores: Shape `(n,)`.
        positive: Rows that need reasoning, shape `(n,)`.
        resampling: Of these n rows.
        seed: Decides what chance is measured on.
        weights: How much each row counts, shape `(n,)`; by default all the same.
    """
    row_weights = np.ones(len(scores)) if weights is None else weights
    return Calibration(
        rows=len(scores),
        ece=resampling.estimate(
            lambda draws: expected_calibration_error(scores, positive, draws * row_weights)
        ),
        chance=_chance_error(scores, seed, row_weights),
        debiased=_debiased(scores, positive, resampling, row_weights),
    )


def calibration_error(scores: Floats, positive: Bools, weights: Floats | None = None) -> float:
    """The expected calibration error of n scores, in [0, 1].

    Args:
        scores: Shape `(n,)`.
        positive: Rows that need reasoning, shape `(n,)`.
        weights: How much each row counts, shape `(n,)`; by default all the same.
    """
    row_weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    return float(expected_calibration_error(scores, positive, row_weights[None])[0])


def expected_calibration_error(scores: Floats, positive: Bools, weights: Floats) -> Floats:
    """Mean |score − observed share| over bins of equal mass of these rows.

    It is biased upwards where rows are few: even a perfect score has some error. See
    `Calibration.chance`.

    Args:
        scores: Shape `(n,)`.
        positive: Rows that need reasoning, shape `(n,)`.
        weights: Shape `(b, n)`, a resampling a row.

    Returns:
        Shape `(b,)`; NaN where the weights of a resampling add up to 0.

    Source:
        Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using
        Bayesian binning".
    """
    total = np.zeros(len(weights))
    for rows in _bins(scores):
        total += np.abs(weights[:, rows] @ (scores[rows] - positive[rows]))
    mass = weights.sum(1)
    return np.asarray(np.divide(total, mass, out=np.full(len(mass), np.nan), where=mass > 0))


def equal_mass_bins(scores: Floats, n_bins: int) -> list[NDArray[np.intp]]:
    """Row numbers of bins of equal mass, by rising score; rows of one score stay together."""
    order = np.argsort(scores, kind="stable")
    edges = np.linspace(0, len(scores), min(n_bins, len(scores)) + 1).astype(int)[1:-1]
    starts = np.searchsorted(scores[order], scores[order][edges], side="left")
    return [rows for rows in np.split(order, np.unique(starts)) if len(rows)]


def _bins(scores: Floats) -> list[NDArray[np.intp]]:
    """Bins of equal mass; fewer of them where rows are few."""
    n_bins = int(np.clip(len(scores) // ROWS_PER_BIN, MIN_BINS, MAX_BINS))
    return equal_mass_bins(scores, n_bins)


def _chance_error(scores: Floats, seed: int, weights: Floats) -> float:
    """The error that a perfectly calibrated score stays under in 95 % of draws of its outcomes.

    Source:
        Bröcker and Smith (2007), "Increasing the reliability of reliability diagrams".
    """
    outcomes = np.random.default_rng(seed).random((_CHANCE_DRAWS, len(scores))) < scores
    total = np.zeros(len(outcomes))
    for rows in _bins(scores):
        total += np.abs((scores[rows] - outcomes[:, rows]) @ weights[rows])
    return float(np.quantile(total / weights.sum(), 0.95))


def _debiased(scores: Floats, positive: Bools, resampling: Resampling, weights: Floats) -> Estimate:
    """Each bin's squared gap less its variance over resamplings of conversations.

    A resampling varies around the rows as the rows vary around the truth, so a squared gap of a
    resampling contains the variance twice.

    Source:
        Kumar, Liang and Ma (2019), "Verified uncertainty calibration".
    """
    bins = _bins(scores)
    member = np.zeros((len(scores), len(bins)))
    for number, rows in enumerate(bins):
        member[rows, number] = weights[rows]
    surplus = (scores - positive)[:, None] * member

    def gaps(draws: Floats) -> Floats:
        mass = draws @ member  # (b, k)
        return np.divide(draws @ surplus, mass, out=np.zeros_like(mass), where=mass > 0)

    points, draws = resampling.draws(gaps)
    variance = draws.var(axis=0)
    mass = member.sum(axis=0) / weights.sum()
    square = float(mass @ (points**2 - variance))
    low, high = np.quantile((draws**2 - 2 * variance) @ mass, TAILS)
    return Estimate(*(float(np.sqrt(max(0.0, value))) for value in (square, low, high)))
