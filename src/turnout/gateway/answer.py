"""The bytes of a chat completion, whole or streamed → what was answered; knows no network.

Reading never changes what is relayed and never fails: what cannot be read is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# An answer longer than this is relayed whole and read up to here.
MAX_BYTES = 8 << 20
_DATA = b"data:"


@dataclass(slots=True)
class Answer:
    """What an upstream answered, as far as it was read.

    Attributes:
        text: The assistant's words.
        tool_counts: Tool name → calls asked for.
        model: What the upstream says it served.
        prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens: As the upstream counts.
    """

    text: str = ""
    tool_counts: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class AnswerReader:
    """Listens to a response that is relayed chunk by chunk.

    Args:
        streamed: Whether the response is server-sent events rather than one JSON object.
    """

    def __init__(self, *, streamed: bool) -> None:
        self._streamed = streamed
        self._kept = bytearray()
        self._read = 0
        self._answer = Answer()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        self._read += len(chunk)
        if self._read > MAX_BYTES:
            return
        self._kept += chunk
        if self._streamed:
            *lines, rest = bytes(self._kept).split(b"\n")
            self._kept = bytearray(rest)
            for line in lines:
                self._line(line)

    def answer(self) -> Answer:
        """What was answered so far."""
        if self._streamed:
            self._line(bytes(self._kept))
        else:
            self._take(_json(bytes(self._kept)), "message")
        self._kept.clear()
        return self._answer

    def _line(self, line: bytes) -> None:
        if line.startswith(_DATA):
            self._take(_json(line[len(_DATA) :]), "delta")

    def _take(self, body: Mapping[str, Any], part: str) -> None:
        model = body.get("model")
        if isinstance(model, str):
            self._answer.model = model
        for choice in _mappings(body.get("choices"))[:1]:
            said = choice.get(part)
            if isinstance(said, Mapping):
                self._said(said)
        if isinstance(body.get("usage"), Mapping):
            self._usage(body["usage"])

    def _said(self, said: Mapping[str, Any]) -> None:
        content = said.get("content")
        if isinstance(content, str):
            self._answer.text += content
        for call in _mappings(said.get("tool_calls")):
            function = call.get("function")
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(name, str) and name:
                self._answer.tool_counts[name] = self._answer.tool_counts.get(name, 0) + 1

    def _usage(self, usage: Mapping[str, Any]) -> None:
        self._answer.prompt_tokens = _count(usage, "prompt_tokens")
        self._answer.completion_tokens = _count(usage, "completion_tokens")
        self._answer.reasoning_tokens = _count(
            usage.get("completion_tokens_details"), "reasoning_tokens"
        )
        self._answer.cached_tokens = _count(usage.get("prompt_tokens_details"), "cached_tokens")


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # "[DONE]", a comment, or bytes cut short
        return {}
    return found if isinstance(found, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _count(of: object, name: str) -> int | None:
    value = of.get(name) if isinstance(of, Mapping) else None
    return value if isinstance(value, int) else None
