"""OpenTelemetry GenAI spans and events in their JSON export (conventions for generative AI).

A call's messages may be log records of their own beside its span, in another row or file: such
parts are given as they are, for `logs.calls` to join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from turnout.logs.columns import camel_case, clean_text
from turnout.logs.readers.messages import LoggedMessage, NoTurn, Turn, Values, mapping
from turnout.logs.readers.model_calls import turn_of_call
from turnout.logs.readers.otel_facts import facts_of_call, is_of_models, span_kind
from turnout.logs.readers.otel_messages import said_in, said_in_event
from turnout.logs.readers.parts import CallPart

# How a row is counted that holds no model call.
NO_CALL = "telemetry of no model call"
SpanContent = Turn | CallPart | NoTurn

_ERROR = (2, "STATUS_CODE_ERROR")
_TIMES = ("startTimeUnixNano", "timeUnixNano", "observedTimeUnixNano")
_MAX_NS = 1 << 63


def turns(values: Values) -> Sequence[SpanContent] | None:
    """The last turn of every span or event that holds a whole model call; else its parts.

    Spans of tools and embeddings, other log records and metrics say nothing.
    """
    names = ("resourceSpans", "resourceLogs", "resourceMetrics", "batches")
    records_of = [values.get(name) for name in names]
    if not any(isinstance(records, list) for records in records_of):
        return None
    spans, records, _, batches = map(_list, records_of)  # Tempo calls the spans' resources batches
    spans = spans or batches
    of_spans = map(_of_span, _records(spans, "scopeSpans", "spans"))
    of_logs = map(_of_log, _records(records, "scopeLogs", "logRecords"))
    return list(_occurrences_counted(chain.from_iterable(chain(of_spans, of_logs))))


def turns_in_snake_case(values: Values) -> Sequence[SpanContent] | None:
    """The same of an export that spells `resource_spans`, as Python's protobuf does."""
    return turns(mapping(_in_camel_case(values)))


def _in_camel_case(value: object) -> object:
    if isinstance(value, Mapping):
        return {camel_case(str(name)): _in_camel_case(inner) for name, inner in value.items()}
    return [_in_camel_case(item) for item in value] if isinstance(value, list) else value


def _records(resources: list[Any], scopes: str, records: str) -> Iterator[Values]:
    for resource in map(mapping, resources):
        for scope in map(mapping, _list(resource.get(scopes))):
            yield from map(mapping, _list(scope.get(records)))


def _of_span(span: Values) -> Iterator[SpanContent]:
    events = [
        (str(event.get("name")), _facts(event)) for event in map(mapping, _list(span.get("events")))
    ]
    return of_span(span, _facts(span), events)


def of_span(
    span: Values, facts: Values, events: Sequence[tuple[str, Values]]
) -> Iterator[SpanContent]:
    """What a span tells of a model call.

    Args:
        span: Its ids, times and status, in the names of the JSON export.
        facts: Its attributes by name.
        events: Its events in order: name and attributes.
    """
    return _of_record(span, facts, said_in(facts, events), ())


def of_event(record: Values, facts: Values, name: str) -> Iterator[SpanContent]:
    """What a log record tells of a model call.

    Args:
        record: Its ids and times, in the names of the JSON export.
        facts: Its attributes by name, and its body as `body`.
        name: The event's.
    """
    return _of_record(record, facts, said_in(facts, ()), said_in_event(name, facts))


def _of_log(record: Values) -> Iterator[SpanContent]:
    facts = _facts(record)
    name = record.get("eventName") or facts.get("event.name")
    body = {} if record.get("body") is None else {"body": _value(record["body"])}
    return of_event(record, facts | body, str(name))


def _of_record(
    record: Values, facts: Values, call: Sequence[LoggedMessage], messages: Iterable[LoggedMessage]
) -> Iterator[SpanContent]:
    """The turn of a record that holds a whole call, and the record as a part of its call."""
    kind = span_kind(facts)
    if kind == "other":
        return
    call_facts = _call_facts(facts, record)
    trace, span = _id(record.get("traceId")), _id(record.get("spanId"))
    is_joined = bool(trace and span)
    is_wrapper = kind == "wrapper" and is_joined
    turns: Sequence[Turn] = ()
    if call and not is_wrapper:
        named = {"conversation_id": call_facts["conversation_id"] or trace}
        is_named = bool(call_facts["conversation_id"])
        read = turn_of_call(call, call_facts | named, span or None, named=is_named)
        if isinstance(read, NoTurn):
            yield read
            return
        turns = read
        yield from turns
    said = tuple((message.role, message.text) for message in messages)
    if is_wrapper:
        said = tuple((message.role, message.text) for message in call)
        if not said:
            return
    if said or is_of_models(facts):
        yield CallPart(
            trace,
            span,
            call_facts,
            said,
            _time_ns(record),
            has_turn=bool(turns),
            is_call=bool(said or call_facts["model"]),
            is_wrapper=is_wrapper,
        )


def _occurrences_counted(content: Iterable[SpanContent]) -> Iterator[SpanContent]:
    """Number repeats within a row, as they were said twice; another row repeats an export."""
    seen: Counter[object] = Counter()
    for item in content:
        if isinstance(item, CallPart):
            key = (item.trace, item.span, item.at_ns, item.said)
            yield replace(item, occurrence=seen[key])
            seen[key] += 1
        else:
            yield item


def _call_facts(facts: Values, record: Values) -> dict[str, Any]:
    """Facts of the call of a record: all but its messages."""
    start, end = (
        _nanoseconds(record.get(f"{end_name}TimeUnixNano")) for end_name in ("start", "end")
    )
    at_ns = _time_ns(record)
    failed = mapping(record.get("status")).get("code") in _ERROR or facts.get("error.type")
    return facts_of_call(facts) | {
        "timestamp": at_ns // 1000 if at_ns else None,
        "duration_ms": (end - start) // 1_000_000 if start and end and end >= start else None,
        "response_type": "failed" if failed else None,
    }


def _time_ns(record: Values) -> int:
    """Its time; 0 if it has none."""
    times = map(_nanoseconds, map(record.get, _TIMES))
    return next(filter(None, times), 0)


def _facts(record: Values) -> dict[str, Any]:
    """A record's attributes by their names."""
    return {
        str(attribute.get("key")): _value(attribute.get("value"))
        for attribute in map(mapping, _list(record.get("attributes")))
    }


def _value(value: object) -> Any:  # noqa: ANN401 (whatever an attribute holds)
    """An attribute's value without the name of its type around it."""
    kinds = mapping(value)
    if "arrayValue" in kinds:
        return [_value(item) for item in _list(mapping(kinds["arrayValue"]).get("values"))]
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
