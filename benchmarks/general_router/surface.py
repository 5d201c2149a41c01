"""A ridge on surface counts, fitted on measured gaps: the target of prompts that nobody scored."""

import numpy as np
from counts import Surface, surface_of
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

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
