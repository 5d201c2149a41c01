"""Spans as JSON objects, one a row: Phoenix exports, the console exporter of OpenTelemetry; Jaeger.

Attributes may be nested (`{"llm": {"model_name": …}}`) or columns of their own
(`attributes.llm.model_name`, as a data frame of Phoenix has them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnout.logs.moments import moment
from turnout.logs.readers.messages import Values, first_of, mapping, parsed
from turnout.logs.readers.otel import SpanContent, of_span
from turnout.logs.readers.otel_messages import is_whole

_ATTRIBUTES = "attributes."
_TRACES = ("trace_id", "context.trace_id", "traceId")
_SPANS = ("span_id", "context.span_id", "spanId")
_KIND = "openinference.span.kind"


def turns(values: Values) -> Sequence[SpanContent] | None:
    """What one span tells of a model call."""
    context = mapping(parsed(values.get("context"))) or values
    attributes = mapping(parsed(values.get("attributes")))
    facts = dict(_flat(attributes, ""))
    facts |= {
        name.removeprefix(_ATTRIBUTES): value
        for column, given in values.items()
        if column.startswith(_ATTRIBUTES)
        for name, value in _flat({column: parsed(given)}, "")
    }
    if not facts or first_of(context, _SPANS) is None:
        return None
    if values.get("span_kind"):
        facts.setdefault(_KIND, values["span_kind"])
    status = mapping(values.get("status")).get("status_code") or values.get("status_code")
    span = {
        "traceId": first_of(context, _TRACES),
        "spanId": first_of(context, _SPANS),
        "startTimeUnixNano": _nanoseconds(values.get("start_time")),
        "endTimeUnixNano": _nanoseconds(values.get("end_time")),
        "status": {"code": 2 if str(status).upper() == "ERROR" else 0},
    }
    events = [
        (str(event.get("name")), dict(_flat(mapping(event.get("attributes")), "")))
        for event in map(mapping, _list(parsed(values.get("events"))))
    ]
    return list(of_span(span, facts, events))


def turns_of_jaeger(values: Values) -> Sequence[SpanContent] | None:
    """What the spans of a trace that Jaeger exports tell of model calls."""
    spans = values.get("spans")
    if not isinstance(spans, list):
        return None
    content: list[SpanContent] = []
    for span in map(mapping, spans):
        start, lasted = span.get("startTime"), span.get("duration")  # microseconds
        facts = _tags(span.get("tags"))
        record = {
            "traceId": span.get("traceID"),
            "spanId": span.get("spanID"),
            "startTimeUnixNano": f"{start}000" if start else None,
            "endTimeUnixNano": f"{int(start) + int(lasted)}000"
            if isinstance(start, int) and isinstance(lasted, int)
            else None,
            "status": {"code": 2 if facts.get("error") is True else 0},
        }
        content += of_span(record, facts, [("", _tags(log)) for log in _list(span.get("logs"))])
    return content


def _tags(value: object) -> dict[str, Any]:
    tags = mapping(value).get("fields", value)
    return {str(tag.get("key")): tag.get("value") for tag in map(mapping, _list(tags))}


def _flat(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """Attributes by their whole names; a list of messages by numbers too."""
    if isinstance(value, Mapping) and not is_whole(name):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif _is_list_of_objects(value) and not is_whole(name):
        for number, inner in enumerate(_list(value)):
            yield from _flat(inner, f"{name}.{number}")
    else:
        yield name, value


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _nanoseconds(value: object) -> str | None:
    time = moment(value)
    return None if time is None else str(int(time.timestamp() * 1e6) * 1000)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
