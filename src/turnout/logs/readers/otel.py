"""OpenTelemetry GenAI spans in their JSON export (semantic conventions for generative AI)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnout.logs.readers.litellm import last_turn
from turnout.logs.readers.messages import Turns, Values, first_of, mapping, messages_of

_ERROR = (2, "STATUS_CODE_ERROR")


def turns(values: Values) -> Turns | None:
    """The last turn of every model call's span; spans of tools and embeddings say nothing."""
    if not isinstance(values["resourceSpans"], list):
        return None
    return [turn for span in _spans(values) for turn in _of_span(span)]


def _spans(values: Values) -> Iterator[Values]:
    for resource in map(mapping, values["resourceSpans"]):
        for scope in map(mapping, _list(resource.get("scopeSpans"))):
            yield from map(mapping, _list(scope.get("spans")))


def _of_span(span: Values) -> Turns:
    facts = {
        str(one.get("key")): _value(one.get("value"))
        for one in map(mapping, _list(span.get("attributes")))
    }
    said = messages_of(facts.get("gen_ai.input.messages"))
    if not said:
        return []
    answered = messages_of(facts.get("gen_ai.output.messages")) or []
    start, end = (_nanoseconds(span.get(f"{at}TimeUnixNano")) for at in ("start", "end"))
    failed = mapping(span.get("status")).get("code") in _ERROR or facts.get("error.type")
    usage = "gen_ai.usage."
    return last_turn(
        [*said, *answered],
        {},
        {
            "conversation_id": facts.get("gen_ai.conversation.id") or span.get("traceId"),
            "model": first_of(facts, ("gen_ai.response.model", "gen_ai.request.model")),
            "timestamp": start and start // 1000,
            "duration_ms": (end - start) // 1_000_000 if start and end and end >= start else None,
            "prompt_tokens": facts.get(f"{usage}input_tokens"),
            "completion_tokens": facts.get(f"{usage}output_tokens"),
            "reasoning_tokens": facts.get(f"{usage}reasoning.output_tokens"),
            "cached_tokens": facts.get(f"{usage}cache_read.input_tokens"),
            "user_id": first_of(facts, ("user.id", "enduser.id")),
            "response_type": "failed" if failed else None,
        },
        span.get("spanId"),
    )


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
