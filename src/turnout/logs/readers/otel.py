"""OpenTelemetry GenAI spans and events in their JSON export (conventions for generative AI).

A call's messages may be log records of their own beside its span, in another row or file: such
parts are told as they are, for `logs.calls` to join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from turnout.logs.columns import clean_text
from turnout.logs.readers.litellm import last_turn
from turnout.logs.readers.messages import Message, Turn, Values, first_of, mapping
from turnout.logs.readers.otel_messages import said_in, said_in_event
from turnout.logs.readers.parts import CallPart

# How a row is counted that holds no model call.
NO_CALL = "telemetry of no model call"

_ERROR = (2, "STATUS_CODE_ERROR")
_TIMES = ("startTimeUnixNano", "timeUnixNano", "observedTimeUnixNano")
_MAX_NS = 1 << 63
_USAGE = "gen_ai.usage."
# Operations that name a model, but in which a user asks nothing.
_NOT_CALLS = (
    "embeddings", "retrieval", "execute_tool", "create_agent", "invoke_agent", "invoke_workflow",
)  # fmt: skip
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


def turns(values: Values) -> Sequence[Turn | CallPart] | None:
    """The last turn of every span or event that tells a whole model call; of others the parts.

    Spans of tools and embeddings, other log records and metrics say nothing.
    """
    found = [values.get(name) for name in ("resourceSpans", "resourceLogs", "resourceMetrics")]
    if not any(isinstance(one, list) for one in found):
        return None
    spans, records, _ = map(_list, found)
    of_spans = map(_of_span, _records(spans, "scopeSpans", "spans"))
    of_logs = map(_of_log, _records(records, "scopeLogs", "logRecords"))
    return list(_occurrences_counted(chain.from_iterable(chain(of_spans, of_logs))))


def _records(resources: list[Any], scopes: str, records: str) -> Iterator[Values]:
    for resource in map(mapping, resources):
        for scope in map(mapping, _list(resource.get(scopes))):
            yield from map(mapping, _list(scope.get(records)))


def _of_span(span: Values) -> Iterator[Turn | CallPart]:
    facts = _facts(span)
    events = [
        (str(event.get("name")), _facts(event)) for event in map(mapping, _list(span.get("events")))
    ]
    return _of_record(span, facts, said_in(facts, events), ())


def _of_log(record: Values) -> Iterator[Turn | CallPart]:
    facts = _facts(record)
    name = record.get("eventName") or facts.get("event.name")
    body = {} if record.get("body") is None else {"body": _value(record["body"])}
    return _of_record(record, facts, said_in(facts, ()), said_in_event(str(name), facts | body))


def _of_record(
    record: Values, facts: Values, call: Sequence[Message], messages: Iterable[Message]
) -> Iterator[Turn | CallPart]:
    """The turn of a record that holds a whole call, and the record as a part of its call."""
    told = _told(facts, record)
    trace, span = _id(record.get("traceId")), _id(record.get("spanId"))
    named = {"conversation_id": told["conversation_id"] or trace}
    turns = last_turn(call, {}, told | named, span or None) if call else []
    yield from turns
    said = tuple((message.role, message.text) for message in messages)
    if said or any(name.startswith("gen_ai.") for name in facts):
        names_model = told["model"] and facts.get("gen_ai.operation.name") not in _NOT_CALLS
        yield CallPart(
            trace,
            span,
            told,
            said,
            _time_ns(record),
            has_turn=bool(turns),
            is_call=bool(said or names_model),
        )


def _occurrences_counted(found: Iterable[Turn | CallPart]) -> Iterator[Turn | CallPart]:
    """What one row says twice was said twice; what two rows say was exported again."""
    seen: Counter[object] = Counter()
    for one in found:
        if isinstance(one, CallPart):
            key = (one.trace, one.span, one.at_ns, one.said)
            yield replace(one, occurrence=seen[key])
            seen[key] += 1
        else:
            yield one


def _told(facts: Values, record: Values) -> dict[str, Any]:
    """What a record tells of its call besides what was said."""
    start, end = (_nanoseconds(record.get(f"{at}TimeUnixNano")) for at in ("start", "end"))
    at_ns = _time_ns(record)
    failed = mapping(record.get("status")).get("code") in _ERROR or facts.get("error.type")
    return {
        "conversation_id": first_of(facts, _CONVERSATIONS),
        "model": first_of(facts, ("gen_ai.response.model", "gen_ai.request.model")),
        "timestamp": at_ns // 1000 if at_ns else None,
        "duration_ms": (end - start) // 1_000_000 if start and end and end >= start else None,
        "user_id": first_of(facts, ("user.id", "enduser.id", f"{_OF_CALLER}user_id")),
        "response_type": "failed" if failed else None,
    } | {
        name: first_of(facts, [_USAGE + one for one in spellings])
        for name, spellings in _SPENT.items()
    }


def _time_ns(record: Values) -> int:
    """When it was; 0 where it does not say."""
    times = map(_nanoseconds, map(record.get, _TIMES))
    return next(filter(None, times), 0)


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


def _id(value: object) -> str:
    """A trace's or span's id; empty where it is none: all zeros are not."""
    text = clean_text(value) or ""
    return text if text.strip("0") else ""


def _nanoseconds(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 20 and int(text) < _MAX_NS else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
