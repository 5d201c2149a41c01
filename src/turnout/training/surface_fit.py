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
# Slope of the logit at one half: soft targets near 0 and 1 are rare.
LOGITS_A_TARGET = 4.0
# What one standard deviation of log length adds, in logits. Inside kinds that a fit has not seen,
# length ranks well by itself (docs/experiments.md), and so it did on GSM8K and MMLU for
# Ong et al. (2024), "RouteLLM: Learning to route LLMs with preference data".
LENGTH_LOGITS = 0.6


class SurfaceFit(NamedTuple):
    """A linear margin on counts: `slopes · clip((counts − mean) / deviation) + bias`.

    Attributes:
        mean: Of the rows' counts, shape `(18,)`.
        deviation: Their standard deviation, 1 where a count never changes; shape `(18,)`.
        slopes: Logits for one standard deviation, shape `(18,)`.
        bias: Logits where every count is at its mean.
    """

    mean: Floats
    deviation: Floats
    slopes: Floats
    bias: float


def fit_surface(samples: Samples, counts: Floats) -> SurfaceFit:
    """Fit on the rows of groups that carry labels.

    Groups without a label say which prompts are hard for weaker models rather than which need
    reasoning, as calibration has it too. With several groups the slopes are those of all rows
    together plus, more heavily, those of each row against its group's mean.

    Args:
        samples: Targets, weights, labels and groups, n rows; at least one label.
        counts: As `surface_of` gives them, shape `(n, 18)`.
    """
    _, of = np.unique([group or "" for group in samples.groups], return_inverse=True)
    rows = np.isin(of, of[samples.labelled])
    counts, of = counts[rows], of[rows]
    targets = samples.targets[rows].astype(np.float64)
    weights = samples.weights[rows].astype(np.float64)
    mean = np.average(counts, axis=0, weights=weights)
    deviation = np.sqrt(np.average((counts - mean) ** 2, axis=0, weights=weights))
    deviation[deviation == 0] = 1.0
    scaled = np.clip((counts - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    ridge = Ridge(alpha=PENALTY).fit(scaled, targets, weights)
    slopes = ridge.coef_
    if len(np.unique(of)) > 1:
        inside = Ridge(alpha=PENALTY, fit_intercept=False).fit(
            _less_group_mean(scaled, of), _less_group_mean(targets[:, None], of)[:, 0], weights
        )
        slopes = slopes + INSIDE_WEIGHT * inside.coef_
    slopes = LOGITS_A_TARGET * slopes
    slopes[Surface._fields.index("log_chars")] += LENGTH_LOGITS
    bias = LOGITS_A_TARGET * (float(ridge.intercept_) - 0.5)
    return SurfaceFit(mean, deviation, slopes, bias)


def _less_group_mean(values: Floats, of: NDArray[np.int64]) -> Floats:
    """Values of shape `(n, k)`, each less the mean of its group."""
    sizes = np.bincount(of).clip(1)
    means = np.stack([np.bincount(of, column) / sizes for column in values.T], 1)
    return np.asarray(values - means[of])
