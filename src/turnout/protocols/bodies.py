"""A request's or an answer's JSON object, of whichever wire format it is."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.protocols import chat, messages, responses
from turnout.protocols.records import Answer, Request

_BLOCKS = {"tool_use", "tool_result", "thinking", "redacted_thinking", "document"}


def read_request(body: Mapping[str, object]) -> Request:
    """Read a request body; its keys tell the format.

    `input` is the responses format's; `messages` are Anthropic's where `system` stands beside them
    or a block has one of Anthropic's types, else chat completions'.
    """
    if "messages" not in body and "input" in body:
        return responses.read_request(body)
    if _is_anthropic(body):
        return messages.read_request(body)
    return chat.read_request(body)


def read_answer(body: Mapping[str, object]) -> Answer:
    """Read a whole answer; its keys tell the format."""
    if "choices" in body:
        return chat.read_answer(body)
    if "output" in body:
        return responses.read_answer(body)
    if "content" in body or body.get("type") == "error":
        return messages.read_answer(body)
    return chat.read_answer(body)


def _is_anthropic(body: Mapping[str, object]) -> bool:
    if "system" in body or "anthropic_version" in body or "output_config" in body:
        return True
    listed = body.get("messages")
    for item in listed if isinstance(listed, list) else ():
        content = item.get("content") if isinstance(item, Mapping) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and str(part.get("type")) in _BLOCKS:
                return True
    return False
