"""Rows that hold a request's and its answer's whole bodies: Helicone, and gateways' own logs."""

from __future__ import annotations

from typing import Any

from turnout.logs.moments import moment
from turnout.logs.readers.inputs import answer_in
from turnout.logs.readers.messages import NoTurn, Turns, Values, first_of, mapping, parsed
from turnout.logs.readers.model_calls import turn_of_request

_REQUESTS = ("request_body", "request")
_RESPONSES = ("response_body", "response")
_SESSIONS = (
    "Helicone-Session-Id", "session_id", "sessionId", "conversation_id", "thread_id", "chat_id",
)  # fmt: skip
_FACTS = {
    "model": ("response_model", "model", "request_model", "ai_model"),
    "user_id": ("request_user_id", "user_id", "user"),
    "request_id": ("request_id", "id"),
    "prompt_tokens": ("prompt_tokens",),
    "completion_tokens": ("completion_tokens",),
    "reasoning_tokens": ("reasoning_tokens",),
    "cached_tokens": ("prompt_cache_read_tokens", "cached_tokens"),
    "start_time": ("request_created_at", "created_at", "start_time", "timestamp"),
    "end_time": ("response_created_at", "end_time"),
}
_STATUSES = ("response_status", "status_code", "status")
_FIRST_FAILED_STATUS = 400


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn that a request adds."""
    asked = mapping(parsed(first_of(values, _REQUESTS)))
    asked = mapping(asked.get("body")) or asked
    if not {"messages", "input"} & asked.keys():
        return None
    row: dict[str, Any] = {field: first_of(values, names) for field, names in _FACTS.items()}
    properties = mapping(parsed(first_of(values, ("request_properties", "metadata"))))
    row |= {
        "messages": None,
        "proxy_server_request": asked,
        "response": answer_in(first_of(values, _RESPONSES)),
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
