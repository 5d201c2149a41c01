"""An upstream on a real socket that speaks as the vendors do, and misbehaves as they do.

    with Upstream() as upstream:
        upstream.behaviours["deep-1"] = Status(429, retry_after="2")
        ...
        assert upstream.requests[0].json["model"] == "deep-1"

A behaviour is an async function of an `Exchange`; without one a request is answered well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from tests.upstream import answers

_WHOLE = {"chat": answers.chat_whole, "responses": answers.responses_whole,
          "messages": answers.messages_whole}  # fmt: skip
_STREAMS = {"chat": answers.chat_stream, "responses": answers.responses_stream,
            "messages": answers.messages_stream}  # fmt: skip
_PATHS = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}
EVENTS = "text/event-stream; charset=utf-8"


@dataclass
class Received:
    """A request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    ended: str = "open"  # then "complete", or "left" where the caller went away

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """A header's value; None where it is absent."""
        return next((value for n, value in self.headers if n == name), None)

    @property
    def protocol(self) -> str:
        path = self.path.partition("?")[0]
        return next((name for end, name in _PATHS.items() if path.endswith(end)), "other")

    @property
    def is_streamed(self) -> bool:
        return self.body.startswith(b"{") and self.json.get("stream") is True


Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request and the connection to answer it on."""

    request: Received
    upstream: Upstream
    writer: asyncio.StreamWriter

    def _start(self, status: int, headers: dict[str, str]) -> None:
        number = len(self.upstream.requests)
        own = {"x-request-id": f"req-{number}", "set-cookie": f"upstream={number}"} | headers
        lines = [f"HTTP/1.1 {status} Because", *(f"{n}: {v}" for n, v in own.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"))

    async def whole(self, body: Any, status: int = 200, **headers: str) -> None:
        """Answer with one body: JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._start(status, {"content-type": "application/json",
                             "content-length": str(len(data))} | named)  # fmt: skip
        if self.request.method != "HEAD":
            self.writer.write(data)
        await self.writer.drain()

    async def stream(
        self, pieces: Iterator[bytes], *, content_type: str = EVENTS, pause_s: float = 0,
        is_ended: bool = True,
    ) -> None:  # fmt: skip
        """Answer with chunks; an answer that is not ended is cut off in the middle."""
        self._start(200, {"content-type": content_type, "transfer-encoding": "chunked"})
        for piece in pieces:
            self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await self.writer.drain()
            await asyncio.sleep(pause_s)
        if is_ended:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()
        else:
            raise ConnectionAbortedError

    def events(self) -> Iterator[bytes]:
        """The events of a good answer."""
        return _STREAMS[self.request.protocol](self.request.json)


async def answer_well(exchange: Exchange) -> None:
    """Answer as the vendor does."""
    request = exchange.request
    path = request.path.partition("?")[0]
    if request.protocol != "other" and request.method == "POST":
        if request.is_streamed:
            await exchange.stream(exchange.events())
        else:
            await exchange.whole(_WHOLE[request.protocol](request.json))
    elif path.endswith("/count_tokens"):
        await exchange.whole({"input_tokens": 42})
    elif path.endswith("/embeddings"):
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        await exchange.whole({"object": "list", "data": vectors, "usage": usage,
                              "model": request.json["model"]})  # fmt: skip
    elif path.endswith("/models"):
        await exchange.whole({"object": "list", "data": []})
    else:
        await exchange.whole(answers.error_of("chat", 404, f"no {path}"), 404)


@dataclass
class Status:
    """Refuse with a status, in the vendor's form."""

    status: int
    message: str = "the upstream refuses"
    retry_after: str | None = None
    location: str | None = None

    async def __call__(self, exchange: Exchange) -> None:
        headers = {"retry_after": self.retry_after, "location": self.location}
        body = answers.error_of(exchange.request.protocol, self.status, self.message)
        given = {name: value for name, value in headers.items() if value is not None}
        await exchange.whole(body, self.status, **given)


@dataclass
class Cut:
    """Begin a stream or a body and close the connection in the middle of it."""

    n_events: int = 2

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.is_streamed:
            events = list(exchange.events())
            torn = [*events[: self.n_events], events[self.n_events][:9]]
            await exchange.stream(iter(torn), is_ended=False)
        await lying_length(exchange)


@dataclass
class Slow:
    """Wait before the answer, and between its events."""

    before_s: float = 0
    between_s: float = 0

    async def __call__(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.before_s)
        if exchange.request.is_streamed:
            await exchange.stream(exchange.events(), pause_s=self.between_s)
        else:
            await answer_well(exchange)


@dataclass
class Raw:
    """Stream these bytes, in these pieces."""

    pieces: list[bytes]
    content_type: str = EVENTS

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.stream(iter(self.pieces), content_type=self.content_type)


@dataclass
class InPieces:
    """Answer well, in pieces of so many bytes, with other line ends if wanted."""

    n_bytes: int
    line_end: bytes = b"\n"
    content_type: str = EVENTS

    async def __call__(self, exchange: Exchange) -> None:
        data = b"".join(exchange.events()).replace(b"\n", self.line_end)
        cuts = range(0, len(data), self.n_bytes)
        pieces = (data[cut : cut + self.n_bytes] for cut in cuts)
        await exchange.stream(pieces, content_type=self.content_type)


async def silent(exchange: Exchange) -> None:
    """Say nothing until the test releases it, then answer well."""
    await exchange.upstream.released()
    await answer_well(exchange)


async def silent_after_the_first_event(exchange: Exchange) -> None:
    """Stream one event, then nothing until the test releases it."""
    exchange._start(200, {"content-type": EVENTS, "transfer-encoding": "chunked"})
    for index, piece in enumerate(exchange.events()):
        exchange.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await exchange.writer.drain()
        if index == 0:
            await exchange.upstream.released()
    exchange.writer.write(b"0\r\n\r\n")


async def endless(exchange: Exchange) -> None:
    """Stream without an end, until the caller leaves."""
    first, second, *_ = exchange.events()

    def pieces():
        yield first
        while True:
            yield second

    await exchange.stream(pieces(), pause_s=0.01)


async def hang_up(exchange: Exchange) -> None:
    """Close the connection without a word."""
    raise ConnectionAbortedError


async def garbage(exchange: Exchange) -> None:
    """Stream what is no event."""
    lines = [b"\xff\xfe\x00", b"data: {broken\n\n", b"data\n\n", b"event:\n\n", b": \n", b"\r\r"]
    await exchange.stream(iter([*lines, b"data: [1, 2]\n\n", b"id: 7\nretry: 0\n\n"]))


async def error_event(exchange: Exchange) -> None:
    """Begin a stream well and end it with the vendor's error event."""
    events = list(exchange.events())
    ended = answers.error_event_of(exchange.request.protocol, "overloaded")
    await exchange.stream(iter([*events[:3], ended]))


async def without_last_event(exchange: Exchange) -> None:
    """End the connection regularly before the answer has ended."""
    await exchange.stream(iter(list(exchange.events())[:3]))


async def lying_length(exchange: Exchange) -> None:
    """Promise more bytes than come."""
    await exchange.whole(b'{"choices": [', content_length="5000")
    raise ConnectionAbortedError


@dataclass
class Upstream:
    """The server; a context manager.

    Attributes:
        behaviours: By model; `*` for all others. A list is used up one behaviour a request.
        requests: Everything that came, oldest first.
    """

    behaviours: dict[str, Behaviour | list[Behaviour]] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    url: str = ""
    n_connections: int = 0
    _release: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        self.url = f"http://127.0.0.1:{started.result(10)}"
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def release(self) -> None:
        """Let silent answers go on."""
        self._release.set()

    async def released(self) -> None:
        while not self._release.is_set():
            await asyncio.sleep(0.01)

    async def _serve(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20)
        return self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader, writer) -> None:
        self._tasks.add(task := asyncio.current_task())
        self.n_connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader, writer) -> bool:
        """Answer one request; whether the connection stays open."""
        request = await _received(reader)
        self.requests.append(request)
        left = asyncio.ensure_future(_until_left(reader, writer))
        answered = asyncio.ensure_future(self._behaviour(request)(Exchange(request, self, writer)))
        try:
            await asyncio.wait({left, answered}, return_when=asyncio.FIRST_COMPLETED)
            request.ended = "complete" if answered.done() else "left"
            if answered.done():
                answered.result()
            return answered.done()
        except ConnectionError:
            with contextlib.suppress(OSError):
                await writer.drain()
            if writer.transport.is_closing():
                request.ended = "left"
            else:
                writer.write_eof()  # what was written arrives, unlike after a reset
                await asyncio.sleep(0.05)
            return False
        finally:
            for task in (left, answered):
                task.cancel()

    def _behaviour(self, request: Received) -> Behaviour:
        model = request.json.get("model") if request.body.startswith(b"{") else None
        behaviour = self.behaviours.get(str(model), self.behaviours.get("*", answer_well))
        if isinstance(behaviour, list):
            return behaviour.pop(0) if behaviour else answer_well
        return behaviour


async def _until_left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof() and not writer.transport.is_closing():
        await asyncio.sleep(0.005)


async def _received(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
    named = dict(headers)
    body = b""
    if named.get("transfer-encoding") == "chunked":
        while n_bytes := int(await reader.readline(), 16):
            body += (await reader.readexactly(n_bytes + 2))[:-2]
        await reader.readline()
    elif "content-length" in named:
        body = await reader.readexactly(int(named["content-length"]))
    return Received(method, path, headers, body)
