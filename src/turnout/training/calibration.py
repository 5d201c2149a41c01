"""Calibration: from logit margins to probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from turnout.records import LABEL_REASONING
from turnout.stats.calibration import calibration_error
from turnout.training.report import Calibration

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

# A bias is one more parameter: it must gain more than chance would (Akaike's criterion).
NATS_FOR_A_BIAS = 1.0
# A scale is at least this over the margins' spread, so that the order of scores never changes.
_MIN_SCALE = float(np.exp(-8))
_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-7


def fit_calibration(
    margins: Floats, needs_reasoning: NDArray[np.bool_], weights: Floats
) -> Calibration:
    """Fit scale and bias by weighted maximum likelihood; the bias only where it pays for itself.

    Outcomes are smoothed as Platt does, so that a small set which the model separates perfectly
    gives no unbounded scale. Weights count relative to one another; together they count as many
    rows as their effective number, (Σw)² / Σw².

    Args:
        margins: Shape `(n,)`.
        needs_reasoning: Shape `(n,)`, both values present.
        weights: Shape `(n,)`, ≥ 0; some above 0 for both outcomes.

    Source:
        Platt (1999), "Probabilistic outputs for support vector machines"; Guo et al. (2017), "On
        calibration of modern neural networks"; Kish (1965), "Survey sampling".
    """
    weights = weights * (weights.sum() / (weights**2).sum())
    n_positive, n_negative = weights[needs_reasoning].sum(), weights[~needs_reasoning].sum()
    targets = np.where(needs_reasoning, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    temperature = _fit(margins, targets, weights, with_bias=False)
    platt = _fit(margins, targets, weights, with_bias=True)
    gain = _loss(temperature, margins, targets, weights) - _loss(platt, margins, targets, weights)
    scale, bias = platt if gain > NATS_FOR_A_BIAS else temperature
    return Calibration(
        method="platt" if gain > NATS_FOR_A_BIAS else "temperature",
        scale=scale,
        bias=bias,
        n=len(margins),
        ece_before=calibration_error(expit(margins), needs_reasoning, weights),
        ece_after=calibration_error(expit(scale * margins + bias), needs_reasoning, weights),
    )


def refined_loss(margins: Floats, targets: Floats, weights: Floats) -> float:
    """Weighted mean cross-entropy, in nats, that the best scale and bias would leave.

    The epoch is chosen by it, as calibration removes the rest of the loss anyway.

    Source:
        Berta, Holzmüller, Jordan and Bach (2025), "Rethinking early stopping: refine, then
        calibrate".
    """
    shares = weights / weights.sum()
    fitted = _fit(margins, targets, shares * len(weights), with_bias=True)
    return _loss(fitted, margins, targets, shares)


def fold(head: torch.nn.Linear, calibration: Calibration) -> None:
    """Move the calibration into the classifier's last layer, in place.

    Plain `transformers` and every exported graph then give calibrated probabilities.
    """
    import torch

    with torch.no_grad():
        head.weight.mul_(calibration.scale)
        head.bias.mul_(calibration.scale)
        head.bias[LABEL_REASONING] += calibration.bias


def _fit(
    margins: Floats, targets: Floats, weights: Floats, *, with_bias: bool
) -> tuple[float, float]:
    """Scale > 0 and bias of the weighted cross-entropy's minimum."""
    spread = float(np.std(margins)) or 1.0  # so that the solver starts at a sensible scale
    # A soft target is two rows: one of each outcome, which share its weight.
    model = LogisticRegression(
        C=np.inf, fit_intercept=with_bias, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE
    )
    model.fit(
        np.concatenate([margins, margins])[:, None] / spread,
        np.repeat([1, 0], len(margins)),
        np.concatenate([weights * targets, weights * (1 - targets)]),
    )
    scale, bias = float(model.coef_[0, 0]), float(model.intercept_[0]) if with_bias else 0.0
    if scale < _MIN_SCALE:
        mean = float(np.average(targets, weights=weights))
        scale, bias = _MIN_SCALE, float(np.log(mean / (1 - mean))) if with_bias else 0.0
    return scale / spread, bias


def _loss(fitted: tuple[float, float], margins: Floats, targets: Floats, weights: Floats) -> float:
    z = fitted[0] * margins + fitted[1]
    return float(((np.logaddexp(0.0, z) - targets * z) * weights).sum())
