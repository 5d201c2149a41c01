"""Ratios of sums over conversations, with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from turnout.stats.bootstrap import LEVEL, Estimate

Floats = NDArray[np.float64]


def ratio(numerators: Floats, denominators: Floats) -> Estimate:
    """The ratio of two sums over independent conversations, such as USD a turn.

    Args:
        numerators: Of each conversation, shape `(c,)`. For a paired difference, those of one policy
            minus those of another on the same conversations.
        denominators: Of each conversation, shape `(c,)`.

    Returns:
        The ratio with its 95 % interval; NaN where the denominators add up to 0, and without
        an interval where there is only one conversation.

    Source:
        Cochran (1977), "Sampling techniques", section 6.4: the linearised variance of a ratio.
    """
    total, n = float(denominators.sum()), len(denominators)
    if not total:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(numerators.sum()) / total
    if n < 2:
        return Estimate(value, float("nan"), float("nan"))
    residuals = numerators - value * denominators
    error = float(np.sqrt(n / (n - 1) * np.square(residuals).sum())) / total
    reach = float(student.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Estimate(value, value - reach, value + reach)
