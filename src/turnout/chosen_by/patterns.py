"""Patterns and functions on text with the same result on every engine.

Outside ASCII, engines differ in letter case, white space, word boundaries and line ends.
"""

from __future__ import annotations

import re
import string

import ibis

SPACE = r"[ \t\n\r\f]"
# The beginning and the end of a word; the character there is part of the match.
BEFORE_WORD = r"(?:^|[^0-9A-Za-z_])"
AFTER_WORD = r"(?:[^0-9A-Za-z_]|$)"
ANY = r"[^\n]"
# The characters that `strip` removes.
_EDGE = r"[ \t\n\r\f\x0b]"


def any_case(pattern: str) -> str:
    """The pattern with its lower-case letters matching both cases, except those of escapes."""
    return re.sub(r"(?<!\\)[a-z]", lambda m: f"[{m[0]}{m[0].upper()}]", pattern)


def lower(text: ibis.Value) -> ibis.Value:
    """The text with A to Z in lower case."""
    return text.translate(string.ascii_uppercase, string.ascii_lowercase)


def digest(text: ibis.Value) -> ibis.Value:
    """48 bits of a hash of the stripped text, the same on every engine."""
    # Stripping is slow, and few texts need it.
    trimmed = ibis.ifelse(text.re_search(f"^{_EDGE}|{_EDGE}$"), text.strip(), text)
    return trimmed.hexdigest("md5").left(12)
