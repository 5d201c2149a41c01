"""Rows that hold a whole conversation or a whole request → one row a turn; knows no file format.

Recognised by what a row has, tried in the order of `LAYOUTS`:

- ChatGPT account export: a `mapping` of message nodes
- Claude account export: `chat_messages`
- OpenTelemetry GenAI spans, JSON export: `resourceSpans`
- LiteLLM spend logs and other request logs: `messages` (all that was said) beside a `response`
- a list of messages: WildChat, LMSYS-Chat, ShareGPT, OpenAI fine-tuning files

A row that is none of these is a turn already. To add one, write a function from a row's values to
turns, or None where it is not that layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.logs.readers import RawRow

Values = Mapping[str, Any]
Rows = list[dict[str, Any]]

_LISTS = ("messages", "conversation", "conversations")
_IDS = (
    "conversation_id", "conversationId", "conversation_hash", "session_id", "thread_id", "chat_id",
    "uuid", "id",
)  # fmt: skip
_MODELS = ("model", "model_name", "model_id")
_TIMES = ("timestamp", "created_at", "create_time", "startTime", "start_time", "created")
_ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Message:
    role: str
    text: str
    model: object = None
    timestamp: object = None


def turn_rows(raw: RawRow) -> Iterator[RawRow]:
    """The turns of one row; the row itself where it is a turn already or cannot be read."""
    for layout in LAYOUTS if raw.problem is None else ():
        turns = layout(raw.values)
        if turns is not None:
            if not turns:
                yield RawRow(raw.where, {}, "a conversation without a user message")
            for turn in turns:
                yield RawRow(raw.where, turn)
            return
    yield raw


def _chatgpt_export(values: Values) -> Rows | None:
    nodes = values.get("mapping")
    if not isinstance(nodes, Mapping) or "current_node" not in values:
        return None
    path: list[_Message] = []
    at, seen = values["current_node"], set()
    # From the newest message up: an edited message has siblings that are not on the path.
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = _mapping(nodes[at])
        message = _mapping(node.get("message"))
        path.append(
            _Message(
                _role(_mapping(message.get("author")).get("role")),
                _text(_mapping(message.get("content")).get("parts")),
                _mapping(message.get("metadata")).get("model_slug"),
                message.get("create_time"),
            )
        )
        at = node.get("parent")
    return _turns(path[::-1], values)


def _claude_export(values: Values) -> Rows | None:
    said = values.get("chat_messages")
    if not isinstance(said, list):
        return None
    messages = [
        _Message(
            _role(one.get("sender")),
            _text(one.get("text")) or _text(one.get("content")),
            timestamp=one.get("created_at"),
        )
        for one in map(_mapping, said)
    ]
    return _turns(messages, values)


def _otel_spans(values: Values) -> Rows | None:
    if not isinstance(values.get("resourceSpans"), list):
        return None
    return [
        turn
        for resource in map(_mapping, values["resourceSpans"])
        for scope in map(_mapping, resource.get("scopeSpans") or ())
        for span in map(_mapping, scope.get("spans") or ())
        for turn in _of_span(span)
    ]


def _of_span(span: Values) -> Rows:
    """The last turn of a GenAI client span (OpenTelemetry semantic conventions for GenAI)."""
    facts = {
        str(one.get("key")): next(iter(_mapping(one.get("value")).values()), None)
        for one in map(_mapping, span.get("attributes") or ())
    }
    said = _messages(facts.get("gen_ai.input.messages"))
    if not said:
        return []  # a tool's or an embedding's span
    answered = _messages(facts.get("gen_ai.output.messages")) or []
    nanoseconds = str(span.get("startTimeUnixNano") or "")
    return _last_turn(
        [*said, *answered],
        {
            "conversation_id": facts.get("gen_ai.conversation.id") or span.get("traceId"),
            "model": facts.get("gen_ai.response.model") or facts.get("gen_ai.request.model"),
            "timestamp": int(nanoseconds) // 1000 if nanoseconds.isdecimal() else None,
            "prompt_tokens": facts.get("gen_ai.usage.input_tokens"),
            "completion_tokens": facts.get("gen_ai.usage.output_tokens"),
            "response_type": "failed" if _mapping(span.get("status")).get("code") == 2 else None,
        },
    )


def _request_log(values: Values) -> Rows | None:
    said = _messages(values.get("messages"))
    if said is None or "response" not in values:
        return None
    answer = _parsed(values["response"])
    choices = _mapping(answer).get("choices")
    if isinstance(choices, list) and choices:
        answer = _mapping(_mapping(choices[0]).get("message")).get("content")
    turns = _last_turn([*said, _Message("assistant", _text(answer))], values)
    for turn in turns:
        turn["conversation_id"] = turn["conversation_id"] or _named_by_start(values, said)
    return turns


def _message_list(values: Values) -> Rows | None:
    for name in _LISTS:
        messages = _messages(values.get(name))
        if messages:
            return _turns(messages, values)
    return None


LAYOUTS: Sequence[Callable[[Values], Rows | None]] = (
    _chatgpt_export,
    _claude_export,
    _otel_spans,
    _request_log,
    _message_list,
)


def _turns(messages: Sequence[_Message], values: Values) -> Rows:
    """Group messages as the router does: user messages with nothing between them are one turn."""
    turns: Rows = []
    answering = True
    for message in messages:
        if message.role == "user" and message.text.strip():
            if answering:
                turns.append(
                    {
                        "user_message": message.text,
                        "model": message.model,
                        "timestamp": message.timestamp,
                        "assistant_message": None,
                    }
                )
            else:
                turns[-1]["user_message"] += "\n\n" + message.text
            answering = False
        elif message.role in ("assistant", "tool") and turns:
            answering = True
            turns[-1]["model"] = message.model or turns[-1]["model"]
            if message.role == "assistant" and message.text.strip():
                turns[-1]["assistant_message"] = message.text
    common = {
        "conversation_id": _first(values, _IDS) or _content_id(turns),
        "user_id": _first(values, ("user_id", "user", "hashed_ip")),
    }
    model, timestamp = _first(values, _MODELS), _first(values, _TIMES)
    return [
        turn
        | common
        | {
            "turn_index": index,
            "model": turn["model"] or model,
            "timestamp": turn["timestamp"] or timestamp,
        }
        for index, turn in enumerate(turns, start=1)
    ]


def _last_turn(messages: Sequence[_Message], values: Values) -> Rows:
    """A request repeats the whole conversation; what it adds is the last turn alone."""
    of_request = ("prompt_tokens", "completion_tokens", "response_type", "status", "duration_ms")
    return [
        turn
        | {name: values[name] for name in of_request if values.get(name) is not None}
        | {"conversation_id": _first(values, [i for i in _IDS if i not in ("id", "uuid")])}
        for turn in _turns(messages, values)[-1:]
    ]


def _named_by_start(values: Values, said: Sequence[_Message]) -> str:
    """A conversation that the log does not name: its user and first message."""
    first = next((message.text for message in said if message.role == "user"), "")
    return _digest(f"{_first(values, ('user', 'user_id', 'end_user')) or ''}|{first}")


def _content_id(turns: Rows) -> str:
    return _digest("|".join(turn["user_message"] for turn in turns))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def _messages(value: object) -> list[_Message] | None:
    """A list of messages in any of its spellings; None where it is none."""
    value = _parsed(value)
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return None
    if value and not any({"role", "from"} & one.keys() for one in value):
        return None
    return [
        _Message(
            _role(one.get("role") or one.get("from")),
            _text(_first(one, ("content", "value", "text", "parts"))),
            _first(one, _MODELS),
            _first(one, _TIMES),
        )
        for one in value
    ]


def _parsed(value: object) -> object:
    """What JSON text says; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = (_text(part) for part in value)
        return "\n".join(part for part in parts if part)
    if isinstance(value, Mapping) and value.get("type", "text") in (
        "text", "input_text", "output_text",
    ):  # fmt: skip
        return _text(value.get("text") or value.get("content"))
    return ""


def _role(value: object) -> str:
    return _ROLES.get(str(value).lower(), "other")


def _mapping(value: object) -> Values:
    return value if isinstance(value, Mapping) else {}


def _first(values: Values, names: Sequence[str]) -> object:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)
