"""How much each count of a message's surface says of its need; knows no encoder and no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from turnout.routing.surface import Surface
from turnout.samples import Samples

Floats = NDArray[np.float64]

# A count farther from the rows' mean tells no more than one at this distance.
MOST_DEVIATIONS = 4.0
PENALTY = 30.0
# What tells need inside known kinds tells it inside others too; what tells kinds apart may be the
# chance of which kinds were seen.
INSIDE_WEIGHT = 2.0
# Groups without a label say what is hard for weaker models: next to what needs reasoning.
HARDNESS_WEIGHT = 0.2
# Slope of the logit at one half: soft targets near 0 and 1 are rare.
LOGITS_A_TARGET = 4.0
# What one standard deviation of log length adds, in logits. Inside kinds that a fit has not seen,
# length ranks well by itself (docs/experiments/), and so it did on GSM8K and MMLU for
# Ong et al. (2024), "RouteLLM: Learning to route LLMs with preference data".
LENGTH_LOGITS = 0.6
LOG_CHARS, HAS_OPTIONS = map(Surface._fields.index, ("log_chars", "has_options"))


class SurfaceFit(NamedTuple):
    """A linear margin on counts: `slopes[o] · clip((counts − mean) / deviation) + bias[o]`.

    `o` is 1 for a question that comes with its options, else 0.

    Attributes:
        mean: Of the rows' counts, shape `(18,)`.
        deviation: Their standard deviation, 1 where a count never changes; shape `(18,)`.
        slopes: Logits for one standard deviation, shape `(2, 18)`.
        bias: Logits where every count is at its mean, shape `(2,)`.
    """

    mean: Floats
    deviation: Floats
    slopes: Floats
    bias: Floats

    def scaled(self, counts: Floats) -> Floats:
        """Counts of shape `(n, 18)` in deviations from the mean, none beyond the most."""
        return _scaled(counts, self.mean, self.deviation)


class _Rows(NamedTuple):
    """Scaled counts, targets, weights, and the number of each row's group."""

    counts: Floats
    targets: Floats
    weights: Floats
    groups: NDArray[np.int64]

    def at(self, rows: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.counts[rows], self.targets[rows], self.weights[rows], self.groups[rows])


def fit_surface(samples: Samples, counts: Floats) -> SurfaceFit:
    """Fit on the rows of groups that carry labels, and learn of the others what ranks inside them.

    Groups without a label say which prompts are hard for weaker models rather than which need
    reasoning, as calibration has it too. With several groups the slopes are those of all labelled
    rows together plus, more heavily, those of each row against its group's mean. Questions with
    options add what ranks such questions inside their groups, labelled or not, as heavily again;
    all other texts a little of what ranks those inside groups without a label.

    Args:
        samples: Targets, weights, labels and groups, n rows; at least one label.
        counts: As `surface_of` gives them, shape `(n, 18)`.
    """
    of, labelled = _group_numbers(samples), in_labelled_groups(samples)
    targets, weights = (x.astype(np.float64) for x in (samples.targets, samples.weights))
    mean = np.average(counts[labelled], axis=0, weights=weights[labelled])
    spread = np.average((counts[labelled] - mean) ** 2, axis=0, weights=weights[labelled])
    deviation = np.where(spread > 0, np.sqrt(spread), 1.0)
    rows = _Rows(_scaled(counts, mean, deviation), targets, weights, of)
    known = rows.at(labelled)
    ridge = Ridge(alpha=PENALTY).fit(known.counts, known.targets, known.weights)
    slopes = np.tile(ridge.coef_, (2, 1))
    bias = np.full(2, float(ridge.intercept_) - 0.5)
    if len(np.unique(of)) > 1:
        slopes += INSIDE_WEIGHT * _slopes_inside(known)
        named = np.asarray([group is not None for group in samples.groups])
        options = counts[:, HAS_OPTIONS] > 0
        for kind, weight, taken in (
            (0, HARDNESS_WEIGHT, named & ~options & ~labelled),
            (1, INSIDE_WEIGHT, named & options),
        ):
            if taken.any():
                more = rows.at(taken)
                added = weight * _slopes_inside(more)
                slopes[kind] += added
                bias[kind] -= added @ more.counts.mean(axis=0)  # ranks, and moves no level
    slopes *= LOGITS_A_TARGET
    slopes[:, LOG_CHARS] += LENGTH_LOGITS
    return SurfaceFit(mean, deviation, slopes, LOGITS_A_TARGET * bias)


def in_labelled_groups(samples: Samples) -> NDArray[np.bool_]:
    """Which rows stand in a group of which some row carries a label, shape `(n,)`."""
    of = _group_numbers(samples)
    return np.isin(of, of[samples.labelled])


def _group_numbers(samples: Samples) -> NDArray[np.int64]:
    _, of = np.unique([group or "" for group in samples.groups], return_inverse=True)
    return np.asarray(of, np.int64)


def _scaled(counts: Floats, mean: Floats, deviation: Floats) -> Floats:
    return np.clip((counts - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)


def _slopes_inside(rows: _Rows) -> Floats:
    """Of targets on counts, each less its group's mean; shape `(18,)`."""
    counts, targets = (
        _less_group_mean(values, rows.groups) for values in (rows.counts, rows.targets[:, None])
    )
    ridge = Ridge(alpha=PENALTY, fit_intercept=False).fit(counts, targets[:, 0], rows.weights)
    return np.asarray(ridge.coef_)


def _less_group_mean(values: Floats, of: NDArray[np.int64]) -> Floats:
    """Values of shape `(n, k)`, each less the mean of its group."""
    sizes = np.bincount(of).clip(1)
    means = np.stack([np.bincount(of, column) / sizes for column in values.T], 1)
    return np.asarray(values - means[of])
