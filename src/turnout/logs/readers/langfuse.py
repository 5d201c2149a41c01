"""Langfuse: observations as its exports and its API give them, alone or inside their trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from turnout.logs.moments import moment
from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.messages import (
    NoTurn,
    Turn,
    Turns,
    Values,
    first_of,
    mapping,
    messages_of,
    parsed,
)
from turnout.logs.readers.model_calls import turn_of_request
from turnout.logs.readers.parts import OF_TRACE, CallPart
from turnout.protocols import read_answer

NO_CALL = "an observation that is no model call"
NOT_READ = "a model call without a readable input"

_CALLS = {"GENERATION"}
_OTHERS = {
    "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
}  # fmt: skip
# Updates come after what was asked, whatever their time.
_LAST_NS = (1 << 63) - 1
_SESSIONS = ("sessionId", "session_id")
_MODELS = ("model", "provided_model_name", "providedModelName", "internalModelId")


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn of one observation; those that are no generation have none."""
    kind = str(values.get("type")).upper()
    if kind in _OTHERS:
        return NoTurn(NO_CALL)
    if kind not in _CALLS:
        return None
    messages = messages_in(values.get("input"))
    if messages is None:
        return NoTurn(NOT_READ)
    row = {
        "messages": messages,
        "response": answer_in(values.get("output")),
        "conversation_id": first_of(values, _SESSIONS),
        "request_id": values.get("id"),
        "model": first_of(values, _MODELS),
        "start_time": first_of(values, ("startTime", "start_time")),
        "end_time": first_of(values, ("endTime", "end_time")),
        "user_id": first_of(values, ("userId", "user_id")),
        "response_type": "failed" if values.get("level") == "ERROR" else None,
    }
    return turn_of_request(row | _tokens(values))


def turns_of_bare_trace(values: Values) -> Turns | NoTurn | None:
    """The turn of a trace that came without its observations, which alone name the model."""
    if "type" in values or "timestamp" not in values or "name" not in values:
        return None
    return turns({**values, "type": "GENERATION", "startTime": values["timestamp"]})


def turns_of_trace(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of a trace's observations, which do not say their session themselves."""
    observations = parsed(values.get("observations"))
    if not isinstance(observations, list) or not all(isinstance(o, Mapping) for o in observations):
        return None
    of_trace = {"sessionId": values.get("sessionId"), "userId": values.get("userId")}
    read_so_far: list[Turn | NoTurn] = []
    for observation in sorted(observations, key=lambda each: str(each.get("startTime"))):
        read = turns({**of_trace, "traceId": values.get("id"), **observation})
        if read is None:
            return None
        read_so_far += [read] if isinstance(read, NoTurn) else read
    return read_so_far


def parts_of_event(values: Values) -> Sequence[CallPart | NoTurn] | None:
    """What an event tells that an SDK sent: a generation begins, goes on, or a trace has a session.

    Events of one generation stand in several rows.
    """
    event, body = str(values["type"]), mapping(parsed(values["body"]))
    kind, _, action = event.rpartition("-")
    if action not in ("create", "update") or not body:
        return None
    facts = {"conversation_id": first_of(body, _SESSIONS), "user_id": body.get("userId")}
    is_generation = kind == "generation" or str(body.get("type")).upper() in _CALLS
    if kind != "trace" and not is_generation:
        return [NoTurn(NO_CALL)]
    time = moment(first_of(body, ("startTime", "timestamp")) or values.get("timestamp"))
    part = CallPart(
        trace=str(body.get("id" if kind == "trace" else "traceId") or ""),
        span=OF_TRACE if kind == "trace" else str(body.get("id") or ""),
        facts=facts,
        said=(),
        at_ns=int(time.timestamp() * 1e6) * 1000 if time else 0,
        has_turn=False,
        is_call=is_generation,
    )
    if kind == "trace":
        return [part]
    asked = messages_of(messages_in(body.get("input"))) or []
    # An update repeats what was asked, where it says it at all.
    asked = asked if action == "create" or "output" not in body else []
    answer = read_answer(answer_in(body.get("output"))).text
    said = [(message.role, message.text) for message in asked]
    started, ended = (moment(body.get(name)) for name in ("startTime", "endTime"))
    facts |= {
        "model": first_of(body, _MODELS),
        "timestamp": None if started is None else started.isoformat(),
        "response_type": "failed" if body.get("level") == "ERROR" else None,
    }
    if started and ended:
        facts["duration_ms"] = round((ended - started).total_seconds() * 1000)
    return [
        replace(
            part,
            facts=facts | _tokens(body),
            said=(*said, *([("assistant", answer)] if answer else [])),
            at_ns=part.at_ns if action == "create" else _LAST_NS,
        )
    ]


def _tokens(values: Values) -> dict[str, Any]:
    """Langfuse counts by kind: all that are named for the input are of the input."""
    used = mapping(parsed(first_of(values, ("usageDetails", "usage_details"))))
    if not used:
        usage = mapping(parsed(values.get("usage")))
        return {
            "prompt_tokens": first_of(usage, ("input", "promptTokens"))
            or first_of(values, ("promptTokens", "inputUsage")),
            "completion_tokens": first_of(usage, ("output", "completionTokens"))
            or first_of(values, ("completionTokens", "outputUsage")),
        }
    return {
        "prompt_tokens": _sum(used, "input"),
        "completion_tokens": _sum(used, "output"),
        "reasoning_tokens": _sum(used, "reasoning"),
        "cached_tokens": _sum(used, "cache_read") or _sum(used, "cached"),
    }


def _sum(used: Values, word: str) -> int | None:
    counts = [n for name, n in used.items() if word in name and isinstance(n, int)]
    return sum(counts) if counts else None
