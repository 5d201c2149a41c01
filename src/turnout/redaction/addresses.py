"""Forms of e-mail and IP addresses, written plainly, encoded, or spelled out."""

from __future__ import annotations

import ipaddress
import re
from string import digits

from turnout.redaction.form import Form

# IPv6 networks of real machines: public, private, link-local. Much code with "::" (a slice, a name
# in hexadecimal letters) has the form of an address, but of no such network.
_IPV6_IN_USE = tuple(map(ipaddress.IPv6Network, ("2000::/3", "fc00::/7", "fe80::/10")))
# Four numbers after these are a version or a section number.
_NUMBERED = re.compile(
    r"(?:(?i:\b(?:versions?|ver|v|rev|revision|release|build|kernel|firmware|driver|section"
    r"|chapter|clause|annex|paragraph|§)[ \t:=.#]{0,3})|[=<>~^!]=[ \t]?|\b[A-Z][a-z]{2,30}/"
    r"|\bOPR/)$"
)
# An address may follow a comparison of addresses, as in a packet filter.
_COMPARED = re.compile(r"(?i)(?:ip|addr|address|host|src|dst)[ \t]?[=!]=[ \t]?$")
_STARTS = re.compile(r"(?:(?:^|[^\w.])|%2[Ff]|%3[Aa]|%40)$")
# Top-level names under which domains of one letter exist; elsewhere `q@k.mean` is code.
_SHORT_DOMAINS = frozenset({"com", "org", "net", "de", "cn", "ru", "io", "co"})
_LOCAL = r"[^\W_](?:(?:[\w.+-]|%2[Bb]){0,62}\w)?"
_LABELS = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}"
_FILES = (
    r"png|jpe?g|gif|svg|webp|ico|json|py|tsx?|jsx?|mjs|ya?ml|toml|txt|html?|css|scss|csv|sql|rs|go"
    r"|java|cpp|kt|md|sh|vue|ipynb|xml|pdf|php|rb|swift|log"
)


def _is_address(match: re.Match[str]) -> bool:
    """Whether a match is an address that identifies a machine: no time, ratio, loopback or mask."""
    text = match["value"].replace("-", ".")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return any(address in network for network in _IPV6_IN_USE)
    return not (address.is_loopback or address.is_reserved or text.startswith("0."))


def _is_not_version(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 32) : match.start()]
    if not _STARTS.search(before):
        return False
    if _NUMBERED.search(before) and not _COMPARED.search(before):
        return False
    return _is_address(match)


def _is_email(match: re.Match[str]) -> bool:
    """Whether a match is an address rather than a matrix product such as `q@k.mean`."""
    labels = match["domain"].lower().split(".")
    return len(labels) > 2 or len(labels[0]) > 1 or labels[1] in _SHORT_DOMAINS


FORMS = (
    Form(
        "e-mail address",
        "<EMAIL>",
        ("@", "%40", "&#64;", "&#x40;"),
        re.compile(
            # Not a Git remote, a version after a package's name, or a file name.
            rf"(?P<value>\b(?!git@[\w.-]{{1,80}}:){_LOCAL}(?:@|%40|&\#(?:64|x40);)"
            rf"(?P<domain>{_LABELS}(?!(?:{_FILES})\b)(?:[^\W\d_]{{2,63}}|xn--[A-Za-z0-9-]{{1,59}})))"
            r"\b(?![(\[])"
        ),
        _is_email,
    ),
    Form(
        "e-mail address",
        "<EMAIL>",
        ("(at)", "[at]", "{at}", "( at", "[ at", "{ at"),
        re.compile(
            r"(?i)(?P<value>\b[^\W_][\w.+-]{0,62}[ ]?[\[({][ ]?at[ ]?[\])}][ ]?[\w-]{1,63}"
            r"(?:[ ]?(?:\.|[\[({][ ]?dot[ ]?[\])}])[ ]?[\w-]{1,63}){0,4}"
            r"[ ]?(?:\.|[\[({][ ]?dot[ ]?[\])}])[ ]?[a-z]{2,24})\b"
        ),
    ),
    Form(
        "e-mail address",
        "<EMAIL>",
        (" dot ",),
        re.compile(
            r"(?i)(?P<value>\b[^\W_][\w.+-]{0,62}[ ]at[ ][\w-]{1,63}(?:[ ]dot[ ][\w-]{1,63}){0,4}"
            r"[ ]dot[ ][a-z]{2,24})\b"
        ),
    ),
    Form(
        "IP address",
        "<IP>",
        tuple(f"{digit}." for digit in digits),
        re.compile(r"(?P<value>\d\d?\d?(?:\.\d{1,3}){3})(?!\.?\d)"),
        _is_not_version,
    ),
    # Host names of clouds and networks.
    Form(
        "IP address",
        "<IP>",
        tuple(f"{digit}-" for digit in digits),
        re.compile(
            r"(?:ip-|ec2-|host-|node-|static-|dyn-|dynamic-|pool-|client-|dsl-|cpe-)"
            r"(?P<value>\d{1,3}(?:-\d{1,3}){3})(?![\w-])"
        ),
        _is_address,
    ),
    Form(
        "IP address",
        "<IP>",
        (":",),
        re.compile(r"(?<![\w:.])(?P<value>[0-9A-Fa-f:]{6,45})(?![\w:])"),
        _is_address,
    ),
)
