"""Spans and events of model calls in Application Insights: exports of its portal and its API.

Their attributes stand as JSON in `customDimensions`, in a workspace's tables in `Properties`. Rows
without attributes of a model call are an application's own, and are read by their columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnout.logs.moments import moment
from turnout.logs.readers.messages import Values, first_of, mapping, parsed
from turnout.logs.readers.otel import SpanContent, of_event, of_span
from turnout.logs.readers.otel_facts import is_of_models

_TRACES = ("operation_Id", "OperationId")
_SPANS = ("id", "Id")
_PARENTS = ("operation_ParentId", "ParentId")
_TIMES = ("timestamp", "timestamp [UTC]", "TimeGenerated", "TimeGenerated [UTC]")
_DURATIONS_MS = ("duration", "DurationMs")
_MESSAGES = ("message", "Message")
_SUCCESSES = ("success", "Success")


def turns(values: Values) -> Sequence[SpanContent] | None:
    """What one row tells of a model call."""
    given = first_of(values, ("customDimensions", "Properties"))
    facts = dict(mapping(parsed(given)))
    event = facts.get("event.name") or facts.get("name")
    if not is_of_models(facts) and not str(event).startswith("gen_ai."):
        return None
    time = moment(first_of(values, _TIMES))
    start_ns = int(time.timestamp() * 1e6) * 1000 if time else None
    message = first_of(values, _MESSAGES)
    if message is not None or event is not None:
        # An event carries the span's id as its parent's.
        record = {
            "traceId": first_of(values, _TRACES),
            "spanId": first_of(values, _PARENTS),
            "timeUnixNano": start_ns,
        }
        return list(of_event(record, {**facts, "body": message}, str(event)))
    duration = first_of(values, _DURATIONS_MS)
    duration_ms = float(str(duration)) if _is_number(duration) else None
    span = {
        "traceId": first_of(values, _TRACES),
        "spanId": first_of(values, _SPANS),
        "startTimeUnixNano": start_ns,
        "endTimeUnixNano": start_ns + int(duration_ms * 1e6) if start_ns and duration_ms else None,
        "status": {"code": 2 if str(first_of(values, _SUCCESSES)).lower() == "false" else 0},
    }
    return list(of_span(span, facts, ()))


def _is_number(value: object) -> bool:
    return str(value).replace(".", "", 1).isdecimal()
