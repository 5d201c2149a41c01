"""Rows that hold a request's and its answer's whole bodies: Helicone, and gateways' own logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.logs.moments import moment
from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.litellm import NO_CHAT
from turnout.logs.readers.messages import NoTurn, Turns, Values, first_of, mapping, parsed
from turnout.logs.readers.model_calls import turn_of_request

_REQUESTS = ("request_body", "request", "inputs")
_RESPONSES = ("response_body", "response", "output")
# The second spelling is that of Azure API Management.
_INPUTS = ("input", "RequestMessages")
_ANSWERS = ("output", "ResponseMessages")
_SESSIONS = (
    "Helicone-Session-Id", "session_id", "sessionId", "conversation_id", "thread_id", "chat_id",
)  # fmt: skip
_FACTS = {
    "model": ("response_model", "model", "request_model", "ai_model", "model_name", "ModelName"),
    "user_id": ("request_user_id", "user_id", "user"),
    "request_id": ("request_id", "id", "generation_id", "CorrelationId"),
    "prompt_tokens": ("prompt_tokens", "tokens_prompt", "PromptTokens"),
    "completion_tokens": ("completion_tokens", "tokens_completion", "CompletionTokens"),
    "reasoning_tokens": ("reasoning_tokens", "native_tokens_reasoning"),
    "cached_tokens": ("prompt_cache_read_tokens", "cached_tokens"),
    "start_time": (
        "request_created_at",
        "created_at",
        "created",
        "start_time",
        "started_at",
        "timestamp",
        "TimeGenerated",
        "TimeGenerated [UTC]",
    ),
    "end_time": ("response_created_at", "end_time", "ended_at"),
}
_CHAT_URLS = ("/chat/completions", "/responses", "/messages", "/completions")
_STATUSES = ("response_status", "status_code", "status")
_FIRST_FAILED_STATUS = 400


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn that a request adds."""
    asked = _body(first_of(values, _REQUESTS))
    if "contents" in asked:  # Gemini's
        asked = {"messages": messages_in(asked) or [], "model": asked.get("model")}
    if not {"messages", "input"} & asked.keys():
        return None
    return _turns(values, asked, answer_in(_body(first_of(values, _RESPONSES))))


def turns_of_completion(values: Values) -> Turns | NoTurn | None:
    """The turn of a request whose messages stand beside its answer's choices."""
    names = ("messages", "input")
    if not isinstance(parsed(values["choices"]), list) or not first_of(values, names):
        return None
    asked = {name: parsed(values[name]) for name in (*names, "model") if values.get(name)}
    return _turns(values, asked, values)


def turns_of_input(values: Values) -> Turns | NoTurn | None:
    """The turn of a request whose messages are its input; text alone may be a turn's own column."""
    given = parsed(first_of(values, _INPUTS))
    messages = messages_in(given) if isinstance(given, list | Mapping) else None
    if messages is None:
        return None
    asked = {"messages": messages, "model": mapping(given).get("model")}
    return _turns(values, asked, answer_in(first_of(values, _ANSWERS)))


def turns_of_batch(values: Values) -> Turns | NoTurn | None:
    """The turn of a request of OpenAI's batches, which has no answer yet."""
    asked, url = mapping(parsed(values["body"])), str(values.get("url"))
    if not asked or not url.startswith("/v1/"):
        return None
    return _turns(values, asked, {}) if url.endswith(_CHAT_URLS) else NoTurn(NO_CHAT)


def _body(value: object) -> Values:
    """The body of a request or an answer, which may stand beside its status and headers."""
    read = parsed(value)
    if not isinstance(read, Mapping):
        return {"output": read} if read is not None else {}
    inner = parsed(read.get("body"))
    return (
        mapping(inner) or read if inner is None or isinstance(inner, Mapping) else {"output": inner}
    )


def _turns(values: Values, asked: Values, answer: Values) -> Turns | NoTurn | None:
    row: dict[str, Any] = {field: first_of(values, names) for field, names in _FACTS.items()}
    properties = mapping(parsed(first_of(values, ("request_properties", "metadata"))))
    row |= {
        "messages": None,
        "proxy_server_request": asked,
        "response": answer,
        "conversation_id": first_of(properties, _SESSIONS) or first_of(values, _SESSIONS),
        "model": row["model"] or asked.get("model"),
        "response_type": "failed" if _is_failed(first_of(values, _STATUSES)) else None,
    }
    if row["end_time"] is None and isinstance(values.get("delay_ms"), int | float):
        row["duration_ms"] = values["delay_ms"]
    return turn_of_request(row) if moment(row["start_time"]) or row["model"] else None


def _is_failed(status: object) -> bool:
    text = str(status)
    return int(text) >= _FIRST_FAILED_STATUS if text.isdecimal() else text.lower() == "error"
