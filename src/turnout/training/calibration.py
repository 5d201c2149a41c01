"""Logit margins → probabilities that mean what they say; knows no encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from turnout.errors import ArtifactError
from turnout.records import LABEL_REASONING

ECE_BINS = 15
_MIN_SCALE = 1e-3
# A bias costs a parameter; it must gain more than chance would (AIC: one nat in all).
_NATS_FOR_A_BIAS = 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """p = σ(scale · margin + bias), where margin = logit(reasoning) − logit(fast).

    Attributes:
        method: `temperature` (scale alone) or `platt` (scale and bias).
        scale: > 0, so that the order of scores never changes.
        bias: In nats.
        n: Validation rows it was fitted on.
        ece_before: Expected calibration error in [0, 1] of the raw probabilities.
        ece_after: The same after fitting, on the same rows: an optimistic number.
    """

    method: str
    scale: float
    bias: float
    n: int
    ece_before: float
    ece_after: float

    def to_json(self) -> dict[str, Any]:
        """The numbers as they are stored."""
        return asdict(self)


def fit_calibration(
    margins: NDArray[np.float64], needs_reasoning: NDArray[np.bool_]
) -> Calibration:
    """Fit by maximum likelihood; the bias is kept only where it pays for itself.

    Args:
        margins: Shape `(n,)`.
        needs_reasoning: Shape `(n,)`, both values present.

    Source:
        Platt (1999); Guo et al. (2017), "On calibration of modern neural networks".
    """
    temperature = _fit(margins, needs_reasoning, with_bias=False)
    platt = _fit(margins, needs_reasoning, with_bias=True)
    gain = _loss(temperature, margins, needs_reasoning) - _loss(platt, margins, needs_reasoning)
    scale, bias = platt if gain > _NATS_FOR_A_BIAS else temperature
    return Calibration(
        method="platt" if gain > _NATS_FOR_A_BIAS else "temperature",
        scale=scale,
        bias=bias,
        n=len(margins),
        ece_before=expected_calibration_error(expit(margins), needs_reasoning),
        ece_after=expected_calibration_error(expit(scale * margins + bias), needs_reasoning),
    )


def expected_calibration_error(
    scores: NDArray[np.float64], outcomes: NDArray[np.bool_], n_bins: int = ECE_BINS
) -> float:
    """Mean gap between score and observed share over bins of equal mass, weighted by rows."""
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, min(n_bins, len(scores)))
    gaps = [abs(scores[rows].mean() - outcomes[rows].mean()) * len(rows) for rows in parts]
    return float(np.sum(gaps) / len(scores))


def fold(model: transformers.PreTrainedModel, calibration: Calibration) -> None:
    """Move the calibration into the classifier's last layer, in place.

    Plain `transformers` and every exported graph then give calibrated probabilities.

    Raises:
        ArtifactError: If the model's last layer is not a linear one with two outputs.
    """
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 2]
    if not layers or layers[-1].bias is None:
        raise ArtifactError(
            f"{type(model).__name__}: no linear layer with two outputs and a bias at its end; "
            "expected a sequence classification head. Choose another base encoder."
        )
    with torch.no_grad():
        layers[-1].weight.mul_(calibration.scale)
        layers[-1].bias.mul_(calibration.scale)
        layers[-1].bias[LABEL_REASONING] += calibration.bias


def _fit(
    margins: NDArray[np.float64], outcomes: NDArray[np.bool_], *, with_bias: bool
) -> tuple[float, float]:
    spread = float(np.std(margins)) or 1.0  # so that the search starts at a sensible scale

    def loss(parameters: NDArray[np.float64]) -> float:
        return _loss(_unpack(parameters, spread), margins, outcomes)

    start = np.zeros(2 if with_bias else 1)
    return _unpack(minimize(loss, start, method="Nelder-Mead").x, spread)


def _unpack(parameters: NDArray[np.float64], spread: float) -> tuple[float, float]:
    scale = max(_MIN_SCALE, float(np.exp(np.clip(parameters[0], -8, 8))) / spread)
    return scale, float(parameters[1]) if len(parameters) > 1 else 0.0


def _loss(
    fitted: tuple[float, float], margins: NDArray[np.float64], outcomes: NDArray[np.bool_]
) -> float:
    z = fitted[0] * margins + fitted[1]
    return float(np.logaddexp(0.0, np.where(outcomes, -z, z)).sum())
