"""Answers that are stored as they were streamed, or are Gemini's → bodies of chat completions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from turnout.logs.columns import DECODER
from turnout.logs.readers.messages import Values, mapping, parsed
from turnout.protocols import Usage, WireFormat, chat, messages, responses
from turnout.protocols.parts import count

_STREAM_TEXT = re.compile(r"\s*(?:event|data|id):")
_EVENTS_OF_MESSAGES = {"message_start", "content_block_start", "content_block_delta"}


def completion_of(content: object, tools: Sequence[str] = ()) -> dict[str, Any]:
    """The body of a chat completion that says this, and calls these tools."""
    calls = [{"function": {"name": name}} for name in tools]
    return {
        "choices": [{"message": {"role": "assistant", "content": content, "tool_calls": calls}}]
    }


def unquoted(value: object) -> object:
    """Text that is JSON text once more."""
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        try:
            return DECODER.decode(value)
        except ValueError:
            return value
    return value


def streamed(value: object) -> Values | None:
    """The body of an answer that was stored as it was streamed; None where it was not.

    Args:
        value: A list of events, or the text of the stream.
    """
    if isinstance(value, str) and _STREAM_TEXT.match(value):
        lines = (line.removeprefix("data:").strip() for line in value.splitlines())
        value = [parsed(line) for line in lines if line.startswith("{")]
    if not isinstance(value, list):
        return None
    events = [mapping(parsed(event)) for event in value]
    wire_format = next(filter(None, map(_wire_format, events)), None)
    if wire_format is None:
        return None
    stream = wire_format.streamed_answer()
    for event in events:
        stream.take(event)
    answer = stream.answer()
    body = completion_of(answer.text, answer.tools)
    return {**body, "model": answer.model, "usage": _usage(answer.usage)}


def _wire_format(event: Values) -> WireFormat | None:
    """The wire format of an event; None where it is none that says words."""
    kind, choices = event.get("type"), event.get("choices")
    if isinstance(choices, list) and any("delta" in mapping(choice) for choice in choices):
        return chat
    if isinstance(kind, str) and kind.startswith("response."):
        return responses
    return messages if str(kind) in _EVENTS_OF_MESSAGES else None


def gemini_usage(body: Values) -> dict[str, Any]:
    """Model and tokens of Gemini's answer; it counts thoughts apart from the words."""
    used = mapping(body.get("usageMetadata") or body.get("usage_metadata"))
    words, thoughts = count(used, "candidatesTokenCount"), count(used, "thoughtsTokenCount")
    usage = Usage(
        count(used, "promptTokenCount"),
        None if words is None else words + (thoughts or 0),
        thoughts,
        count(used, "cachedContentTokenCount"),
    )
    return {"model": body.get("modelVersion"), "usage": _usage(usage)}


def _usage(usage: Usage) -> dict[str, Any]:
    """Tokens as chat completions write them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
