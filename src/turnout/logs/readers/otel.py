"""OpenTelemetry GenAI spans and events in their JSON export (conventions for generative AI)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnout.logs.readers.litellm import last_turn
from turnout.logs.readers.messages import Turns, Values, first_of, mapping
from turnout.logs.readers.otel_messages import said_in

_ERROR = (2, "STATUS_CODE_ERROR")
_USAGE = "gen_ai.usage."
_OF_CALLER = "traceloop.association.properties."
_CONVERSATIONS = (
    "gen_ai.conversation.id", "session.id",
    *(f"{_OF_CALLER}{name}" for name in ("conversation_id", "session_id", "thread_id", "chat_id")),
)  # fmt: skip
_SPENT = {
    "prompt_tokens": ("input_tokens", "prompt_tokens"),
    "completion_tokens": ("output_tokens", "completion_tokens"),
    "reasoning_tokens": (
        "reasoning.output_tokens", "reasoning_tokens", "details.reasoning_tokens",
    ),
    "cached_tokens": (
        "cache_read.input_tokens", "cache_read_input_tokens", "details.cache_read_tokens",
    ),
}  # fmt: skip


def turns(values: Values) -> Turns | None:
    """The last turn of every model call's span; spans of tools and embeddings say nothing."""
    if not isinstance(values["resourceSpans"], list):
        return None
    spans = _records(values["resourceSpans"], "scopeSpans", "spans")
    return [turn for span in spans for turn in _of_span(span)]


def turns_of_events(values: Values) -> Turns | None:
    """The last turn of every event that holds all of a model call."""
    if not isinstance(values["resourceLogs"], list):
        return None
    records = _records(values["resourceLogs"], "scopeLogs", "logRecords")
    return [turn for record in records for turn in _of_call(_facts(record), (), record)]


def _records(resources: list[Any], scopes: str, records: str) -> Iterator[Values]:
    for resource in map(mapping, resources):
        for scope in map(mapping, _list(resource.get(scopes))):
            yield from map(mapping, _list(scope.get(records)))


def _of_span(span: Values) -> Turns:
    events = [
        (str(event.get("name")), _facts(event)) for event in map(mapping, _list(span.get("events")))
    ]
    return _of_call(_facts(span), events, span)


def _of_call(
    facts: dict[str, Any], events: list[tuple[str, dict[str, Any]]] | tuple[()], record: Values
) -> Turns:
    said = said_in(facts, events)
    start, end = (_nanoseconds(record.get(f"{at}TimeUnixNano")) for at in ("start", "end"))
    told = start or _nanoseconds(record.get("timeUnixNano"))
    failed = mapping(record.get("status")).get("code") in _ERROR or facts.get("error.type")
    return last_turn(
        said,
        {},
        {
            "conversation_id": first_of(facts, _CONVERSATIONS) or record.get("traceId"),
            "model": first_of(facts, ("gen_ai.response.model", "gen_ai.request.model")),
            "timestamp": told and told // 1000,
            "duration_ms": (end - start) // 1_000_000 if start and end and end >= start else None,
            "user_id": first_of(facts, ("user.id", "enduser.id", f"{_OF_CALLER}user_id")),
            "response_type": "failed" if failed else None,
        }
        | {
            name: first_of(facts, [_USAGE + one for one in spellings])
            for name, spellings in _SPENT.items()
        },
        record.get("spanId"),
    )


def _facts(record: Values) -> dict[str, Any]:
    """A record's attributes by their names."""
    return {
        str(one.get("key")): _value(one.get("value"))
        for one in map(mapping, _list(record.get("attributes")))
    }


def _value(value: object) -> Any:  # noqa: ANN401 (whatever an attribute holds)
    """An attribute's value without the name of its type around it."""
    kinds = mapping(value)
    if "arrayValue" in kinds:
        return [_value(one) for one in _list(mapping(kinds["arrayValue"]).get("values"))]
    if "kvlistValue" in kinds:
        pairs = map(mapping, _list(mapping(kinds["kvlistValue"]).get("values")))
        return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs}
    return next(iter(kinds.values()), None)


def _nanoseconds(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
