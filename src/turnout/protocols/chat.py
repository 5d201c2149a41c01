"""OpenAI chat completions: requests and answers.

Source:
    OpenAI API reference, "Chat completions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnout.errors import RecordError
from turnout.protocols.parts import Content, content_of, count, mapping, mappings, message_of, text
from turnout.protocols.records import Answer, Message, Request, Role, Usage

_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; messages of unknown roles are left out."""
    response_format = mapping(body.get("response_format"))
    return Request(
        tuple(
            _message(_ROLES[str(item["role"])], item)
            for item in mappings(body.get("messages"))
            if str(item.get("role")) in _ROLES
        ),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools") or body.get("functions")),
        mapping(mapping(response_format.get("json_schema")).get("schema")),
    )


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says: its first choice, and what it cost."""
    choices = mappings(body.get("choices"))
    said = mapping(choices[0].get("message")) if choices else {}
    content = content_of(said.get("content"))
    return Answer(
        "\n".join(content.texts),
        called_tools(said),
        text(body.get("model")),
        usage_of(mapping(body.get("usage"))),
        failed=bool(body.get("error")),
    )


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Tokens as chat completions count them."""
    prompt = usage.get("prompt_tokens_details")
    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        count(prompt, "cached_tokens"),
        count(prompt, "cache_write_tokens"),
    )


def called_tools(said: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the tools that a message, or a piece of one, begins to call."""
    names = [mapping(call.get("function")).get("name") for call in mappings(said.get("tool_calls"))]
    names.append(mapping(said.get("function_call")).get("name"))
    return tuple(name for name in names if isinstance(name, str) and name)


def checked_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """Messages as the caller of a library gives them.

    Raises:
        RecordError: If one is malformed.
    """
    return [_checked(position, item) for position, item in enumerate(messages)]


def _checked(position: int, item: Mapping[str, object]) -> Message:
    role = item.get("role") if isinstance(item, Mapping) else None
    if not isinstance(role, str) or role not in _ROLES:
        raise RecordError(
            f"messages[{position}].role: found {role!r}; expected one of {', '.join(_ROLES)}."
        )
    content = item.get("content")
    readable = content is None or isinstance(content, str)
    if not readable and not (
        isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content)
    ):
        raise RecordError(
            f"messages[{position}].content: found {type(content).__name__}; expected text or a "
            "list of parts."
        )
    return _message(_ROLES[role], item)


def _message(role: Role, item: Mapping[str, object]) -> Message:
    value = item.get("content")
    content = content_of(list(value) if isinstance(value, tuple) else value)
    return message_of(
        role,
        Content(
            content.texts,
            content.attachments,
            [*content.tools, *called_tools(item)],
            content.results,
        ),
    )
