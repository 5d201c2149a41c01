"""Intervals of counted shares, also where trials come in clusters."""

from __future__ import annotations

import math

NORMAL_975 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share seen in `n` independent trials; (0, 1) where there are none.

    Args:
        share: In [0, 1].
        n: May be a fraction: an effective number of trials.

    Source:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    total = n + NORMAL_975**2
    centre = (share * n + NORMAL_975**2 / 2) / total
    half = NORMAL_975 / total * math.sqrt(n * share * (1 - share) + NORMAL_975**2 / 4)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def effective_trials(count: float, trials: float, deviation: float) -> float:
    """The number of independent trials that would vary as much as these clustered ones do.

    It is at most `trials`, and equal to `trials` where nothing varies.

    Args:
        count: Trials on which something happened.
        trials: All of them.
        deviation: Sum over clusters of (a cluster's count − share × its trials)².

    Source:
        Kish (1965), "Survey Sampling": the design effect, the variance of a share over clusters by
        that of a simple sample.
    """
    if not 0 < count < trials or deviation <= 0:
        return float(trials)
    share = count / trials
    return min(float(trials), share * (1 - share) * trials**2 / deviation)
