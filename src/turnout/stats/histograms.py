"""Histograms of rows in clusters, and a test of whether two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.stats.bootstrap import LEVEL
from turnout.stats.prior import log_ratios, prior_shares

Floats = NDArray[np.float64]

_LEAST_PRIOR = 0.01
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Posterior:
    """The estimated share of reasoning among some rows, and each row's probability of needing it.

    Attributes:
        prior: The share, in [0.01, 0.99].
        of_row: Probability that a row needs reasoning, shape `(n,)`.
        influence: How a row moves `prior`, shape `(n,)`; its weighted mean is 0.
    """

    prior: float
    of_row: Floats
    influence: Floats


def posterior(scores: NDArray[np.floating[Any]], prior: float, weights: Floats) -> Posterior:
    """Estimate the share of reasoning from scores.

    Args:
        scores: Probabilities for one population, shape `(n,)`, in (0, 1); at least one.
        prior: The share of reasoning in that population, in (0, 1).
        weights: How much each row counts, shape `(n,)`.

    Source:
        Saerens, Latinne and Decaestecker (2002), section 2.2; see `stats.prior`.
    """
    exact = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    ratios = log_ratios(exact, prior)
    gain = np.expm1(ratios)
    scores_differ = bool(np.ptp(ratios) > 0)
    share = float(prior_shares(ratios, weights[None])[0]) if scores_differ else prior
    share = min(max(share, _LEAST_PRIOR), 1 - _LEAST_PRIOR)
    slope = gain / (1 + share * gain)
    information = float(np.average(slope**2, weights=weights))
    influence = slope / information if information > 0 else np.zeros_like(slope)
    return Posterior(share, share * (1 + gain) / (1 + share * gain), influence)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of rows in k bins, split by whether they need reasoning.

    Attributes:
        reasoning: Share of all rows that lie in a bin and need reasoning, shape `(k,)`.
        fast: Share of all rows that lie in a bin and do not need it, shape `(k,)`.
        prior: The estimated share of reasoning.
        covariance: Of `reasoning`, `fast` and `prior`, in this order, shape `(2k + 1, 2k + 1)`;
            over clusters.
        clusters: How many.
    """

    reasoning: Floats
    fast: Floats
    prior: float
    covariance: Floats
    clusters: int

    @property
    def shares(self) -> Floats:
        """Share of all rows in each bin, shape `(k,)`."""
        return np.asarray(self.reasoning + self.fast)

    def merged(self, groups: Floats) -> Histogram:
        """The histogram over m coarser bins; `groups[i, j]`: the part of j that goes to i."""
        m, k = groups.shape
        merge = np.zeros((2 * m + 1, 2 * k + 1))
        merge[:m, :k] = merge[m : 2 * m, k : 2 * k] = groups
        merge[-1, -1] = 1
        return Histogram(
            groups @ self.reasoning,
            groups @ self.fast,
            self.prior,
            merge @ self.covariance @ merge.T,
            self.clusters,
        )


def histogram(
    bins: NDArray[np.int64],
    n_bins: int,
    clusters: NDArray[np.int64],
    weights: Floats,
    estimated: Posterior,
) -> Histogram:
    """Count rows by bin.

    Args:
        bins: The bin of every row, shape `(n,)`, in [0, `n_bins`).
        n_bins: How many bins there are.
        clusters: The conversation of every row, shape `(n,)`, numbered from 0.
        weights: How much every row counts, shape `(n,)`.
        estimated: Of the same rows.

    Source:
        Binder (1983), "On the variances of asymptotically normal estimators from complex surveys":
        linearised covariance of ratios over clusters.
    """
    n_clusters = int(clusters.max()) + 1
    total = weights.sum()
    need = {0: estimated.of_row, 1: 1 - estimated.of_row}
    sums = np.zeros((n_clusters, 2 * n_bins + 1))
    for half, part in need.items():
        np.add.at(sums, (clusters, half * n_bins + bins), weights * part)
    cells = sums.sum(0) / total
    rows = np.bincount(clusters, weights, n_clusters)
    sums -= rows[:, None] * cells
    sums[:, -1] = np.bincount(clusters, weights * estimated.influence, n_clusters)
    sums /= total
    # Each sums to 0 over clusters.
    covariance = sums.T @ sums * n_clusters / max(n_clusters - 1, 1)
    return Histogram(cells[:n_bins], cells[n_bins:-1], estimated.prior, covariance, n_clusters)


@dataclass(frozen=True, slots=True)
class Difference:
    """How two histograms differ.

    Attributes:
        expected: Shares of the reference, shape `(k,)`.
        seen: Shares of the new rows, shape `(k,)`.
        distance: Total variation in [0, 1]: the share of rows that lie in another bin.
        low: Lower end of a conservative 95 % interval of `distance`.
        high: Its upper end.
        p_value: Of the hypothesis that nothing differs.
    """

    expected: Floats
    seen: Floats
    distance: float
    low: float
    high: float
    p_value: float


def difference(reference: Histogram, new: Histogram, *, at_new_prior: bool = False) -> Difference:
    """Test whether two sets of clusters have the same histogram.

    Args:
        reference: Of the earlier rows.
        new: Of other rows, in the same bins.
        at_new_prior: Whether the reference is first moved to the new rows' share of reasoning, so
            that only differences beyond that share count.

    Source:
        Rao and Scott (1984), "On chi-squared tests for multiway contingency tables with cell
        proportions estimated from survey data": second-order correction, with the F distribution
        as reference.
    """
    k = len(new.shares)
    ones, zero = np.eye(k), np.zeros((k, 1))
    if at_new_prior:
        ratio = new.prior / reference.prior, (1 - new.prior) / (1 - reference.prior)
        expected = ratio[0] * reference.reasoning + ratio[1] * reference.fast
        moves = reference.reasoning / reference.prior - reference.fast / (1 - reference.prior)
        of_reference = np.hstack([ratio[0] * ones, ratio[1] * ones, -moves[:, None]])
        of_new = np.hstack([ones, ones, -moves[:, None]])
    else:
        expected = reference.shares
        of_reference = of_new = np.hstack([ones, ones, zero])
    covariance = (
        of_reference @ reference.covariance @ of_reference.T + of_new @ new.covariance @ of_new.T
    )
    middle = (expected + new.shares) / 2
    # One cluster more on each side: bins that all rows of a side share, or none, vary too.
    more = sum(1 / side.clusters**2 for side in (reference, new))
    covariance = covariance + more * (np.diag(middle) - np.outer(middle, middle))
    gap = new.shares - expected
    distance = 0.5 * float(np.abs(gap).sum())
    # |distance - true distance| is at most the distance of what chance alone adds.
    chance = _chance(covariance)
    return Difference(
        expected,
        new.shares,
        distance,
        max(0.0, distance - chance),
        min(1.0, distance + chance),
        _p_value(gap, middle, covariance, reference.clusters + new.clusters),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number: the chance that any of them is a false alarm.

    Source:
        Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _chance(covariance: Floats) -> float:
    """The distance that chance does not exceed in 95 % of draws."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = np.random.default_rng(0).standard_normal((_DRAWS, len(values))) @ root.T
    return float(np.quantile(0.5 * np.abs(draws).sum(1), LEVEL))


def _p_value(gap: Floats, shares: Floats, covariance: Floats, clusters: int) -> float:
    # It takes a moment to load, and only tests need it.
    from scipy.stats import f

    used = shares > 0
    scale = 1 / np.sqrt(shares[used])
    weights = np.linalg.eigvalsh(covariance[np.ix_(used, used)] * np.outer(scale, scale))
    total, squares = float(weights.sum()), float((weights**2).sum())
    if total <= 0 or squares <= 0:
        return 1.0
    statistic = float(((gap[used] * scale) ** 2).sum())
    freedom = total**2 / squares
    return float(f.sf(statistic / total, freedom, freedom * max(clusters - 2, 1)))
