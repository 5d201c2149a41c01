"""An answer's bytes, whole or streamed, read while they are passed on.

Reading never fails: what cannot be read is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from turnout.protocols.event_stream import DONE, MAX_BYTES, EventStream, json_object
from turnout.protocols.records import Answer


class StreamedAnswer(Protocol):
    """The events of one stream, gathered into an answer."""

    def take(self, event: Mapping[str, object]) -> None:
        """Take the next event."""

    def finish(self) -> None:
        """Note that `[DONE]` came."""

    def is_complete(self) -> bool:
        """Whether the last event came."""

    def answer(self) -> Answer:
        """What was answered so far."""

    def error_event(self, message: str) -> bytes:
        """The event that ends the stream with an error, in a form that clients raise."""


class AnswerFormat(Protocol):
    """What a reader needs of a wire format."""

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """Read a whole answer."""

    def streamed_answer(self) -> StreamedAnswer:
        """An empty answer, to be filled by events."""

    def is_usage_alone(self, event: Mapping[str, object]) -> bool:
        """Whether an event says nothing but what the answer cost."""


class AnswerReader:
    """Reads one answer, chunk by chunk.

    Args:
        wire_format: The format of the endpoint that was asked.
        streamed: Whether the answer is server-sent events rather than one JSON object.
        usage_withheld: Whether the event with the usage alone is taken out of the stream, since the
            caller did not ask for it.
    """

    def __init__(
        self, wire_format: AnswerFormat, *, streamed: bool, usage_withheld: bool = False
    ) -> None:
        self._format = wire_format
        self._usage_withheld = usage_withheld
        self._gathered = wire_format.streamed_answer()
        self._stream = EventStream(self._take) if streamed else None
        self._pieces: list[bytes] = []
        self._n_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes, cut anywhere; gives what is to be passed on now."""
        if self._stream is not None:
            return self._stream.feed(chunk)
        self._n_bytes += len(chunk)
        if self._n_bytes <= MAX_BYTES:
            self._pieces.append(chunk)
        else:
            self._pieces.clear()
        return chunk

    def close(self) -> bytes:
        """Note that the answer has ended regularly; gives the bytes that were still held."""
        return self._stream.close() if self._stream is not None else b""

    def is_complete(self) -> bool:
        """Whether a stream's last event came; a client may leave then."""
        return self._stream is not None and self._gathered.is_complete()

    def answer(self) -> Answer:
        """What was answered so far."""
        if self._stream is not None:
            return self._gathered.answer()
        return self._format.read_answer(json_object(b"".join(self._pieces)))

    def error_event(self, message: str) -> bytes:
        """What ends a stream that broke; bytes still held are to be thrown away."""
        event = self._gathered.error_event(message)
        return b"\n\n" + event if self._stream is not None and self._stream.is_torn else event

    def _take(self, data: bytes, name: bytes) -> bool:
        if data.strip() == DONE:
            self._gathered.finish()
            return True
        event = json_object(data)
        if name == b"error" and not event.get("error"):
            # Some servers say only by the event's name that it is an error.
            event = {**event, "error": event.get("message") or "unknown error"}
        self._gathered.take(event)
        return not (self._usage_withheld and self._format.is_usage_alone(event))


def event_bytes(values: str, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {values}\n\n".encode()
