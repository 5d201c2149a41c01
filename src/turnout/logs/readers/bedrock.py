"""Model invocation logs of Amazon Bedrock, as it writes them to S3 and CloudWatch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.messages import NoTurn, Turns, Values, first_of, mapping, parsed
from turnout.logs.readers.model_calls import turn_of_request

ELSEWHERE = "a model call whose body Bedrock stored in a file of its own"
NOT_READ = "a model call without a readable input"
NO_CALL = "a call that is no chat (embeddings, images)"

_SESSIONS = ("conversation_id", "conversationId", "session_id", "sessionId", "thread_id", "chat_id")
# A part of a message is named by its key: kind → the type that Anthropic's messages give it.
_PARTS = {
    "image": "image", "document": "document", "video": "video", "toolUse": "tool_use",
    "toolResult": "tool_result", "reasoningContent": "thinking",
}  # fmt: skip


def turns(values: Values) -> Turns | NoTurn | None:
    """The turn of one invocation."""
    if values["schemaType"] != "ModelInvocationLog":
        return None
    given, came = mapping(parsed(values["input"])), mapping(parsed(values.get("output")))
    body = mapping(parsed(given.get("inputBodyJson")))
    if not body:
        return NoTurn(ELSEWHERE if given.get("inputBodyS3Path") else NOT_READ)
    if "messages" not in body and messages_in(body) is None:
        return NoTurn(NO_CALL)
    messages = [_message(item) for item in messages_in(body) or ()]
    answer = parsed(came.get("outputBodyJson"))
    metadata = mapping(parsed(values.get("requestMetadata")))
    cached, written = (given.get(f"cache{kind}InputTokenCount") for kind in ("Read", "Write"))
    row: dict[str, Any] = {
        "messages": messages,
        "response": _answer(answer),
        "conversation_id": first_of(metadata, _SESSIONS),
        "request_id": values.get("requestId"),
        "model": str(values.get("modelId") or "").rpartition("/")[2],
        "start_time": values.get("timestamp"),
        "user_id": first_of(metadata, ("user_id", "userId"))
        or mapping(values.get("identity")).get("arn"),
        "prompt_tokens": _sum(given.get("inputTokenCount"), cached, written),
        "completion_tokens": came.get("outputTokenCount"),
        "cached_tokens": cached,
        "duration_ms": mapping(mapping(answer).get("metrics")).get("latencyMs"),
        "response_type": "failed" if values.get("errorCode") else None,
    }
    return turn_of_request(row)


def _message(item: dict[str, Any]) -> dict[str, Any]:
    content = item["content"]
    if not isinstance(content, list):
        return item
    return item | {"content": [_part(part) for part in content]}


def _part(part: object) -> object:
    if not isinstance(part, Mapping) or "type" in part:
        return part
    for name, kind in _PARTS.items():
        if name in part:
            return {"type": kind, "name": mapping(part[name]).get("name")}
    return {"type": "text", **part}


def _answer(answer: object) -> Values:
    """A whole answer, or the events of one that was streamed."""
    if isinstance(answer, list):
        return answer_in("".join(_streamed(mapping(event)) for event in answer))
    said = mapping(mapping(mapping(answer).get("output")).get("message"))
    if isinstance(said.get("content"), list):
        return {"type": "message", "content": [_part(part) for part in said["content"]]}
    return answer_in(answer)


def _streamed(event: Values) -> str:
    """The words of an event: Anthropic's and Converse's deltas, or a piece of a completion."""
    delta = mapping(mapping(event.get("contentBlockDelta")).get("delta")) or mapping(
        event.get("delta")
    )
    for text in (delta.get("text"), event.get("generation"), event.get("outputText")):
        if isinstance(text, str):
            return text
    return ""


def _sum(*counts: object) -> int | None:
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known else None
