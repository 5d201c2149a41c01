"""Ratios of sums over conversations, with intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from turnout.stats.bootstrap import LEVEL, Estimate

Floats = NDArray[np.float64]
Kind = Literal["difference", "amount", "share"]
_ENDS = {
    "difference": (-np.inf, np.inf), "amount": (0.0, np.inf), "share": (0.0, 1.0),
}  # fmt: skip


def ratio(numerators: Floats, denominators: Floats, kind: Kind = "difference") -> Estimate:
    """The ratio of two sums over independent conversations, such as USD a turn.

    A few long conversations may hold most of the turns. So the error is that of leaving out each
    conversation in turn, and the degrees of freedom are those of so many equally long
    conversations as would tell as much.

    Args:
        numerators: Of each conversation, shape `(c,)`. For a paired difference, those of one policy
            minus those of another on the same conversations.
        denominators: Of each conversation, shape `(c,)`, not negative.
        kind: The scale on which the interval is even: `amount` (at least 0) that of logarithms,
            `share` (in [0, 1]) that of logits. At the ends of a scale it is the plain one.

    Returns:
        The ratio with its 95 % interval; NaN where the denominators add up to 0, and without
        an interval where one conversation has all of them.

    Source:
        Quenouille (1956), "Notes on bias in estimation": the jackknife. Kish (1965), "Survey
        Sampling": the effective number of clusters. Korn and Graubard (1999), "Analysis of Health
        Surveys": intervals of a share on the scale of logits.
    """
    total, n = float(denominators.sum()), len(denominators)
    if not total:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(numerators.sum()) / total
    parts = denominators / total
    if parts.max() == 1:
        return Estimate(value, float("nan"), float("nan"))
    without_each = (numerators - value * denominators) / (1 - parts)
    error = float(np.sqrt((n - 1) / n * np.square(without_each).sum())) / total
    freedom = max(1.0, 1 / float(np.square(parts).sum()) - 1)
    reach = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    if kind == "amount" and value > 0:
        factor = float(np.exp(min(reach / value, 700.0)))
        return Estimate(value, value / factor, value * factor)
    if kind == "share" and 0 < value < 1:
        reach /= value * (1 - value)
        low, high = expit(logit(value) + np.array([-reach, reach])).tolist()
        return Estimate(value, low, high)
    return Estimate(value, value - reach, value + reach)


def inside(estimate: Estimate, kind: Kind) -> Estimate:
    """An estimate cut off where its kind ends; the truth is inside, so no interval loses it."""
    low, high = _ENDS[kind]
    ends = np.clip([estimate.value, estimate.low, estimate.high], low, high)
    return Estimate(*ends.tolist())


def all_or_none(share: float, conversations: float) -> Estimate:
    """A share of 0 or 1 that was seen in independent conversations.

    The sums do not vary, but few conversations still prove little.

    Args:
        share: 0 or 1.
        conversations: How many, or how many equally weighted ones would tell as much.

    Source:
        Clopper and Pearson (1934), "The use of confidence or fiducial limits".
    """
    reach = 1 - ((1 - LEVEL) / 2) ** (1 / conversations)
    return Estimate(1.0, 1 - reach, 1.0) if share else Estimate(0.0, 0.0, reach)
