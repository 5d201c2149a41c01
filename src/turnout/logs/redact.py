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


# Where IPv6 addresses of people's machines lie: public, private, link-local. Much code with "::"
# (a slice, a name in hexadecimal letters) has an address's form, but lies elsewhere.
_IPV6_IN_USE = tuple(map(ipaddress.IPv6Network, ("2000::/3", "fc00::/7", "fe80::/10")))


def _is_address(text: str) -> bool:
    """Times, ratios and scopes have an address's letters too; loopback and masks tell nothing."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return any(address in network for network in _IPV6_IN_USE)
    return not (address.is_loopback or address.is_reserved or text.startswith("0."))


# In this order: a key inside a URL must go before the address around it is looked at.
_KINDS = (
    _Kind(
        "private key",
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
            r"(?:[^-]|-(?!----))*+(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
        ),
        "<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, Stripe
            r"|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
            r"|\bhf_[A-Za-z0-9]{20,}|\bxox[abeprs]-[\w-]{10,}|\bnpm_[A-Za-z0-9]{20,}"
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}"
            r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bGOCSPX-[\w-]{20,}|\bpypi-[\w-]{30,}"
            r"|\b(?:gsk_|xai-)[A-Za-z0-9]{20,}|\bdo[opr]_v1_[a-f0-9]{40,}"
            r"|\beyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?"  # JSON web tokens
        ),
        "<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(r"(\bhooks\.slack\.com/services/)(?!<)[\w/]{20,}"),
        r"\1<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(
            r"(?i)((?:\bbearer\s|--(?:password|passwd|token|secret|api-key)[ =]))(?!<)"
            r"(?=[^\s\"'<>]{0,80}\d)[^\s\"'<>,;${}]{10,}"
        ),
        r"\1<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(
            # Named alone or at the end of a longer name: DB_PASSWORD, clientSecret.
            r"(?i)((?:api|account|access|private|secret)[_-]?key\b|(?:secret|token|passw(?:or)?d|pwd"
            r"|\bauthorization)\b)([\"']?\s{0,4}[:=]\s{0,4})"
            # Not what code writes there: a type, a constant, a variable to fill in, a call.
            r"(?!(?:str|string|bytes|none|null|undefined|true|false|boolean)\b)(?![$%{])"
            r"(?![a-z_]\w{0,60}(?:\.[a-z_]\w{0,60}){0,4}[(\[])"
            r"(?!(?:os|self|settings|config|args|process|env|this)\.)"
            r"([\"']?(?:bearer |basic )?+)(?![<$%{])[^\s\"'<>,;]{6,}"
        ),
        r"\1\2\3<KEY>",
    ),
    _Kind(
        "key or token",
        re.compile(r"(?i)(://[^\s/:@<>]{1,64}:)(?!<)[^\s/@<>]{1,128}(?=@)"),
        r"\1<KEY>",
    ),
    _Kind(
        "e-mail address",
        re.compile(
            # Neither a checkout from Git, a version after a package's name, nor a file's name.
            r"\b(?!git@[\w.-]{1,80}:)[^\W_](?:[\w.+-]{0,62}\w)?@(?:[A-Za-z0-9-]{1,63}\.){1,6}"
            r"(?!(?:png|jpe?g|gif|svg|webp|ico)\b)(?:[A-Za-z]{2,63}|xn--[A-Za-z0-9-]{1,59})\b"
        ),
        "<EMAIL>",
    ),
    _Kind(
        "IP address",
        re.compile(
            r"(?<![\w.])(?<!Chrome/)(?<!Edg/)(?<!OPR/)(?<![Vv]ersion )"
            r"\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"
        ),
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
            r"((?:(?<![\w.~-])(?:/var|/export)?/home/"
            r"|(?:(?<![\w.~-])|(?<![\w.~-])/[a-z]|/mnt/[a-z]|%3[Aa])/Users/"
            r"|[A-Za-z]:\\{1,2}Users\\{1,2}))"
            r"(?![<$%{])(?!(?:Shared|Public|Default)\b)[^/\\\s\"'<>:|]{1,64}"
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
