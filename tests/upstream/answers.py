"""What vendors answer: whole bodies, streams and errors of the three protocols.

The shapes follow the vendors' references; the words are ours.
"""

# fmt: off
import json
from collections.abc import Iterator
from typing import Any

TOOL_INPUT = {"path": "a.py"}


def last_words(body: dict[str, Any]) -> str:
    """The text of the last message, whatever the protocol."""
    given = body.get("messages", body.get("input", ""))
    if isinstance(given, str):
        return given
    content = given[-1].get("content", "") if given and isinstance(given[-1], dict) else ""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)]
    return " ".join(str(part.get("text", "")) for part in parts)


def wants_tool(body: dict[str, Any]) -> bool:
    return bool(body.get("tools")) and "use the tool" in last_words(body)


def tool_name(body: dict[str, Any]) -> str:
    tool = body["tools"][0]
    return tool.get("name") or tool["function"]["name"]


def words_of(body: dict[str, Any]) -> list[str]:
    """The pieces of the answer's text."""
    return ["from ", str(body.get("model")), " ✓"]


def event(values: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(values, ensure_ascii=False)}\n\n".encode()


CHAT_USAGE = {
    "prompt_tokens": 57, "completion_tokens": 9, "total_tokens": 66,
    "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}  # fmt: skip


def chat_whole(body):
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words_of(body))}
    if wants_tool(body):
        called = {"name": tool_name(body), "arguments": json.dumps(TOOL_INPUT)}
        message = {"role": "assistant", "content": None,
                   "tool_calls": [{"id": "call_1", "type": "function", "function": called}]}
    choices = [
        {"index": n, "message": message, "logprobs": None,
         "finish_reason": "tool_calls" if wants_tool(body) else "stop"}
        for n in range(body.get("n") or 1)
    ]
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": choices, "usage": CHAT_USAGE}


def chat_stream(body) -> Iterator[bytes]:
    def chunk(delta, index=0, reason=None):
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(base | {"choices": [choice]})

    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": body["model"]}
    indices = range(body.get("n") or 1)
    for index in indices:
        yield chunk({"role": "assistant", "content": ""}, index)
    if wants_tool(body):
        called = {"name": tool_name(body), "arguments": ""}
        yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                                     "function": called}]})
        for piece in ('{"path": ', '"a.py"}'):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for piece in words_of(body):
            for index in indices:
                yield chunk({"content": piece}, index)
    for index in indices:
        yield chunk({}, index, "tool_calls" if wants_tool(body) else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event(base | {"choices": [], "usage": CHAT_USAGE})
    yield b"data: [DONE]\n\n"


RESPONSES_USAGE = {
    "input_tokens": 57, "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 8},
    "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 66,
}  # fmt: skip


def _response(body, status, output, usage=None):
    return {"id": "resp_1", "object": "response", "created_at": 1, "status": status,
            "model": body["model"], "output": output, "usage": usage, "error": None,
            "incomplete_details": None, "parallel_tool_calls": True, "tool_choice": "auto",
            "tools": [], "metadata": {}, "instructions": None, "temperature": 1.0, "top_p": 1.0}


def _output_item(body):
    if wants_tool(body):
        return {"id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed",
                "name": tool_name(body), "arguments": json.dumps(TOOL_INPUT)}
    part = {"type": "output_text", "text": "".join(words_of(body)), "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [part]}


def responses_whole(body):
    return _response(body, "completed", [_output_item(body)], RESPONSES_USAGE)


def responses_stream(body) -> Iterator[bytes]:
    number = -1

    def numbered(kind, **values):
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **values}, kind)

    item = _output_item(body)
    place = {"item_id": item["id"], "output_index": 0}
    begun = item | {"status": "in_progress"}
    yield numbered("response.created", response=_response(body, "in_progress", []))
    yield numbered("response.in_progress", response=_response(body, "in_progress", []))
    if wants_tool(body):
        yield numbered("response.output_item.added", output_index=0, item=begun | {"arguments": ""})
        for piece in ('{"path": ', '"a.py"}'):
            yield numbered("response.function_call_arguments.delta", **place, delta=piece)
        yield numbered("response.function_call_arguments.done", **place, name=item["name"],
                       arguments=item["arguments"])
    else:
        place |= {"content_index": 0}
        yield numbered("response.output_item.added", output_index=0, item=begun | {"content": []})
        yield numbered("response.content_part.added", **place,
                       part={"type": "output_text", "text": "", "annotations": []})
        for piece in words_of(body):
            yield numbered("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield numbered("response.output_text.done", **place, text="".join(words_of(body)),
                       logprobs=[])
        yield numbered("response.content_part.done", **place, part=item["content"][0])
    yield numbered("response.output_item.done", output_index=0, item=item)
    yield numbered("response.completed", response=responses_whole(body))


MESSAGES_USAGE = {
    "input_tokens": 9, "cache_creation_input_tokens": 8, "cache_read_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5},
}  # fmt: skip


def _blocks(body):
    blocks: list[dict[str, Any]] = []
    if (body.get("thinking") or {}).get("type") in ("adaptive", "enabled"):
        blocks.append({"type": "thinking", "thinking": "hm", "signature": "c2ln"})
    blocks.append({"type": "text", "text": "".join(words_of(body))})
    if wants_tool(body):
        blocks.append({"type": "tool_use", "id": "toolu_1", "name": tool_name(body),
                       "input": TOOL_INPUT})
    return blocks


def messages_whole(body):
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
            "content": _blocks(body), "stop_sequence": None, "usage": MESSAGES_USAGE,
            "stop_reason": "tool_use" if wants_tool(body) else "end_turn"}


def _deltas(block):
    kind = block["type"]
    if kind == "thinking":
        return [{"type": "thinking_delta", "thinking": "hm"},
                {"type": "signature_delta", "signature": "c2ln"}]
    if kind == "tool_use":
        return [{"type": "input_json_delta", "partial_json": piece}
                for piece in ('{"path": ', '"a.py"}')]
    words = block["text"]
    return [{"type": "text_delta", "text": piece} for piece in (words[:5], words[5:])]


def messages_stream(body) -> Iterator[bytes]:
    def named(kind, **values):
        return event({"type": kind, **values}, kind)

    whole = messages_whole(body)
    begun = whole | {"content": [], "stop_reason": None}
    yield named("message_start", message=begun | {"usage": MESSAGES_USAGE | {"output_tokens": 1}})
    yield named("ping")
    empty = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""},
             "tool_use": {"input": {}}}
    for index, block in enumerate(whole["content"]):
        yield named("content_block_start", index=index, content_block=block | empty[block["type"]])
        for delta in _deltas(block):
            yield named("content_block_delta", index=index, delta=delta)
        yield named("content_block_stop", index=index)
    yield named("message_delta", usage={"output_tokens": 9, "output_tokens_details": {
        "thinking_tokens": 5}}, delta={"stop_reason": whole["stop_reason"], "stop_sequence": None})
    yield named("message_stop")


def error_of(protocol: str, status: int, message: str) -> dict[str, Any]:
    """An error as the vendor words it."""
    if protocol == "messages":
        kinds = {429: "rate_limit_error", 529: "overloaded_error", 400: "invalid_request_error"}
        return {"type": "error", "request_id": "req_1",
                "error": {"type": kinds.get(status, "api_error"), "message": message}}
    kind = {429: "requests", 400: "invalid_request_error"}.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def error_event_of(protocol: str, message: str) -> bytes:
    """An error inside a stream, as the vendor sends it."""
    if protocol == "responses":
        response = _response({"model": "m"}, "failed", [])
        response["error"] = {"code": "server_error", "message": message}
        kind = "response.failed"
        return event({"type": kind, "sequence_number": 9, "response": response}, kind)
    if protocol == "messages":
        return event(error_of(protocol, 529, message), "error")
    return event(error_of(protocol, 500, message))
