"""Anthropic messages: requests and answers.

Source:
    Anthropic API reference, "Messages".
"""

from __future__ import annotations

from collections.abc import Mapping

from turnout.protocols.parts import content_of, count, mapping, mappings, message_of, text
from turnout.protocols.records import Answer, Request, Role, Usage

_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; messages of unknown roles are left out."""
    answer_format = mapping(mapping(body.get("output_config")).get("format"))
    return Request(
        tuple(
            message_of(_ROLES[str(item["role"])], content_of(item.get("content")))
            for item in mappings(body.get("messages"))
            if str(item.get("role")) in _ROLES
        ),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools")),
        mapping(answer_format.get("schema")),
    )


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says, and what it cost."""
    content = content_of(body.get("content"))
    return Answer(
        "\n".join(content.texts),
        tuple(content.tools),
        text(body.get("model")),
        usage_of(mapping(body.get("usage"))),
        failed=body.get("type") == "error",
    )


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Tokens: `input_tokens` are those after the last cache mark, the others are added to them."""
    fresh = count(usage, "input_tokens")
    read = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    return Usage(
        None if fresh is None else fresh + (read or 0) + (written or 0),
        count(usage, "output_tokens"),
        count(usage.get("output_tokens_details"), "thinking_tokens"),
        read,
        written,
    )
