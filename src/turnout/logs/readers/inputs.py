"""What trackers of model calls keep as input and output → a request and an answer.

They keep what an application handed over: messages of any library, a request's body, or a text.
Knows no tracker and no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from turnout.logs.readers.answer_bodies import completion_of, gemini_usage, streamed, unquoted
from turnout.logs.readers.messages import Values, mapping, parsed

# Keys under which a text, or the messages, stand.
_INPUTS = (
    "messages", "input", "inputs", "contents", "prompt", "question", "query", "text", "inputText",
)  # fmt: skip
_OUTPUTS = (
    "message", "output", "outputs", "messages", "text", "completion", "answer", "response",
    "generation", "outputText", "results", "streamed_data",
)  # fmt: skip
_ROLES = {
    "human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "generic": "user",
    "model": "assistant",
    "function": "tool", "HumanMessage": "user", "AIMessage": "assistant",
    "SystemMessage": "system", "ToolMessage": "tool",
}  # fmt: skip
_KINDS = {*_ROLES, "user", "assistant", "system", "tool"}
_MAX_DEPTH = 6

ChatMessage = dict[str, Any]


def messages_in(value: object, depth: int = 0) -> list[ChatMessage] | None:
    """An input as chat messages; None where it is in no known form.

    Args:
        value: Text, a message, messages, batches of them (the first counts), or an object that
            holds one of these; JSON text of any of them too.
        depth: How far inside it is.
    """
    value = parsed(value)
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else None
    if isinstance(value, list):
        return _listed(value, depth)
    if not isinstance(value, Mapping):
        return None
    if (message := chat_message(value)) is not None:
        return [message]
    system = [{"role": "system", "content": value["system"]}] if value.get("system") else []
    for name in _INPUTS:
        if (inner := messages_in(value.get(name), depth + 1)) is not None:
            return [*system, *inner]
    return None


def _listed(value: list[Any], depth: int) -> list[ChatMessage] | None:
    if value and isinstance(value[0], list):
        return messages_in(value[0], depth + 1)
    read = [chat_message(item) for item in value]
    messages = [message for message in read if message is not None]
    if messages or not value or isinstance(value[0], Mapping):
        return messages or None
    texts = [item for item in value if isinstance(item, str)]
    return messages_in("\n".join(texts), depth + 1)


def chat_message(item: object) -> ChatMessage | None:
    """A message of any library as chat completions write it; None where it is none."""
    item = mapping(parsed(item))
    if item.get("lc") and isinstance(item.get("kwargs"), Mapping):  # LangChain, serialised
        name = _last_name(item.get("id"))
        item = {"type": _ROLES.get(name, name), **item["kwargs"]}
    elif isinstance(item.get("data"), Mapping) and str(item.get("type")) in _KINDS:
        item = {**item["data"], "type": item["type"]}
    role = item.get("role") or item.get("type")
    if not isinstance(role, str) or role not in _KINDS | {"developer"}:
        return None
    content = item.get("content", item.get("parts", item.get("text")))
    if isinstance(content, list):  # Gemini marks its thoughts
        content = [part for part in content if mapping(part).get("thought") is not True]
    calls = item.get("tool_calls") or mapping(item.get("additional_kwargs")).get("tool_calls")
    return {
        "role": _ROLES.get(role, role),
        "content": content,
        "tool_calls": [_tool_call(call) for call in calls] if isinstance(calls, list) else None,
    }


def _tool_call(call: object) -> object:
    """LangChain names a tool without the object that chat completions put around it."""
    called = mapping(call)
    return call if "function" in called else {"function": {"name": called.get("name")}}


def _last_name(path: object) -> str:
    return str(path[-1]) if isinstance(path, list) and path else ""


def answer_in(value: object, depth: int = 0) -> Values:
    """An output as the body of an answer; one without words where it is in no known form.

    Args:
        value: Text, a message, messages (the last counts), generations, or a whole body of one of
            the wire formats; JSON text of any of them too.
        depth: How far inside it is.
    """
    read = unquoted(parsed(value))
    if depth > _MAX_DEPTH or read is None:
        return {}
    if (gathered := streamed(read)) is not None:
        return gathered
    if isinstance(read, list):
        return answer_in(_last_answer(read), depth + 1)
    return _answer_in_object(read, depth) if isinstance(read, Mapping) else completion_of(read)


def _answer_in_object(read: Values, depth: int) -> Values:
    if _is_body(read):
        return read
    if (message := chat_message(read)) is not None:
        return {"choices": [{"message": message}]}
    if isinstance(read.get("candidates"), list):
        first = mapping(read["candidates"][0]) if read["candidates"] else {}
        said = {"role": "model", **mapping(first.get("content"))}
        return {**answer_in(said, depth + 1), **gemini_usage(read)}
    if "generations" in read:
        return answer_in(_first_generation(read["generations"]), depth + 1)
    inner = next((read[name] for name in _OUTPUTS if read.get(name)), None)
    # An object in no known form may be what the model was asked for, as text.
    return answer_in(inner, depth + 1) or completion_of(read.get("content", _as_text(read)))


def _is_body(value: Values) -> bool:
    if isinstance(value.get("choices"), list):
        return True
    if value.get("object") == "response" and isinstance(value.get("output"), list):
        return True
    return value.get("type") in ("message", "error") and isinstance(value.get("content"), list)


def _as_text(value: Values) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _last_answer(value: Sequence[object]) -> object:
    answers = [item for item in value if (chat_message(item) or {}).get("role") == "assistant"]
    return answers[-1] if answers else (value[-1] if value else None)


def _first_generation(value: object) -> object:
    while isinstance(value, list) and value:
        value = value[0]
    generation = mapping(value)
    return generation.get("message") or generation.get("text")
