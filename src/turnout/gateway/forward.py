"""A decided request → its target, or the next one that answers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import functools
import ipaddress
import os
import re
import time
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from turnout.errors import SettingsError, UpstreamError
from turnout.gateway.breaker import Breaker
from turnout.gateway.headers import RawHeaders, as_text, forwarded_headers, relayed_headers
from turnout.gateway.incoming import off_loop
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing.served import Attempt

CONNECT_TIMEOUT_S = 10.0
_MAX_HEADER_BYTES = 256 << 10
_MAX_ERROR_BYTES = 1 << 20
_PIECE_BYTES = 256 << 10
# A refusal's body is waited for so long before the next target is tried.
_ERROR_BODY_S = 10.0
# A kept-alive connection that was closed while it was idle fails within moments.
_STALE_S = 1.0
_TIMED_OUT = 408
# What an upstream answers to a key or an account that it does not serve. A filter of content may
# answer 403 too, so that alone does not count against the target.
_DENIED = (401, 402, 403)
_FORBIDDEN = 403
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_TOO_MANY = 429


class UpstreamTimeoutError(UpstreamError):
    """An upstream was silent for too long (HTTP 504)."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that is to be forwarded.

    Attributes:
        method: Of HTTP.
        path: What comes after the upstream's URL.
        query: The caller's query, without `?`.
        headers: The caller's.
        body_for: The body that a target gets.
        n_bytes: About how long that is.
        is_anthropic: Whether the endpoint is Anthropic's, which takes its key in another header.
        caller: Digest of the caller's keys; empty where it sends none.
    """

    method: str
    path: str
    query: str
    headers: RawHeaders
    body_for: Callable[[Target], bytes]
    n_bytes: int = 0
    is_anthropic: bool = False
    caller: str = ""


@dataclass(slots=True)
class Forwarded:
    """An upstream's answer, of whose body at most the beginning was read.

    Attributes:
        response: The answer.
        target: Who gave it.
        attempts: Every try so far, the last one included.
        held_body: The body where it was read already: that of a refusal.
        key: Ours, for this upstream; it is shown to nobody.
        is_unpacked: Whether `held_body` was compressed when it came.
    """

    response: aiohttp.ClientResponse
    target: Target
    attempts: list[Attempt] = field(default_factory=list)
    held_body: bytes | None = None
    key: str | None = None
    is_unpacked: bool = False
    _first_chunk: bytes = b""

    def headers(self) -> RawHeaders:
        """What the caller gets of the answer's headers."""
        headers = relayed_headers(self.response.raw_headers)
        if self.is_unpacked:
            headers = [(name, value) for name, value in headers if name != b"content-encoding"]
        if self.key is None:
            return headers
        return [(name, self.without_key(value)) for name, value in headers]

    def without_key(self, data: bytes) -> bytes:
        """Some upstreams repeat a key that they refuse; it is replaced by `***`."""
        return data.replace(self.key.encode(), b"***") if self.key else data

    def hold(self, body: bytes) -> None:
        """Keep a refusal's body, without our key.

        Raises:
            UpstreamError: If it is compressed in a way that cannot be searched for the key.
        """
        encoding = self.response.headers.get("content-encoding", "").strip().lower()
        if self.key is not None and encoding not in ("", "identity"):
            try:
                # 32: either gzip or zlib, whichever the head says.
                body = zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(body, _MAX_ERROR_BYTES)
            except zlib.error as error:
                raise _unreadable(self.target, f"a refusal in {encoding[:40]!a}") from error
            self.is_unpacked = True
        self.held_body = self.without_key(body)

    async def begin(self) -> None:
        """Wait for the body's first bytes: until they come, another target may still answer.

        Raises:
            UpstreamError: If the upstream breaks off before, or is silent.
        """
        is_begun = False
        try:
            self._first_chunk = await self._next_chunk()
            is_begun = True
        finally:
            # Also where the caller leaves meanwhile.
            if not is_begun:
                self.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            UpstreamError: If the upstream breaks off, or is silent.
        """
        if self.held_body is not None:
            yield self.held_body
            return
        chunk = self._first_chunk or await self._next_chunk()
        while chunk:
            yield chunk
            chunk = await self._next_chunk()

    async def _next_chunk(self) -> bytes:
        """The next bytes; none at the end."""
        name = self.target.upstream
        try:
            return await self.response.content.readany()
        except TimeoutError as error:
            raise UpstreamTimeoutError(
                f"upstream {name} was silent in mid-answer for longer than its timeout_s."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(
                f"upstream {name} broke off in mid-answer ({type(error).__name__})."
            ) from error

    def close(self) -> None:
        """End the upstream call: at once where its body was not read to the end."""
        self.response.close()


class NoAnswerError(UpstreamError):
    """No target answered.

    Attributes:
        attempts: Every try.
        is_late: Whether the first one was silent for too long.
        is_denied: Whether an upstream refuses the gateway's own key or account.
    """

    def __init__(
        self,
        message: str,
        attempts: list[Attempt],
        *,
        is_late: bool = False,
        is_denied: bool = False,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.is_late = is_late
        self.is_denied = is_denied


class Forwarder:
    """Sends requests to upstreams over one pool of connections.

    Args:
        options: Upstreams and their keys.

    Raises:
        SettingsError: If a key is not in the environment or cannot be one, or if the callers' keys
            would go to more than one vendor.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._upstreams = options.upstreams
        self._keys = {name: _key(name, up) for name, up in options.upstreams.items()}
        _refuse_shared_keys(options)
        self._urls = {name: URL(up.url) for name, up in options.upstreams.items()}
        self._proxies = {name: _proxy_of(url) for name, url in self._urls.items()}
        self._session: aiohttp.ClientSession | None = None
        self.breaker = Breaker()

    async def send(self, outgoing: Outgoing, candidates: Sequence[Target]) -> Forwarded:
        """Forward to the first candidate that answers; of its body at most the beginning is read.

        A failed connection, a time-out (also one that the upstream reports with 408), 429, 5xx,
        an answer that breaks off before its body begins, and a refusal of the gateway's own key or
        account go to the next candidate. Where none does better, the first refusal is given, but
        never one of the gateway's own key: that is no fault of the caller's.

        Raises:
            NoAnswerError: If no candidate answered at all, or all refuse the gateway's own keys.
        """
        attempts: list[Attempt] = []
        refused: Forwarded | None = None
        denied: Forwarded | None = None
        first_error: UpstreamError | None = None
        for target in self._tried(outgoing, candidates):
            status = None
            try:
                response = await self._send_once(outgoing, target)
                status = response.status
                forwarded = Forwarded(response, target, attempts, key=self._keys[target.upstream])
                await (forwarded.begin() if status < 400 else _hold_body(forwarded))
            except UpstreamError as error:
                self.breaker.failed(target.name)
                attempts.append(Attempt(target.name, target.model, status, str(error)))
                first_error = first_error or error
                continue
            attempts.append(Attempt(target.name, target.model, status, _refusal(response)))
            if status in _DENIED and not self._passes_key(target.upstream):
                denied = denied or forwarded
                if status != _FORBIDDEN:
                    self.breaker.failed(target.name)
                continue
            if not _is_failure(response.status):
                self.breaker.succeeded(target.name, outgoing.caller)
                return forwarded
            # Too many requests with a caller's own key are that caller's alone.
            is_own = response.status == _TOO_MANY and self._passes_key(target.upstream)
            caller = outgoing.caller if is_own else ""
            self.breaker.failed(target.name, _retry_after_s(response), caller)
            refused = refused or forwarded
        if refused is not None:
            return refused
        if denied is not None:
            raise NoAnswerError(self._denial(denied), attempts, is_denied=True)
        late = isinstance(first_error, UpstreamTimeoutError)
        raise NoAnswerError(str(first_error), attempts, is_late=late)

    def _tried(self, outgoing: Outgoing, candidates: Sequence[Target]) -> Iterator[Target]:
        """The candidates that are not passed over; the first one where all would be."""
        is_any = False
        for target in candidates:
            # Asked only when its turn comes: an answer may make a trial of it.
            if self.breaker.allows(target.name, outgoing.caller):
                is_any = True
                yield target
        if not is_any:
            yield candidates[0]

    def _denial(self, denied: Forwarded) -> str:
        """What a caller reads in place of the upstream's words about our key."""
        upstream, status = denied.target.upstream, denied.response.status
        if status == _FORBIDDEN:
            return (
                f"upstream {upstream} does not allow this request (HTTP {status}): the gateway's "
                "account lacks a right, or the content is filtered. Ask for something else, or let "
                f"whoever runs the gateway check the account of [upstreams.{upstream}]."
            )
        return (
            f"upstream {upstream} does not accept the gateway's own key or account (HTTP "
            f"{status}). Whoever runs the gateway must check api_key_env of "
            f"[upstreams.{upstream}] and the account's credit."
        )

    def _passes_key(self, upstream: str) -> bool:
        """Whether an upstream gets the caller's own key."""
        return self._keys[upstream] is None and self._upstreams[upstream].needs_key

    async def reachable(self, timeout_s: float = 3.0) -> dict[str, bool]:
        """Which upstreams accept a connection; any answer will do."""
        reachable = {}
        for name, url in self._urls.items():
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            try:
                async with self._client().head(
                    url, timeout=timeout, allow_redirects=False, proxy=self._proxies[name]
                ):
                    reachable[name] = True
            except (aiohttp.ClientError, OSError, TimeoutError):
                reachable[name] = False
        return reachable

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def _send_once(self, outgoing: Outgoing, target: Target) -> aiohttp.ClientResponse:
        trace = SimpleNamespace(is_reused=False)
        began_s = time.monotonic()
        try:
            return await self._request(outgoing, target, trace)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
            # A connection that was closed while it was idle: nothing of the request was read.
            if not trace.is_reused or time.monotonic() - began_s > _STALE_S:
                raise _unreachable(target, self._upstreams[target.upstream], error) from error
        with contextlib.suppress(aiohttp.ServerDisconnectedError, ConnectionResetError):
            return await self._request(outgoing, target, trace)
        raise _unreachable(target, self._upstreams[target.upstream], ConnectionResetError())

    async def _request(
        self, outgoing: Outgoing, target: Target, trace: SimpleNamespace
    ) -> aiohttp.ClientResponse:
        upstream = self._upstreams[target.upstream]
        body = await off_loop(outgoing.n_bytes, functools.partial(outgoing.body_for, target))
        headers = self._headers(outgoing, target.upstream)
        headers["content-length"] = str(len(body))
        try:
            response = await self._client().request(
                outgoing.method,
                self._url(outgoing, target.upstream),
                data=_in_pieces(body) if len(body) > _PIECE_BYTES else body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=CONNECT_TIMEOUT_S, sock_read=upstream.timeout_s
                ),
                allow_redirects=False,
                proxy=self._proxies[target.upstream],
                trace_request_ctx=trace,
            )
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise _unreachable(target, upstream, error) from error
        except aiohttp.ClientOSError as error:
            raise ConnectionResetError from error
        except TimeoutError as error:
            raise UpstreamTimeoutError(
                f"upstream {target.upstream} did not answer within {upstream.timeout_s:g} s. "
                "Try again, or raise its timeout_s."
            ) from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise _unreadable(target, type(error).__name__) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _unreachable(target, upstream, error) from error
        if not 200 <= response.status < 600:
            response.close()
            raise _unreadable(target, f"status {response.status}")
        return response

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                read_bufsize=_MAX_HEADER_BYTES,
                trace_configs=[tracing],
            )
        return self._session

    def _url(self, outgoing: Outgoing, upstream: str) -> URL:
        base = self._urls[upstream]
        query = "&".join(part for part in (base.raw_query_string, outgoing.query) if part)
        path = base.raw_path.rstrip("/") + outgoing.path
        url = f"{base.origin()}{path}"
        return URL(f"{url}?{query}" if query else url, encoded=True)

    def _headers(self, outgoing: Outgoing, upstream: str) -> CIMultiDict[str]:
        options, key = self._upstreams[upstream], self._keys[upstream]
        passes = self._passes_key(upstream)
        headers: CIMultiDict[str] = CIMultiDict(
            (as_text(name), as_text(value))
            for name, value in forwarded_headers(outgoing.headers, with_credentials=passes)
        )
        # The answer is read for the journal on its way; compressed it could not be.
        headers["accept-encoding"] = "identity"
        if key is not None:
            name = options.api_key_header or (
                "x-api-key" if outgoing.is_anthropic else "authorization"
            )
            headers[name] = f"Bearer {key}" if name == "authorization" else key
        return headers


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A large body, a piece at a time: in one go it would be sent while everybody else waits."""
    view = memoryview(body)
    for start in range(0, len(body), _PIECE_BYTES):
        yield bytes(view[start : start + _PIECE_BYTES])
        await asyncio.sleep(0)


class _Connector(aiohttp.TCPConnector):
    """Connections to upstreams, kept alive unless an upstream has sent something unasked.

    That would be taken for the answer to the next request, perhaps another caller's.
    """

    async def _get(self, key: Any, traces: list[Any]) -> Any:  # noqa: ANN401 (as aiohttp has it)
        for connection, _ in self._conns.get(key, ()):
            if connection.should_close:
                connection.close()
        return await super()._get(key, traces)


async def _note_reuse(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: object
) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.is_reused = True


async def _hold_body(forwarded: Forwarded) -> None:
    """Read a refusal's body, so that its connection is free for the next request."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_BODY_S):
            async for chunk in forwarded.chunks():
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    except (UpstreamError, TimeoutError):
        pass  # what came is shown
    finally:
        forwarded.close()
    forwarded.hold(body)


def _is_failure(status: int) -> bool:
    return status in (_TIMED_OUT, _TOO_MANY) or status >= 500


def _refusal(response: aiohttp.ClientResponse) -> str | None:
    return None if response.status < 400 else f"HTTP {response.status}"


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds from a `Retry-After` header: a number, or a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value[:6])
    with contextlib.suppress(ValueError, TypeError):
        when = email.utils.parsedate_to_datetime(value)
        return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())
    return None


def _unreadable(target: Target, what: str) -> UpstreamError:
    return UpstreamError(
        f"upstream {target.upstream} gave an answer that is no whole HTTP message ({what}). Check "
        "what listens at its url in the settings."
    )


def _unreachable(target: Target, upstream: Upstream, error: Exception) -> UpstreamError:
    return UpstreamError(
        f"upstream {target.upstream} ({upstream.url.partition('?')[0]}) cannot be reached "
        f"({type(error).__name__}). Check that it runs, and its url in the settings."
    )


def _key(name: str, upstream: Upstream) -> str | None:
    if upstream.api_key_env is None:
        return None
    key = os.environ.get(upstream.api_key_env)
    if not key:
        raise SettingsError(
            f"upstream {name}: the environment has no {upstream.api_key_env}; expected "
            "its key there. Set it, or leave api_key_env out to pass callers' own keys on."
        )
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise SettingsError(
            f"upstream {name}: the key in {upstream.api_key_env} holds a line end, a space around "
            "it or a character outside ASCII; expected the key alone. Set it again, for example "
            f'with: export {upstream.api_key_env}="$(tr -d "[:space:]" < FILE)".'
        )
    return key


def _refuse_shared_keys(options: GatewayOptions) -> None:
    """Refuse to send a caller's key to two vendors, or a key for our door to any."""
    keyless = {
        name: URL(upstream.url).host or ""
        for name, upstream in options.upstreams.items()
        if upstream.api_key_env is None and upstream.needs_key
    }
    if options.callers and keyless:
        raise SettingsError(
            f"upstream {min(keyless)}: no api_key_env, though [[callers]] have keys for the "
            "gateway; expected a key of your own for every upstream, since the callers' are not "
            "passed on. Set api_key_env, or needs_key = false for a server that asks for none."
        )
    hosts = {host for host in keyless.values() if not is_loopback(host)}
    if len(hosts) > 1:
        raise SettingsError(
            f"upstreams {', '.join(sorted(keyless))}: no api_key_env, so each caller's own key "
            f"would be sent to {' and to '.join(sorted(hosts))}; expected one vendor at most "
            "without a key of yours. Set api_key_env for all but one of them."
        )


@functools.lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for an upstream; never for this machine."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies: Mapping[str, str] = urllib.request.getproxies()
    return proxies.get(url.scheme)
