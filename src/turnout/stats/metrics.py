"""Ranking and decision metrics of scores, computed for many resamplings at once.

Every metric takes weights of shape `(b, n)`, a resampling a row, and gives shape `(b,)`. A
resampling in which a metric is undefined gives NaN. `positive` marks the rows that need reasoning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Shares of traffic sent to the reasoning class at which the cost–quality curve is drawn.
SHARES: Floats = np.linspace(0.0, 1.0, 41)


def auroc(scores: Floats, positive: Bools, weights: Floats) -> Floats:
    """Area under the ROC curve; a tie counts half."""
    steps = _by_score(scores)
    hits = _summed(weights * positive, steps)  # (b, g)
    misses = _summed(weights * ~positive, steps)
    below = np.cumsum(misses, axis=1) - misses
    return _ratio((hits * (below + misses / 2)).sum(1), hits.sum(1) * misses.sum(1))


def brier(scores: Floats, positive: Bools, weights: Floats) -> Floats:
    """Mean squared difference of score and outcome (Brier 1950); lower is better."""
    return _ratio(weights @ (scores - positive) ** 2, weights.sum(1))


def share(sent: Bools, weights: Floats) -> Floats:
    """Share of rows that are sent to the reasoning class."""
    return _ratio(weights @ sent.astype(float), weights.sum(1))


def recall(sent: Bools, positive: Bools, weights: Floats) -> Floats:
    """Of the rows that need reasoning, the share that is sent to the reasoning class."""
    return share(sent, weights * positive)


def recovered(scores: Floats, gain: Floats, weights: Floats) -> Floats:
    """The cost–quality curve, shape `(b, len(SHARES))`.

    For every share of traffic sent to the reasoning class, highest scores first: the part of the
    total gain that this traffic has. Rows of equal score enter together, in proportion.

    Args:
        scores: Shape `(n,)`.
        gain: Shape `(n,)`: what reasoning adds to a row: its gap, or 1 where it is needed.
        weights: Shape `(b, n)`.
    """
    steps = _by_score(-scores)
    traffic = np.cumsum(_summed(weights, steps), axis=1)
    gained = np.cumsum(_summed(weights * gain, steps), axis=1)
    curves = np.full((len(weights), len(SHARES)), np.nan)
    for row, (x, y) in enumerate(zip(traffic, gained, strict=True)):
        if x[-1] > 0 and y[-1] != 0:
            curves[row] = np.interp(SHARES, np.r_[0, x / x[-1]], np.r_[0, y / y[-1]])
    return curves


def apgr(scores: Floats, gap: Floats, weights: Floats) -> Floats:
    """Average performance gap recovered: the area under `recovered`; random order has 0.5.

    Source:
        Ong et al. (2024), "RouteLLM: learning to route LLMs with preference data", section 3.
    """
    return area(recovered(scores, gap, weights))


def area(curves: Floats) -> Floats:
    """The area under curves of `recovered`."""
    return np.asarray(np.trapezoid(curves, SHARES, axis=1))


def share_for(curves: Floats, target: float) -> Floats:
    """The least share of traffic at which a curve of `recovered` reaches `target`."""
    reached = curves >= target
    first = np.argmax(reached, axis=1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(len(curves))
    low, high = curves[rows, before], curves[rows, first]
    part = np.divide(target - low, high - low, out=np.ones_like(low), where=high > low)
    shares = SHARES[before] + part * (SHARES[first] - SHARES[before])
    return np.where(reached.any(axis=1), shares, np.nan)


def _by_score(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order by rising score, and where each distinct score starts in it."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])


def _summed(values: Floats, steps: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Floats:
    """Sums over rows of one score, shape `(b, g)`."""
    order, starts = steps
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result
