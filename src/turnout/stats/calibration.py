"""How far scores are from probabilities, chance told apart from error; knows no router, no part.

The expected calibration error is never below what chance gives: few rows in a bin stray from their
score even where the score is right. So it stands beside the level that chance alone gives, and
beside an estimate with chance taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.stats import metrics
from turnout.stats.bootstrap import TAILS, Estimate, Resampling

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of scores on some rows.

    Attributes:
        rows: How many.
        ece: Mean |score − observed share| over bins of equal mass, biased upwards by chance.
        chance: What a perfect score stays under with 95 % probability on as many rows.
        debiased: Root mean square of score − observed share over the same bins, the sampling
            variance taken out. Without chance it is never less than the mean that `ece` stands for.
    """

    rows: int
    ece: Estimate
    chance: float
    debiased: Estimate


def calibration(
    scores: Floats, positive: NDArray[np.bool_], resampling: Resampling, seed: int
) -> Calibration:
    """Measure the calibration of n scores.

    Args:
        scores: Shape `(n,)`.
        positive: Rows that need reasoning, shape `(n,)`.
        resampling: Of these n rows.
        seed: Decides what chance is measured on.
    """
    return Calibration(
        rows=len(scores),
        ece=resampling.estimate(lambda w: metrics.expected_calibration_error(scores, positive, w)),
        chance=metrics.perfect_calibration_error(scores, seed),
        debiased=_debiased(scores, positive, resampling),
    )


def _debiased(scores: Floats, positive: NDArray[np.bool_], resampling: Resampling) -> Estimate:
    """Each bin's squared gap less its variance over resamplings, which knows of conversations.

    A resampling strays from the rows as the rows stray from the truth, so a draw's squared gap has
    the variance twice.

    Source:
        Kumar, Liang and Ma (2019), "Verified uncertainty calibration".
    """
    bins = metrics.calibration_bins(scores)
    member = np.zeros((len(scores), len(bins)))
    for at, rows in enumerate(bins):
        member[rows, at] = 1.0
    surplus = (scores - positive)[:, None] * member

    def gaps(weights: Floats) -> Floats:
        mass = weights @ member  # (b, k)
        return np.divide(weights @ surplus, mass, out=np.zeros_like(mass), where=mass > 0)

    points, draws = resampling.draws(gaps)
    variance = draws.var(axis=0)
    mass = member.mean(axis=0)
    square = float(mass @ (points**2 - variance))
    low, high = np.quantile((draws**2 - 2 * variance) @ mass, TAILS)
    return Estimate(*(float(np.sqrt(max(0.0, value))) for value in (square, low, high)))
