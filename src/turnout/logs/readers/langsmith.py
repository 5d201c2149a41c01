"""LangSmith: runs as its exports and its API give them."""

from __future__ import annotations

from typing import Any

from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.messages import NoTurn, Turns, Values, first_of, mapping, parsed
from turnout.logs.readers.model_calls import turn_of_request

NO_CALL = "a run that is no model call"
NOT_READ = "a model call without a readable input"

_THREADS = ("thread_id", "session_id", "conversation_id")
_MODELS = ("ls_model_name", "model", "model_name")


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn of one run; chains, tools and retrievers have none.

    A run's own `session_id` names its project and no conversation: threads are named in the
    metadata.
    """
    if values.get("run_type") != "llm":
        return NoTurn(NO_CALL) if isinstance(values.get("run_type"), str) else None
    messages = messages_in(values.get("inputs"))
    if messages is None:
        return NoTurn(NOT_READ)
    outputs, extra = mapping(parsed(values.get("outputs"))), mapping(parsed(values.get("extra")))
    metadata = mapping(extra.get("metadata"))
    model = first_of(metadata, _MODELS) or first_of(
        mapping(extra.get("invocation_params")), _MODELS
    )
    failed = bool(values.get("error")) or values.get("status") == "error"
    row = {
        "messages": messages,
        "response": answer_in(outputs),
        "conversation_id": first_of(metadata, _THREADS),
        "request_id": values.get("id"),
        "model": model or first_of(mapping(outputs.get("llm_output")), _MODELS),
        "start_time": values.get("start_time"),
        "end_time": values.get("end_time"),
        "user_id": metadata.get("user_id"),
        "response_type": "failed" if failed else None,
    }
    return turn_of_request(row | _tokens(values, outputs))


def _tokens(values: Values, outputs: Values) -> dict[str, Any]:
    used = mapping(outputs.get("usage_metadata")) or _usage_of_message(outputs)
    return {
        "prompt_tokens": first_of(values, ("prompt_tokens",)) or used.get("input_tokens"),
        "completion_tokens": first_of(values, ("completion_tokens",)) or used.get("output_tokens"),
        "reasoning_tokens": mapping(used.get("output_token_details")).get("reasoning"),
        "cached_tokens": mapping(used.get("input_token_details")).get("cache_read"),
    }


def _usage_of_message(outputs: Values) -> Values:
    """What LangChain's message says of its tokens, in the first generation."""
    generation = outputs.get("generations")
    while isinstance(generation, list) and generation:
        generation = generation[0]
    message = mapping(mapping(generation).get("message"))
    return mapping(mapping(message.get("kwargs", message)).get("usage_metadata"))
