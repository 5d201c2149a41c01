"""Logit margins → probabilities that mean what they say; knows no encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from turnout.records import LABEL_REASONING
from turnout.stats.calibration import calibration_error
from turnout.training.report import Calibration

# A bias is one more parameter: it must gain more than chance would (Akaike's criterion).
NATS_FOR_A_BIAS = 1.0
_MAX_LOG_SCALE = 8.0


def fit_calibration(
    margins: NDArray[np.float64], needs_reasoning: NDArray[np.bool_]
) -> Calibration:
    """Fit by maximum likelihood; the bias is kept only where it pays for itself.

    The outcomes are smoothed as Platt does, so that a small set which the model separates
    perfectly gives no unbounded scale.

    Args:
        margins: Shape `(n,)`.
        needs_reasoning: Shape `(n,)`, both values present.

    Source:
        Platt (1999), "Probabilistic outputs for support vector machines"; Guo et al. (2017), "On
        calibration of modern neural networks".
    """
    n_positive, n_negative = needs_reasoning.sum(), (~needs_reasoning).sum()
    targets = np.where(needs_reasoning, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    temperature = _fit(margins, targets, with_bias=False)
    platt = _fit(margins, targets, with_bias=True)
    gain = _loss(temperature, margins, targets) - _loss(platt, margins, targets)
    scale, bias = platt if gain > NATS_FOR_A_BIAS else temperature
    return Calibration(
        method="platt" if gain > NATS_FOR_A_BIAS else "temperature",
        scale=scale,
        bias=bias,
        n=len(margins),
        ece_before=calibration_error(expit(margins), needs_reasoning),
        ece_after=calibration_error(expit(scale * margins + bias), needs_reasoning),
    )


def refined_loss(
    margins: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Cross-entropy in nats a row that would be left after the best scale and bias.

    The epoch is chosen by it: what calibration will mend anyway should not decide.

    Source:
        Berta, Holzmüller, Jordan and Bach (2025), "Rethinking early stopping: refine, then
        calibrate".
    """
    shares = weights / weights.sum() * len(weights)
    fitted = _fit(margins, targets, with_bias=True, weights=shares)
    return _loss(fitted, margins, targets, shares) / len(margins)


def fold(head: torch.nn.Linear, calibration: Calibration) -> None:
    """Move the calibration into the classifier's last layer, in place.

    Plain `transformers` and every exported graph then give calibrated probabilities.
    """
    with torch.no_grad():
        head.weight.mul_(calibration.scale)
        head.bias.mul_(calibration.scale)
        head.bias[LABEL_REASONING] += calibration.bias


def _fit(
    margins: NDArray[np.float64],
    targets: NDArray[np.float64],
    *,
    with_bias: bool,
    weights: NDArray[np.float64] | float = 1.0,
) -> tuple[float, float]:
    spread = float(np.std(margins)) or 1.0  # so that the search starts at a sensible scale

    def loss(parameters: NDArray[np.float64]) -> float:
        return _loss(_unpack(parameters, spread), margins, targets, weights)

    start = np.zeros(2 if with_bias else 1)
    return _unpack(minimize(loss, start, method="Nelder-Mead").x, spread)


def _unpack(parameters: NDArray[np.float64], spread: float) -> tuple[float, float]:
    """Scale and bias; the search moves the logarithm of the scale, which keeps it positive."""
    log_scale = np.clip(parameters[0], -_MAX_LOG_SCALE, _MAX_LOG_SCALE)
    return float(np.exp(log_scale)) / spread, float(parameters[1]) if len(parameters) > 1 else 0.0


def _loss(
    fitted: tuple[float, float],
    margins: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64] | float = 1.0,
) -> float:
    z = fitted[0] * margins + fitted[1]
    return float(((np.logaddexp(0.0, z) - targets * z) * weights).sum())
