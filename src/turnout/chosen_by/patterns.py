"""Patterns and letters that every engine reads alike.

Beyond ASCII engines differ in letter case, in what a space is, where a word ends and a line.
"""

from __future__ import annotations

import re
import string

import ibis

SPACE = r"[ \t\n\r\f]"
# Where a word begins or ends: what stands there is part of the match.
BEFORE_WORD = r"(?:^|[^0-9A-Za-z_])"
AFTER_WORD = r"(?:[^0-9A-Za-z_]|$)"
ANY = r"[^\n]"
# What trimming takes away.
_EDGE = r"[ \t\n\r\f\x0b]"


def any_case(pattern: str) -> str:
    """The pattern, for its lower-case letters in either case; those of an escape stay."""
    return re.sub(r"(?<!\\)[a-z]", lambda found: f"[{found[0]}{found[0].upper()}]", pattern)


def lower(text: ibis.Value) -> ibis.Value:
    """The text with A to Z in lower case."""
    return text.translate(string.ascii_uppercase, string.ascii_lowercase)


def digest(text: ibis.Value) -> ibis.Value:
    """48 bits of a text without the space around it: equal for equal texts, on every engine."""
    # Trimming is dear and few texts need it.
    trimmed = ibis.ifelse(text.re_search(f"^{_EDGE}|{_EDGE}$"), text.strip(), text)
    return trimmed.hexdigest("md5").left(12)
