"""Server-sent events, read from bytes that are cut anywhere, while they are passed on.

It knows no wire format. Time is linear in the bytes, however they are cut.

Source:
    WHATWG HTML standard, "Server-sent events".
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping

# A longer event is passed on and not read.
MAX_BYTES = 8 << 20
# A longer piece of an event is passed on before the event is whole.
MAX_HELD_BYTES = 64 << 10
DONE = b"[DONE]"
_ENDS = (b"\n", b"\r")


class EventStream:
    """Splits a stream into events.

    An event is held until it is whole, so that a stream which breaks can still end with an event of
    our own. Clients read whole events too: holding one delays nothing.

    Args:
        take: Called with each event's data and name (empty where it has none). What it answers
            says whether the event is passed on.
    """

    def __init__(self, take: Callable[[bytes, bytes], bool]) -> None:
        self._take = take
        self._name = b""
        self._is_first_line = True
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_partly_sent = False
        self._after_cr = False
        self._dropped_last = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes.

        Returns:
            What can be passed on: every byte once and in order, but for events left out.
        """
        if not chunk:
            return b""
        passed: list[bytes] = []
        for piece in chunk.splitlines(keepends=True):
            self._hold(piece, passed)
        if self._held_bytes > MAX_HELD_BYTES:
            self._send(passed)
            self._is_partly_sent = True
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def close(self) -> bytes:
        """The bytes still held, at the regular end of the stream."""
        passed: list[bytes] = []
        if self._line:
            self._take_line(passed)
        if self._data:
            self._dispatch(passed)
        self._send(passed)
        return b"".join(passed)

    @property
    def is_torn(self) -> bool:
        """Whether a part of an event was passed on, and its end not yet."""
        return self._is_partly_sent

    def _hold(self, piece: bytes, passed: list[bytes]) -> None:
        belongs_to_cr = self._after_cr and piece == b"\n"
        self._after_cr = piece.endswith(b"\r")
        if belongs_to_cr:
            if not self._dropped_last:
                (self._held or passed).append(piece)
            return
        self._held.append(piece)
        self._held_bytes += len(piece)
        self._line_bytes += len(piece)
        if self._line_bytes <= MAX_BYTES:
            self._line.append(piece)
        else:
            self._line = [b":"]  # too long to be read: a comment
        if piece.endswith(_ENDS):
            self._take_line(passed)

    def _take_line(self, passed: list[bytes]) -> None:
        line = (self._line[0] if len(self._line) == 1 else b"".join(self._line)).rstrip(b"\r\n")
        self._line, self._line_bytes, self._dropped_last = [], 0, False
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(BOM_UTF8)
        if not line:
            self._dispatch(passed)
        elif line.startswith(b"data"):
            self._add_data(line, passed)
        elif line.startswith(b"event:"):
            self._name = line.partition(b":")[2].strip()
        elif line.startswith(b":") and not self._data:
            self._send(passed)

    def _add_data(self, line: bytes, passed: list[bytes]) -> None:
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        if len(self._data) == 1 and _is_whole(self._data[0]):
            # Events without the blank line between them, as some servers send them.
            self._take(self._data[0], self._name)
            self._data, self._data_bytes, self._name = [], 0, b""
            self._send(passed)
            self._is_partly_sent = True
        self._data_bytes += len(value)
        if self._data_bytes <= MAX_BYTES:
            self._data.append(value.removeprefix(b" "))

    def _dispatch(self, passed: list[bytes]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        name, self._name = self._name, b""
        self._data, self._data_bytes = [], 0
        if data and not self._take(data, name) and not self._is_partly_sent:
            self._held, self._held_bytes, self._dropped_last = [], 0, True
        self._send(passed)
        self._is_partly_sent = False

    def _send(self, passed: list[bytes]) -> None:
        passed += self._held
        self._held, self._held_bytes = [], 0


def json_object(data: bytes) -> Mapping[str, object]:
    """The JSON object of some bytes; an empty one where they are none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_whole(data: bytes) -> bool:
    return data.strip() == DONE or bool(json_object(data))


class GatheredWords:
    """The words of a streamed answer, part by part, up to about `MAX_BYTES` characters."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._n_chars = 0

    def add(self, index: int, words: str | None) -> None:
        """Add words to a part; what comes after the limit is left out."""
        if words and self._n_chars <= MAX_BYTES:
            self._parts.setdefault(index, []).append(words)
            self._n_chars += len(words)

    def joined(self) -> str:
        """All parts in order of their index, one below the other."""
        return "\n".join("".join(self._parts[index]) for index in sorted(self._parts))
