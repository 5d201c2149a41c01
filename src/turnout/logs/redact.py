"""Text → the same text without what identifies people or opens doors; knows no column.

By pattern: it finds what has a form (addresses, keys, paths), never names or secrets in prose.
Every pattern is linear in the text's length.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    pattern: re.Pattern[str]
    replacement: str
    is_one: Callable[[str], bool] = bool

    def replaced_in(self, text: str, found: Counter[str]) -> str:
        def replace(match: re.Match[str]) -> str:
            if not self.is_one(match[0]):
                return match[0]
            found[self.name] += 1
            return match.expand(self.replacement)

        return self.pattern.sub(replace, text)


def _is_address(text: str) -> bool:
    """Times, ratios and scopes have an address's letters too."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# In this order: a key inside a URL must go before the address around it is looked at.
_KINDS = (
    _Kind(
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"),
        "<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, Stripe
            r"|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
            r"|\bhf_[A-Za-z0-9]{20,}|\bxox[abeprs]-[\w-]{10,}|\bnpm_[A-Za-z0-9]{20,}"
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}"
            r"|\beyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?"  # JSON web tokens
        ),
        "<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(
            r"(?i)(\b(?:api[_-]?key|secret|token|passw(?:or)?d|pwd|authorization)\b[\"']?\s{0,4}"
            r"[:=]\s{0,4}[\"']?(?:bearer |basic )?+)(?!<)[^\s\"'<>,;]{6,}"
        ),
        r"\1<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(r"(?i)(://[^\s/:@<>]{1,64}:)(?!<)[^\s/@<>]{1,128}(?=@)"),
        r"\1<KEY>",
    ),
    _Kind(
        "e-mail address",
        re.compile(
            r"\b[A-Za-z0-9](?:[\w.+-]{0,62}\w)?@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}\b"
        ),
        "<EMAIL>",
    ),
    _Kind(
        "IP address",
        re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"),
        "<IP>",
        _is_address,
    ),
    _Kind(
        "IP address",
        re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{6,45}(?![\w:])"),
        "<IP>",
        _is_address,
    ),
    _Kind(
        "user name in a path",
        re.compile(
            r"((?:(?<![\w.~-])/home/|(?<![\w.~-])/Users/|[A-Za-z]:\\{1,2}Users\\{1,2}))(?!<)[^/\\\s\"'<>:|]{1,64}"
        ),
        r"\1<USER>",
    ),
)


def redacted(text: str, found: Counter[str]) -> str:
    """The text with every find replaced by what it was, such as `<EMAIL>`.

    Redacting twice changes nothing more.

    Args:
        text: Any text.
        found: Kind → how often, added to.
    """
    for kind in _KINDS:
        text = kind.replaced_in(text, found)
    return text
