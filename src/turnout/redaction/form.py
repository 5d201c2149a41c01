"""A form of a secret or an identity: how it is found in a text and what replaces it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A pattern whose group `find` is replaced.

    Attributes:
        kind: What a find is counted as.
        tag: What takes its place.
        hints: One of these is in every text that has a find, in lower case: most texts have none,
            and looking for a few fixed strings costs far less than a pattern.
        pattern: Linear in the text's length.
        is_one: Whether a match is a find.
    """

    kind: str
    tag: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    is_one: Callable[[re.Match[str]], bool] = bool

    def may_be_in(self, lowered: str) -> bool:
        """Whether a text may have a find; the text is given in lower case."""
        return any(hint in lowered for hint in self.hints)

    def replaced_in(self, text: str, counts: Counter[str]) -> str:
        """The text with the finds replaced, and counted in `counts`."""

        def replace(match: re.Match[str]) -> str:
            if not self.is_one(match):
                return match[0]
            counts[self.kind] += 1
            start, end = (offset - match.start() for offset in match.span("find"))
            return f"{match[0][:start]}{self.tag}{match[0][end:]}"

        return self.pattern.sub(replace, text)
