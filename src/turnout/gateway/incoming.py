"""A caller's request, read within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Receive, Scope

from turnout.errors import RecordError
from turnout.gateway.collecting import uncollected
from turnout.gateway.headers import RawHeaders, as_text
from turnout.gateway.problems import Problem, bad_request
from turnout.protocols import JsonBody

# Silence after which a body that is being sent is given up.
BODY_TIMEOUT_S = 60.0
LARGE_BYTES = 64 << 10
_T = TypeVar("_T")


class CallerLeftError(Exception):
    """The caller closed the connection before its request was whole."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request.

    Attributes:
        method: Of HTTP.
        query: Without `?`.
        raw_headers: As they came; names in lower case.
        headers: The same as text, of several the first.
    """

    method: str
    query: str
    raw_headers: RawHeaders
    headers: Mapping[str, str]

    @classmethod
    def from_scope(cls, scope: Scope) -> RequestHead:
        """Read the head that ASGI gives."""
        raw: RawHeaders = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        headers: dict[str, str] = {}
        for name, value in raw:
            headers.setdefault(name.decode("latin-1"), as_text(value))
        return cls(scope["method"], scope.get("query_string", b"").decode("latin-1"), raw, headers)


async def read_json(
    head: RequestHead, receive: Receive, max_bytes: int, read: Callable[[JsonBody], _T]
) -> _T:
    """Read a request's body as JSON, and what it says; a large one in a thread.

    Args:
        head: The request's head.
        receive: Of ASGI.
        max_bytes: Most that is read.
        read: What the body says.

    Raises:
        Problem: If it is no JSON object, too large or too slow.
        CallerLeftError: If the caller leaves.
    """
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise Problem(
            415,
            "unsupported_media_type",
            f"content-type: found {media_type[:100]!a}; expected application/json.",
        )
    encoding = head.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            415,
            "unsupported_media_type",
            f"content-encoding: found {encoding[:100]!a}; expected none. Send the body as it is.",
        )
    chunks = await _body(head, receive, max_bytes)

    def parsed() -> _T:
        try:
            return read(JsonBody.from_bytes(b"".join(chunks)))
        except RecordError as error:
            raise bad_request(str(error)) from error

    return await off_loop(sum(map(len, chunks)), parsed)


async def off_loop(n_bytes: int, work: Callable[[], _T]) -> _T:
    """Do work on so many bytes; in a thread where it would hold the event loop."""
    if n_bytes <= LARGE_BYTES:
        return work()

    def uncollected_work() -> _T:
        with uncollected():
            return work()

    return await asyncio.to_thread(uncollected_work)


async def _body(head: RequestHead, receive: Receive, max_bytes: int) -> list[bytes]:
    declared = head.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    n_bytes = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                message = await receive()
        except TimeoutError as error:
            raise Problem(
                408,
                "request_timeout",
                f"body: nothing came for {BODY_TIMEOUT_S:.0f} s; expected the rest of it.",
            ) from error
        if message["type"] == "http.disconnect":
            raise CallerLeftError
        chunks.append(message.get("body", b""))
        n_bytes += len(chunks[-1])
        if n_bytes > max_bytes:
            raise _too_large(max_bytes)
        more = message.get("more_body", False)
    return chunks


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        413,
        "request_too_large",
        f"body: larger than {max_bytes / 1e6:g} MB; expected at most that. Send less, or raise "
        "gateway.max_body_mb in the settings.",
    )
