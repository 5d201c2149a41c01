"""What the surface of a prompt tells: counts of characters, words, numbers and symbols.

Eighteen counts and a ridge on the measured gap. It ranks kinds of prompts that it has not seen
better than words do; length, which it is blended with, ranks inside a kind. `prompts.py` teaches
the encoder both.
"""

import re

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]

PENALTY = 30.0
# Gap that one standard deviation of log length is worth, beside the ridge.
LENGTH_GAP = 0.05
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_FIRST_OPTION = re.compile(r"\n\(?A[.)]")
_MAX_DIGITS = 8


class SurfaceTeacher:
    """Predicts a gap from counts; fitted on measured ones."""

    def __init__(self, prompts: list[str], gaps: Floats) -> None:
        """Fit on n prompts and their gaps."""
        self._scaler = StandardScaler()
        self._ridge = Ridge(alpha=PENALTY).fit(self._scaler.fit_transform(counts(prompts)), gaps)

    def predict(self, prompts: list[str]) -> Floats:
        """Gaps, shape `(n,)`."""
        scaled = self._scaler.transform(counts(prompts))
        return np.asarray(self._ridge.predict(scaled) + LENGTH_GAP * scaled[:, 0])


def counts(prompts: list[str]) -> Floats:
    """Shape `(n, 18)`; the logarithm of the length first."""
    return np.asarray([_counts(prompt) for prompt in prompts], np.float64)


def _counts(text: str) -> list[float]:
    words, numbers = _WORD.findall(text), _NUMBER.findall(text)
    n_chars, n_words = max(1, len(text)), max(1, len(words))
    sentences = len(_SENTENCE_END.findall(text))
    largest = max((float(n) for n in numbers if len(n) <= _MAX_DIGITS), default=0.0)
    return [
        np.log1p(n_chars),
        np.log1p(n_words),
        np.log1p(len(numbers)),
        len(numbers) / n_words,
        sum(map(len, words)) / n_words,
        text.count("\n") / n_words,
        np.log1p(text.count("\n")),
        sum(c in "+-*/=^<>" for c in text) / n_chars,
        text.count("$") / n_chars,
        text.count("\\") / n_chars,
        text.count("?"),
        sum(c.isupper() for c in text) / n_chars,
        len(set(words)) / n_words,
        bool(_FIRST_OPTION.search(text)),
        largest > 100,
        np.log1p(largest),
        sentences,
        n_words / max(1, sentences),
    ]
