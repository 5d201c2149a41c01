"""Intervals by resampling conversations, with the same resamplings for everything compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]

RESAMPLINGS = 1000
LEVEL = 0.95
# Quantiles of the draws at which an interval of that level begins and ends.
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_CELLS_A_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; `low` and `high` are NaN where there is no interval."""

    value: float
    low: float
    high: float


class Resampling:
    """Draws of whole conversations with replacement; the same draws for everything compared.

    Turns of one conversation are alike, so resampling turns would give intervals too narrow.

    Args:
        clusters: The conversation of every row.
        seed: Decides the draws.
        resamplings: How many.
        factors: How much every row counts in each draw, shape `(n,)`; by default all the same.

    Source:
        Field and Welsh (2007), "Bootstrapping clustered data", the cluster bootstrap.
    """

    def __init__(
        self,
        clusters: Sequence[str],
        seed: int = 0,
        resamplings: int = RESAMPLINGS,
        factors: Floats | None = None,
    ) -> None:
        names, self._cluster_of = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
        self._n_clusters = len(names)
        self._seed = seed
        self._resamplings = resamplings
        self._factors = np.ones(len(clusters)) if factors is None else factors

    def estimate(self, metric: Metric) -> Estimate:
        """A metric on all rows, and the percentile interval of its resamplings."""
        return self.estimates(lambda weights: metric(weights)[:, None])[0]

    def estimates(self, metrics: Metric) -> list[Estimate]:
        """Several at once: `metrics` gives shape `(b, k)`."""
        points, draws = self.draws(metrics)
        return [_estimate(point, column) for point, column in zip(points, draws.T, strict=True)]

    def draws(self, metrics: Metric) -> tuple[Floats, Floats]:
        """Metrics on all rows, shape `(k,)`, and of every resampling, shape `(b, k)`."""
        points = metrics(self._factors[None])[0]
        return points, np.concatenate([metrics(weights) for weights in self._weights()])

    def _weights(self) -> Iterator[Floats]:
        """How often each resampling draws every row, some resamplings at a time."""
        draw = np.random.default_rng(self._seed)
        even = np.full(self._n_clusters, 1 / self._n_clusters)
        chunk = max(1, _CELLS_A_CHUNK // max(1, len(self._cluster_of)))
        for start in range(0, self._resamplings, chunk):
            rows = min(chunk, self._resamplings - start)
            counts = draw.multinomial(self._n_clusters, even, size=rows)
            yield counts[:, self._cluster_of] * self._factors


def _estimate(point: float, draws: Floats) -> Estimate:
    finite = draws[np.isfinite(draws)]
    # Where most resamplings lack a class, the other ones are no fair sample.
    if len(finite) < len(draws) / 2 or not np.isfinite(point):
        return Estimate(float(point), float("nan"), float("nan"))
    low, high = np.quantile(finite, TAILS)
    return Estimate(float(point), float(low), float(high))
