"""Who may use the gateway: callers' keys, and where requests may come from."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from turnout.gateway.forward import is_loopback
from turnout.gateway.headers import RawHeaders
from turnout.gateway.options import Caller, GatewayOptions
from turnout.gateway.problems import Problem, bad_request

_KEY_HEADERS = (
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "x-litellm-api-key",
    "ocp-apim-subscription-key",
)  # fmt: skip
_KEY_IN_QUERY = re.compile("key|token|secret|password|credential|authori|^sig$", re.IGNORECASE)
_MINUTE_S = 60.0


class Callers:
    """Knows callers by the hashes of their keys.

    Args:
        callers: Of the settings; none lets everybody in.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, callers: Sequence[Caller], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._callers = tuple(callers)
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def admit(self, headers: Mapping[str, str]) -> str | None:
        """The caller's name; None where nobody needs a key.

        Raises:
            Problem: If the key is missing or wrong, or the caller asks too often.
        """
        if not self._callers:
            return None
        caller = None
        for key in keys_of(headers):
            hashed = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
            for each in self._callers:
                # All are compared, so that the time tells nothing.
                if hmac.compare_digest(each.key_sha256.lower(), hashed):
                    caller = each
        if caller is None:
            raise Problem(
                401,
                "invalid_api_key",
                "the key is missing or not one of this gateway's; expected it as "
                "'authorization: Bearer KEY' or 'x-api-key: KEY'.",
            )
        self._limit(caller)
        return caller.name

    def _limit(self, caller: Caller) -> None:
        if caller.requests_per_minute is None:
            return
        now = self._clock()
        began, n_requests = self._windows.get(caller.name, (now, 0))
        if now - began >= _MINUTE_S:
            began, n_requests = now, 0
        if n_requests >= caller.requests_per_minute:
            wait_s = max(1, round(_MINUTE_S - (now - began)))
            raise Problem(
                429,
                "rate_limit_exceeded",
                f"{caller.name} has sent {n_requests} requests within a minute, as many as it "
                f"may; expected fewer. Try again in {wait_s} s.",
                [(b"retry-after", str(wait_s).encode())],
            )
        self._windows[caller.name] = began, n_requests + 1


def keys_of(headers: Mapping[str, str]) -> list[str]:
    """The keys that a caller sends, each once, in whichever headers."""
    keys = {headers[name].strip() for name in _KEY_HEADERS if headers.get(name)}
    return sorted({_without_scheme(key) for key in keys if key})


def scope_of(headers: Mapping[str, str]) -> str:
    """What tells the conversations of one caller from those of others.

    One key is one caller, in whichever header it comes; who sends several is told by all of them.
    """
    return "\n".join(keys_of(headers))


def digest_of_keys(headers: Mapping[str, str]) -> str:
    """A digest of the keys that a caller sends; empty where it sends none."""
    keys = scope_of(headers)
    return hashlib.sha256(keys.encode("utf-8", "surrogatepass")).hexdigest() if keys else ""


def _without_scheme(key: str) -> str:
    kind, _, rest = key.partition(" ")
    return rest.strip() if kind.lower() == "bearer" and rest.strip() else key


def refuse_key_in_query(query: str) -> None:
    """Refuse a key in the URL: it would stand in logs, and go to the upstream.

    Raises:
        Problem: If a parameter's name says that it is one.
    """
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if _KEY_IN_QUERY.search(name):
            raise bad_request(
                f"the URL's parameter {name[:40]!a}: keys in URLs are not taken; expected the key "
                "as 'authorization: Bearer KEY' or 'x-api-key: KEY'."
            )


def check_origin(headers: Mapping[str, str], options: GatewayOptions) -> None:
    """Refuse web pages that were not allowed, and names that another site gave this machine.

    A page in a browser on this machine could otherwise spend the keys of the gateway.

    Raises:
        Problem: If the request comes from elsewhere.
    """
    origin = headers.get("origin")
    if origin is not None and not is_allowed_origin(origin, options):
        raise Problem(
            403,
            "origin_not_allowed",
            f"origin {origin[:200]!a} may not call this gateway; expected one of "
            "gateway.allowed_origins in the settings.",
        )
    host = _name_of(headers.get("host", ""))
    checks_host = is_loopback(options.host) or bool(options.allowed_hosts)
    known = (options.host, *options.allowed_hosts)
    if checks_host and host and not is_loopback(host) and host not in known:
        raise Problem(
            403,
            "host_not_allowed",
            f"host {host[:200]!a} is not a name of this gateway; expected localhost, or one of "
            "gateway.allowed_hosts in the settings.",
        )


@functools.lru_cache(maxsize=1024)
def _name_of(host: str) -> str:
    """A host without its port; as it came where it is none."""
    if "@" in host:
        return host  # what stands before it is read as a user's name by some
    try:
        return urlsplit(f"//{host}").hostname or host
    except ValueError:
        return host


def check_one_host(raw_headers: RawHeaders) -> None:
    """Refuse a request with two hosts: another server may have read the other one.

    Raises:
        Problem: If it has more than one.
    """
    n_hosts = sum(name == b"host" for name, _ in raw_headers)
    if n_hosts > 1:
        raise bad_request(f"host: found {n_hosts} of these headers; expected one.")


def is_allowed_origin(origin: str, options: GatewayOptions) -> bool:
    """Whether pages of an origin may call the gateway."""
    return "*" in options.allowed_origins or origin in options.allowed_origins
