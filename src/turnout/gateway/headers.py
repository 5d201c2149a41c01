"""Which headers pass, from the caller to an upstream and back.

Names and values are bytes, as they came. It knows no HTTP library.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

RawHeaders = list[tuple[bytes, bytes]]

# For one connection only (RFC 9110, section 7.6.1), or set anew for the message that is sent.
_ONE_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate",
        b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host",
        b"content-length", b"accept-encoding", b"expect", b"http2-settings",
    }
)  # fmt: skip
# Who the caller is to its vendor, or to what stands before the gateway.
_CREDENTIALS = re.compile(
    rb"authori[sz]|authenti|api-?key|token|secret|passw|credential|^x-amz-|remote-user|"
    rb"(^|-)(auth|bearer|cert|dpop|email|jwt|key|oidc|pass|principal|sig|signature|vk)(-|$)|"
    rb"(^|-)(account|organi[sz]ation|project|tenant|workspace)(-|$)"
)
# Its name looks like that of a credential.
_NO_CREDENTIALS = frozenset({b"idempotency-key"})
# Where the request comes from: a page in a browser, and the proxies on its way.
_ORIGIN = re.compile(
    rb"^(origin|referer|forwarded|via|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip)$|"
    rb"^(x-forwarded|x-original|sec-ch|sec-fetch|access-control)-"
)
# Cookies never pass: they would join callers.
_COOKIES = frozenset({b"cookie", b"cookie2", b"set-cookie", b"set-cookie2"})
_OWN = b"x-turnout-"
# Longer names stay behind: what is known of names is remembered.
_MAX_NAME_BYTES = 256
# Which pages may read an answer is the gateway's to say.
_CORS = b"access-control-"
# No header may hold these (RFC 9110, section 5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# The server sets these itself.
_OF_THE_SERVER = frozenset({b"date", b"server", b"alt-svc", b"strict-transport-security"})


def forwarded_headers(
    headers: Iterable[tuple[bytes, bytes]], *, with_credentials: bool
) -> RawHeaders:
    """What an upstream gets of a caller's headers.

    Args:
        headers: The caller's; names in lower case.
        with_credentials: Whether the caller's own key is passed on.
    """
    listed = list(headers)
    stays = _named_by_connection(listed)
    return [
        (name, value)
        for name, value in listed
        if name not in stays
        and len(name) <= _MAX_NAME_BYTES
        and not _CONTROL.search(value)
        and _passes(name)
        and (with_credentials or not is_credential(name))
    ]


def relayed_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """What the caller gets of an upstream's headers; names in lower case."""
    listed = [(name.lower(), value) for name, value in headers]
    stays = _ONE_HOP | _named_by_connection(listed) | _COOKIES | _OF_THE_SERVER
    return [
        (name, value)
        for name, value in listed
        if name not in stays and not name.startswith((_OWN, _CORS))
    ]


@functools.lru_cache(maxsize=1024)
def _passes(name: bytes) -> bool:
    """Whether a header of this name may reach an upstream at all."""
    is_kept = name in _ONE_HOP or name in _COOKIES or name.startswith(_OWN)
    return not is_kept and _ORIGIN.search(name) is None


@functools.lru_cache(maxsize=1024)
def is_credential(name: bytes) -> bool:
    """Whether a header's name, in lower case, says that it carries a credential."""
    # Some proxies read `x_api_key` as `x-api-key`.
    plain = name.replace(b"_", b"-")
    return plain not in _NO_CREDENTIALS and _CREDENTIALS.search(plain) is not None


def as_text(value: bytes) -> str:
    """A header's value as text that becomes the same bytes when it is sent in UTF-8.

    Bytes that are no UTF-8 are read as Latin-1.
    """
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def header_value(text: str) -> bytes:
    """A text as a header's value: printable ASCII alone, so that every client can read it."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii").strip()
    ascii_only = text.replace("≥", ">=").encode("ascii", "replace")
    return re.sub(rb"[^\x20-\x7e]", b"?", ascii_only).strip()


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    return {
        part.strip().lower()
        for name, value in headers
        if name in (b"connection", b"proxy-connection")
        for part in value.split(b",")
    }
