"""LiteLLM spend logs, and other logs of requests: all that was said beside a `response`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from turnout.errors import RecordError
from turnout.logs.columns import CALL_ID
from turnout.logs.moments import moment, number_of
from turnout.logs.readers.messages import (
    COMPACTED,
    HELPER_CALL,
    IDS,
    LoggedMessage,
    NoTurn,
    Turn,
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
from turnout.logs.transcripts import TRANSCRIPT, transcript_of
from turnout.protocols import Message, Request, read_answer, read_request
from turnout.protocols.conversations import conversation_of
from turnout.protocols.kinds import kind_of
from turnout.protocols.records import Role
from turnout.schema import FAILED

_ROLES: Mapping[str, Role] = {
    "user": "user", "assistant": "assistant", "tool": "tool", "other": "system",
}  # fmt: skip
_FACTS = ("prompt_tokens", "completion_tokens", "duration_ms")
_SESSIONS = tuple(name for name in IDS if name not in ("id", "uuid"))
_USERS = ("user", "user_id", "end_user")
_USAGE = (
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens",
)  # fmt: skip
NO_CHAT = "a call that is no chat (embeddings, images, speech, a token count, …)"
NOT_STORED = "a model call whose messages the proxy did not store"
# As LiteLLM calls them, without the `a` of asynchronous ones.
_OTHER_CALLS = {
    "embedding", "moderation", "image_generation", "image_edit", "image_variation", "speech",
    "transcription", "rerank", "count_tokens", "search", "ocr", "vector_store_search",
    "create_batch", "create_file", "file_content", "list_files", "retrieve_batch",
}  # fmt: skip
_FALLBACKS = ("attempted_fallbacks", "x-litellm-attempted-fallbacks")
_SAYS_FALLBACKS = ("hidden_params", "additional_headers", "response_headers")
_STARTS, _ENDS = ("startTime", "start_time"), ("endTime", "end_time")


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn that a request adds: it repeats the whole conversation before it.

    A proxy keeps no messages by default: such a request has none.
    """
    if str(values.get("call_type")).lower().lstrip("a") in _OTHER_CALLS:
        return NoTurn(NO_CHAT)
    headers, sent = _sent(values)
    request = _request(values, sent)
    metadata = mapping(parsed(values.get("metadata")))
    if request is None:
        return NoTurn(NOT_STORED, _failed_call(values, metadata)) if "spend" in values else None
    kind = kind_of(request, headers)
    if metadata.get("internal_call_origin"):
        kind = "auxiliary"
    if kind not in ("turn", "continuation"):
        return NoTurn(f"{HELPER_CALL}: {kind}")
    body = mapping(parsed(values["response"]))
    answer = read_answer(body)
    spoken = answer.text if body else text_of(values["response"])
    messages = [_as_read(message) for message in request.messages]
    used = {name: getattr(answer.usage, name) for name in _USAGE}
    session = _session(headers, sent, metadata) or first_of(values, _SESSIONS)
    facts = {name: values[name] for name in _FACTS if values.get(name) is not None}
    facts["response_type"] = _response_type(values, metadata) or (
        "failed" if answer.failed else None
    )
    added = last_turn(
        [*messages, LoggedMessage("assistant", spoken)],
        values,
        {"duration_ms": _duration_ms(values), "tool_counts": Counter(answer.tools) or None}
        | used
        | facts
        | _choice(values, request)
        | {"conversation_id": session or _named_by_start(values, messages)},
        first_of(values, ("request_id", "id", "uuid")),
        named=session is not None,
        ids=(request.previous_response_id, answer.response_id),
    )
    return added or NoTurn("a request without words of a person")


def _sent(values: Values) -> tuple[dict[str, str], Values]:
    """The headers and the body of the request, as far as the proxy stored them."""
    stored = mapping(parsed(values.get("proxy_server_request")))
    body = mapping(parsed(stored.get("body"))) or stored
    headers = mapping(parsed(stored.get("headers")))
    return {str(name).lower(): str(value) for name, value in headers.items()}, body


def _session(headers: Mapping[str, str], sent: Values, metadata: Values) -> str | None:
    """The conversation that the client names; proxies give requests ids of their own beside it."""
    asked = mapping(parsed(metadata.get("requester_metadata")))
    for body in (sent, {"metadata": asked} if asked else {}):
        try:
            named = conversation_of(headers, body)
        except RecordError:  # an id for Turnout that its gateway would refuse
            continue
        if named is not None and named.rule != "previous_response_id":
            return named.value
    return None


def _choice(values: Values, request: Request) -> Turn:
    """Which model was asked for and who chose, as the proxy says in its metadata."""
    metadata = mapping(parsed(values.get("metadata")))
    first_group, group = metadata.get("original_model_group"), values.get("model_group")
    chosen_by = None
    if _attempted_fallbacks(metadata) or _attempted_fallbacks(values):
        chosen_by = "product"
    elif metadata.get("routing_decision"):
        chosen_by = "router"
    elif (first_group and group and first_group != group) or _others_tried(values, metadata):
        chosen_by = "product"
    return {"requested_model": first_group or request.model or group, "chosen_by": chosen_by}


def _attempted_fallbacks(facts: Values) -> float:
    """How often the proxy fell back; it says so by its own name, or as the header that it sent."""
    for name in _FALLBACKS:
        if name in facts and (number := number_of(facts[name])) is not None:
            return number
    inner = (mapping(parsed(facts[name])) for name in _SAYS_FALLBACKS if name in facts)
    return next(filter(None, map(_attempted_fallbacks, inner)), 0)


def _others_tried(values: Values, metadata: Values) -> bool:
    """Whether the proxy tried another model before the one that answered."""
    tried = parsed(metadata.get("previous_models"))
    names = [mapping(each).get("model") for each in tried] if isinstance(tried, list) else []
    return any(name not in (None, values.get("model"), values.get("model_group")) for name in names)


def _failed_call(values: Values, metadata: Values) -> Turn | None:
    """Conversation, model and time of a call that failed; None of one that did not."""
    session = first_of(values, _SESSIONS)
    if session is None or str(_response_type(values, metadata)).lower() not in FAILED:
        return None
    facts = {"conversation_id": session, "model": values.get("model")}
    return facts | {"timestamp": first_of(values, (*_ENDS, *_STARTS))}


def _response_type(values: Values, metadata: Values) -> object:
    """How a call ended; a row that lacks its status may say it in its metadata."""
    said = first_of(values, ("response_type", "status")) or metadata.get("status")
    return said or ("failure" if metadata.get("error_information") else None)


def last_turn(
    messages: Sequence[LoggedMessage],
    values: Values,
    facts: dict[str, Any],
    call_id: object,
    *,
    named: bool = True,
    ids: tuple[str | None, str | None] = (None, None),
) -> Turns:
    """The last turn of what was said, with the facts of the model call that answered it.

    Args:
        messages: What was sent, oldest first, and what came back.
        values: The row, for the facts that stand once for all of its turns.
        facts: Fields of the turn.
        call_id: Names the call.
        named: Whether the log names the conversation, rather than each request.
        ids: The upstream's id of the answer that the request goes on from, and of its own;
            None where there is none.
    """
    turns = turns_of_messages(messages, values)
    if not turns:
        return []
    transcript = transcript_of(
        turns,
        (first_of(values, _USERS) or facts.get("user_id"), values.get("api_key")),
        named=named,
        goes_on=_goes_on(messages),
        compacted=any(message.compacted for message in messages),
        ids=ids,
    )
    return [turns[-1] | facts | {CALL_ID: call_id, TRANSCRIPT: transcript}]


def _goes_on(messages: Sequence[LoggedMessage]) -> bool:
    """Whether results of tools come after the last words of a person."""
    for message in reversed(messages):
        if message.role == "user":
            return False
        if message.role == "tool":
            return True
    return False


def _request(values: Values, sent: Values) -> Request | None:
    """What was asked; current proxies store it in `proxy_server_request` alone."""
    if "messages" in sent or "input" in sent:
        return read_request(sent)
    listed = parsed(values["messages"]) or sent.get("prompt")
    if isinstance(listed, str) and listed.strip():  # a text completion
        listed = [{"role": "user", "content": listed}]
    if not isinstance(listed, list):
        return None
    request = read_request({"messages": listed})
    if len(request.messages) == len(listed):
        return request
    # Roles by other names, as other logs of requests have them.
    messages = messages_of(listed)
    if messages is None:
        return None
    return Request(tuple(Message(_ROLES[m.role], m.text) for m in messages))


def _as_read(message: Message) -> LoggedMessage:
    role = "other" if message.role == "system" else message.role
    return LoggedMessage(
        role,
        message.text,
        harness=bool(message.harness),
        attached=bool(message.attachments),
        compacted=COMPACTED in message.harness,
        ends_turn=message.ends_turn,
    )


def _duration_ms(values: Values) -> int | None:
    start, end = moment(first_of(values, _STARTS)), moment(first_of(values, _ENDS))
    return round((end - start).total_seconds() * 1000) if start and end and end >= start else None


def _named_by_start(values: Values, said: Sequence[LoggedMessage]) -> str:
    """A conversation that the log does not name: its user and first message."""
    opening = next((message.text for message in said if message.role == "user"), "")
    return digest(f"{first_of(values, _USERS) or ''}|{opening}")
