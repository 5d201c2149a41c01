"""A form of a secret or an identity: the pattern that finds it, and its replacement."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A pattern whose group `value` is replaced.

    Attributes:
        kind: The name under which replacements are counted.
        tag: The replacement.
        hints: Every text with a match contains one of these, in lower case. Most texts contain
            none, and fixed strings are found much faster than a pattern.
        pattern: Takes time linear in the text's length.
        accepts: Whether a match is replaced.
    """

    kind: str
    tag: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    accepts: Callable[[re.Match[str]], bool] = bool

    def may_be_in(self, lowered: str) -> bool:
        """Whether a text, in lower case, may contain a match."""
        return any(hint in lowered for hint in self.hints)

    def replaced_in(self, text: str, counts: Counter[str]) -> str:
        """The text with the values replaced, and counted in `counts`."""

        def replace(match: re.Match[str]) -> str:
            if not self.accepts(match):
                return match[0]
            counts[self.kind] += 1
            start, end = (offset - match.start() for offset in match.span("value"))
            return f"{match[0][:start]}{self.tag}{match[0][end:]}"

        return self.pattern.sub(replace, text)
