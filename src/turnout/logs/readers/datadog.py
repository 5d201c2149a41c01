"""LLM spans of Datadog: as its API exports them, and as its SDK sends them."""

from __future__ import annotations

from typing import Any

from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.messages import NoTurn, Turns, Values, mapping
from turnout.logs.readers.model_calls import turn_of_request

NO_CALL = "a span that is no model call"
NOT_READ = "a model call without a readable input"
_NS_PER_MS = 1_000_000


def turns_of_exported(values: Values) -> Turns | NoTurn | None:
    """The turn of a span that the API exports."""
    span = mapping(values["attributes"])
    return turns({**span, "meta": span}) if "span_kind" in span else None


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn of one span; workflows, agents and tools have none."""
    meta, metrics = mapping(values["meta"]), mapping(values.get("metrics"))
    kind = meta.get("span_kind") or meta.get("span.kind") or meta.get("kind")
    if not isinstance(kind, str) or "start_ns" not in values:
        return None
    if kind != "llm":
        return NoTurn(NO_CALL)
    messages = messages_in(meta.get("input"))
    if messages is None:
        return NoTurn(NOT_READ)
    duration_ns = values.get("duration")
    row: dict[str, Any] = {
        "messages": messages,
        "response": answer_in(meta.get("output")),
        "conversation_id": values.get("session_id"),
        "request_id": values.get("span_id"),
        "model": meta.get("model_name"),
        "start_time": values["start_ns"],
        "prompt_tokens": metrics.get("input_tokens"),
        "completion_tokens": metrics.get("output_tokens"),
        "reasoning_tokens": metrics.get("reasoning_output_tokens"),
        "cached_tokens": metrics.get("cache_read_input_tokens"),
        "response_type": "failed" if values.get("status") == "error" else None,
    }
    if isinstance(duration_ns, int | float):
        row["duration_ms"] = round(duration_ns / _NS_PER_MS)
    return turn_of_request(row)
