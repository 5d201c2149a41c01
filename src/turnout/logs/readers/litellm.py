"""LiteLLM spend logs, and other logs of requests: all that was said beside a `response`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnout.logs.columns import CALL_ID, moment
from turnout.logs.readers.messages import (
    IDS,
    Message,
    Turns,
    Values,
    digest,
    first_of,
    mapping,
    messages_of,
    parsed,
    text_of,
    turns_of_messages,
)

_FACTS = ("prompt_tokens", "completion_tokens", "response_type", "status", "duration_ms")
_SESSIONS = tuple(name for name in IDS if name not in ("id", "uuid"))
_STARTS, _ENDS = ("startTime", "start_time"), ("endTime", "end_time")


def turns(values: Values) -> Turns | None:
    """The turn that a request adds: it repeats the whole conversation before it.

    A request that stored no messages (LiteLLM keeps none by default) has none.
    """
    said = messages_of(values["messages"])
    if said is None:
        return [] if "spend" in values else None
    answer = mapping(parsed(values["response"]))
    spoken = text_of(_content(answer)) if answer else text_of(values["response"])
    session = first_of(values, _SESSIONS) or _named_by_start(values, said)
    facts = {name: values[name] for name in _FACTS if values.get(name) is not None}
    return last_turn(
        [*said, Message("assistant", spoken)],
        values,
        {"duration_ms": _duration_ms(values)}
        | _used(answer)
        | facts
        | {"conversation_id": session},
        first_of(values, ("request_id", "id", "uuid")),
    )


def last_turn(
    messages: Sequence[Message], values: Values, facts: dict[str, Any], call_id: object
) -> Turns:
    """The last turn of what was said, with the facts of the model call that answered it."""
    return [turn | facts | {CALL_ID: call_id} for turn in turns_of_messages(messages, values)[-1:]]


def _content(answer: Values) -> object:
    """What chat completions, Anthropic messages and Responses call it."""
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        return mapping(mapping(choices[0]).get("message")).get("content")
    output = answer.get("output")
    if isinstance(output, list):
        return [mapping(item).get("content") for item in output]
    return answer.get("content")


def _used(answer: Values) -> dict[str, Any]:
    usage = mapping(answer.get("usage"))
    spent = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    taken = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    return {
        "prompt_tokens": first_of(usage, ("prompt_tokens", "input_tokens")),
        "completion_tokens": first_of(usage, ("completion_tokens", "output_tokens")),
        "reasoning_tokens": spent.get("reasoning_tokens"),
        "cached_tokens": first_of(taken, ("cached_tokens",))
        or usage.get("cache_read_input_tokens"),
    }


def _duration_ms(values: Values) -> int | None:
    start, end = moment(first_of(values, _STARTS)), moment(first_of(values, _ENDS))
    return round((end - start).total_seconds() * 1000) if start and end and end >= start else None


def _named_by_start(values: Values, said: Sequence[Message]) -> str:
    """A conversation that the log does not name: its user and first message."""
    opening = next((message.text for message in said if message.role == "user"), "")
    return digest(f"{first_of(values, ('user', 'user_id', 'end_user')) or ''}|{opening}")
