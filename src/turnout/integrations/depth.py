"""The depth that an option's name suggests: SIMPLE, fast-model, REASONING, …."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = {
    0.0: ("simple", "fast", "quick", "easy", "light", "small", "cheap", "basic", "low", "trivial",
          "mini", "nano", "shallow"),
    0.33: ("medium", "moderate", "standard", "balanced", "normal"),
    0.67: ("complex", "hard", "difficult", "advanced"),
    1.0: ("reasoning", "deep", "strong", "thinking", "expert", "high", "large", "smart", "heavy"),
}  # fmt: skip
_DEPTHS = {word: depth for depth, words in _WORDS.items() for word in words}
_WORD = re.compile(r"[a-z]+")


def depths_of(names: Iterable[str]) -> dict[str, float]:
    """Name → depth from 0 (fast) to 1 (reasoning), for names with a known word.

    The first known word of a name counts.
    """
    depths = {}
    for name in names:
        word = next((word for word in _WORD.findall(name.lower()) if word in _DEPTHS), None)
        if word is not None:
            depths[name] = _DEPTHS[word]
    return depths
