"""Tells by its shape whether a value is a secret, a placeholder, code or a word."""

from __future__ import annotations

import math
import re
from collections import Counter

# What documentation and code write in place of a secret.
_PLACEHOLDER = re.compile(
    r"(?i)[<\[({$%*#&]|!\w+$|.*(?:\.{3}|…|\*{3}|x{4}|x{3}$|(?<![a-z])(?:your|my|the|some)[-_ ]"
    r"|your[a-z]|example|placeholder|dummy|change[-_ ]?(?:me|this|it)|replace|redacted|insert[-_ ]"
    r"|(?:^|_)(?:here|todo|tbd)(?:_|$))"
)
_NAME = r"[A-Za-z_$][\w$]*"
_CALL = re.compile(rf"{_NAME}(?:(?:\.|->|::|\?\.){_NAME})*\??[(\[{{]")
_DOTTED = re.compile(rf"{_NAME}(?:(?:\.|->|::|\?\.){_NAME})+")
_PLACE = re.compile(r"(?:\.{0,2}|~|[A-Za-z]:|file:/?)?[/\\][\w.-]+[/\\]|[a-z][a-z0-9+]{1,9}://")
# Words about passwords and tokens, and types; none is a secret.
_ORDINARY_WORDS = frozenset(
    {
        *("again", "any", "argument", "auto", "basic", "bearer", "blank", "boolean", "bytes"),
        *("correct", "credentials", "default", "disabled", "empty", "enabled", "encrypted"),
        *("enter", "expired", "false", "field", "file", "filled", "forgot", "forgotten"),
        *("hash", "hashed", "hidden", "incorrect", "input", "integer", "invalid", "leaked"),
        *("length", "lost", "match", "matches", "missing", "needed", "never", "none", "null"),
        *("number", "object", "option", "optional", "parameter", "password", "please"),
        *("prompt", "protected", "provided", "rejected", "required", "reset", "revoked"),
        *("secret", "secured", "string", "text", "token", "true", "undefined", "unknown"),
        *("unset", "updated", "username", "valid", "value", "verified", "wrong"),
    }
)
_DIGITS_APART = re.compile(r"\d[^\d\s]+\d")
_LETTERS = re.compile(r"[A-Za-z]")
_LEAST_BITS = 2.3


def bits_a_character(text: str) -> float:
    """Shannon entropy of the characters of a non-empty text, in bits."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def looks_random(value: str, *, least: int = 8) -> bool:
    """Whether a value looks random: digits in several places among letters.

    Nearly every key of 16 or more characters does; names in code and words of prose rarely do.
    """
    return (
        len(value) >= least
        and _DIGITS_APART.search(value) is not None
        and len(_LETTERS.findall(value[:64])) >= 2
        and bits_a_character(value[:256]) >= _LEAST_BITS
    )


def is_placeholder(value: str) -> bool:
    """Whether a value only marks the place of a secret: `YOUR_API_KEY`, `${TOKEN}`, `<token>`."""
    return _PLACEHOLDER.match(value) is not None or len(set(value)) == 1


def is_place(value: str) -> bool:
    """Whether a value is a path or a URL."""
    return _PLACE.match(value) is not None


def is_code(value: str) -> bool:
    """Whether an unquoted value is an attribute, a call or an index in code."""
    if _CALL.match(value):
        return True
    return _DOTTED.fullmatch(value) is not None and not looks_random(value)


def is_ordinary(value: str, name: str) -> bool:
    """Whether a value is a common word about secrets, or repeats its own name.

    Args:
        value: Such as `required`, `hashed_password` or `TokenType`.
        name: The name before it, such as `password` or `access_token`.
    """
    value, name = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (value, name))
    return value in _ORDINARY_WORDS or not value or name in value or value in name
