"""A caller's connection: limits of request heads, and errors before a request can be read."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from turnout.protocols import WIRE_FORMATS

# A connection on which no request comes is closed.
IDLE_S = 75.0
_MAX_HEAD_BYTES = 256 << 10
_MAX_URL_BYTES = 16 << 10
# Files that are kept free for upstreams, the journal and the router.
_SPARE_FILES = 64
_FRAMING = (b"content-length", b"transfer-encoding")


class Connection(HttpToolsProtocol):
    """A connection that is closed when no whole request head comes, or when files are short.

    A request head that is too large, or that is no HTTP, is answered with an error in the form of
    the protocol whose path it asks for. An upgrade to WebSocket is refused with 426, after which
    Codex goes on in HTTP; any other upgrade is ignored (RFC 9110, section 7.8).
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_refused = False
    _is_resumed = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (as asyncio has it)
        """Accept a connection, unless too many are open."""
        super().connection_made(transport)
        self._cycles: list[RequestResponseCycle] = []
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_awaiting_head()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the caller sends."""
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
            self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("the request is not HTTP that can be read")
        if self._head_timer is not None and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse_large_head()

    def on_message_begin(self) -> None:
        """Begin a request head."""
        if not self._is_resumed:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        if not self._is_resumed:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._is_resumed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        if self._is_resumed:
            return
        self._stop_awaiting_head()
        if len(self.url) > _MAX_URL_BYTES:
            limit = f"{_MAX_URL_BYTES >> 10} KiB"
            self._refuse(414, "url_too_long", f"URL: longer than {limit}; expected at most that.")
        elif sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD_BYTES:
            self._refuse_large_head()
        elif self._get_upgrade() == b"websocket":
            self._refuse(
                426,
                "websocket_not_served",
                "WebSocket is not served here; expected HTTP. Send the request as POST.",
                b"upgrade: HTTP/1.1\r\n",
            )
        else:
            super().on_headers_complete()
            self._cycles = [*self._unanswered(), self.cycle]
            if self.scope["http_version"] == "1.0":
                _end_by_closing(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the body's end; the parser stops before the body where an upgrade is asked for."""
        is_before_body = self.parser.should_upgrade() and bool(self._framing())
        if not self._is_refused and not is_before_body:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(
            400,
            "invalid_request_error",
            f"{msg}; expected HTTP/1.1. Check the client, and what stands between.",
        )

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with another parser: this one has stopped after the head."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if framing := self._framing():
            self._is_resumed = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
            self._is_resumed = False
        if rest and not self._is_refused:
            self.data_received(rest)

    def _framing(self) -> bytes:
        """The headers that say how long the body is; empty where there is none."""
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        return b"".join(lines)

    def _refuse_large_head(self) -> None:
        limit = f"{_MAX_HEAD_BYTES >> 10} KiB"
        message = f"headers: larger than {limit}; expected at most that."
        self._refuse(431, "headers_too_large", message)

    def _refuse(self, status: int, code: str, message: str, header: bytes = b"") -> None:
        """Answer with an error, and close."""
        self._stop_awaiting_head()
        self._is_refused = True
        if self.transport.is_closing():
            return
        # An error before or in the middle of another answer would be taken for that answer.
        unanswered = self._unanswered()
        is_this = [c for c in unanswered if c.more_body and not c.response_started]
        if len(unanswered) == len(is_this):
            is_anthropic = b"/messages" in getattr(self, "url", b"")
            wire_format = WIRE_FORMATS["messages" if is_anthropic else "chat"]
            own_code = None if is_anthropic else code
            body = json.dumps(wire_format.error_body(status, f"turnout: {message}", code=own_code))
            self.transport.write(
                STATUS_LINE[status] + b"content-type: application/json\r\nconnection: close\r\n"
                b"%scontent-length: %d\r\n\r\n%s" % (header, len(body), body.encode())
            )
        self._disconnect()
        self.transport.close()

    def _unanswered(self) -> list[RequestResponseCycle]:
        """Requests that are being served, or that wait for those before them."""
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def _disconnect(self) -> None:
        """Tell all of them that the caller has gone; uvicorn tells only the last one."""
        for cycle in self._unanswered():
            cycle.disconnected = True
            cycle.message_event.set()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(IDLE_S, self.transport.close)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer, self._head_bytes = None, 0


def _end_by_closing(cycle: RequestResponseCycle) -> None:
    """Close the connection to end the answer: HTTP/1.0 has no chunks.

    Some proxies, such as nginx by default, ask in HTTP/1.0.
    """
    send = cycle.send
    is_framed = True

    async def send_unframed(message: Any) -> None:  # noqa: ANN401 (as ASGI has it)
        nonlocal is_framed
        if message["type"] == "http.response.start":
            is_framed = any(name.lower() == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = None if is_framed else False
        elif not is_framed:
            # The server counts what is left; one byte more is left until the last message.
            more = message.get("more_body", False)
            cycle.expected_content_length = len(message.get("body", b"")) + more
        await send(message)

    cycle.send = send_unframed  # type: ignore[method-assign]


def _max_connections() -> int:
    """How many callers may be connected: each may need a file for its upstream, too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (limit - _SPARE_FILES) // 2)


_MAX_CONNECTIONS = _max_connections()
