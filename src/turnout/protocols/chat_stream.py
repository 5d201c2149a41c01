"""The bytes of a chat completion, whole or streamed, read while they are relayed.

Reading never changes what is relayed and never fails: what cannot be read is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from turnout.protocols import chat
from turnout.protocols.parts import mapping, mappings, text
from turnout.protocols.records import Answer, Usage

# A longer line or whole answer is relayed and not read.
MAX_BYTES = 8 << 20
_DATA = b"data:"


class AnswerReader:
    """Listens to a response that is relayed chunk by chunk.

    Args:
        streamed: Whether the response is server-sent events rather than one JSON object.
    """

    def __init__(self, *, streamed: bool) -> None:
        self._streamed = streamed
        self._pieces: list[bytes] = []
        self._n_bytes = 0
        self._texts: list[str] = []
        self._n_chars = 0
        self._tools: list[str] = []
        self._model: str | None = None
        self._usage = Usage()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        if not self._streamed:
            self._hold(chunk)
            return
        first, *rest = chunk.split(b"\n")
        self._hold(first)
        for line in rest:
            self._take_event(self._held())
            self._hold(line)

    def answer(self) -> Answer:
        """What was answered so far."""
        if not self._streamed:
            return chat.read_answer(_json(self._held()))
        self._take_event(self._held())
        return Answer("".join(self._texts), tuple(self._tools), self._model, self._usage)

    def _hold(self, piece: bytes) -> None:
        self._n_bytes += len(piece)
        if self._n_bytes <= MAX_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _held(self) -> bytes:
        held = b"".join(self._pieces)
        self._pieces, self._n_bytes = [], 0
        return held

    def _take_event(self, line: bytes) -> None:
        if not line.startswith(_DATA):
            return
        event = _json(line[len(_DATA) :])
        self._model = text(event.get("model")) or self._model
        for choice in mappings(event.get("choices"))[:1]:
            said = mapping(choice.get("delta"))
            content = text(said.get("content"))
            if content and self._n_chars <= MAX_BYTES:
                self._texts.append(content)
                self._n_chars += len(content)
            self._tools += chat.called_tools(said)
        if isinstance(event.get("usage"), Mapping):
            self._usage = chat.usage_of(mapping(event["usage"]))


def _json(data: bytes) -> Mapping[str, object]:
    try:
        return mapping(json.loads(data))
    except (ValueError, RecursionError):  # "[DONE]", a comment, or bytes cut short
        return {}
