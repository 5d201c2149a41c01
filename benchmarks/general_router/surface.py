"""What the surface of a prompt tells of its gap, as a target for prompts that nobody scored.

A ridge on the counts that a router's fallback reads, fitted on measured gaps. It ranks kinds of
prompts that it has not seen better than words do; length, which it is blended with, ranks inside a
kind.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from turnout.routing.surface import Surface, surface_of

Floats = NDArray[np.float64]

PENALTY = 30.0
# Gap that one standard deviation of log length is worth, beside the ridge.
LENGTH_GAP = 0.05


class SurfaceTeacher:
    """Predicts a gap from counts; fitted on measured ones."""

    def __init__(self, prompts: list[str], gaps: Floats) -> None:
        """Fit on n prompts and their gaps."""
        self._scaler = StandardScaler()
        self._ridge = Ridge(alpha=PENALTY).fit(self._scaler.fit_transform(_counts(prompts)), gaps)

    def predict(self, prompts: list[str]) -> Floats:
        """Gaps, shape `(n,)`."""
        scaled = self._scaler.transform(_counts(prompts))
        length = scaled[:, Surface._fields.index("log_chars")]
        return np.asarray(self._ridge.predict(scaled) + LENGTH_GAP * length)


def _counts(prompts: list[str]) -> Floats:
    return np.asarray([surface_of(prompt) for prompt in prompts], np.float64)
