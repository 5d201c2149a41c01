"""OpenAI chat completions: requests, answers, streams and errors.

Source:
    OpenAI API reference, "Chat completions".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from turnout.errors import RecordError
from turnout.protocols.answer_reader import event_bytes
from turnout.protocols.event_stream import GatheredWords
from turnout.protocols.parts import (
    content_of,
    count,
    error_message,
    mapping,
    mappings,
    message_of,
    text,
)
from turnout.protocols.records import Answer, Message, Request, Role, Usage

NAME = "chat"
EFFORT_NAMES: tuple[str, ...] = (
    "reasoning_effort",
    "reasoning",
    "thinking",
    "chat_template_kwargs",
)
_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "tool", "function": "tool",
}  # fmt: skip
# Who speaks, in the words of training sets (ShareGPT) and of LangChain.
_SPEAKERS: Mapping[str, Role] = {
    **_ROLES,
    "human": "user", "gpt": "assistant", "ai": "assistant", "model": "assistant",
    "function_call": "tool", "observation": "tool",
}  # fmt: skip
# Status → type and code of an error.
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; messages of unknown roles are left out."""
    response_format = mapping(body.get("response_format"))
    return Request(
        tuple(
            _message(role, item)
            for item in mappings(body.get("messages"))
            if (role := _ROLES.get(str(item.get("role"))))
        ),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools") or body.get("functions")),
        mapping(mapping(response_format.get("json_schema")).get("schema")),
        _effort(body),
        max_answer_tokens=_max_answer_tokens(body),
    )


def _max_answer_tokens(body: Mapping[str, object]) -> int | None:
    limits = (count(body, name) for name in ("max_completion_tokens", "max_tokens"))
    return next((limit for limit in limits if limit is not None), None)


def _effort(body: Mapping[str, object]) -> str | None:
    """OpenAI's own word, then OpenRouter's, DeepSeek's and that of chat templates."""
    thinks = mapping(body.get("chat_template_kwargs"))
    off = (
        mapping(body.get("thinking")).get("type") == "disabled"
        or thinks.get("enable_thinking") is False
        or thinks.get("thinking") is False
    )
    return (
        text(body.get("reasoning_effort"))
        or text(mapping(body.get("reasoning")).get("effort"))
        or ("none" if off else None)
    )


def effort_parameters(effort: str) -> dict[str, object]:
    """The parameters that ask for a reasoning effort."""
    return {"reasoning_effort": effort}


def usage_parameters(body: Mapping[str, object]) -> dict[str, object]:
    """What to add to a request so that its answer says what it cost; empty where it will anyway."""
    asked = mapping(body.get("stream_options")).get("include_usage")
    if body.get("stream") is not True or asked is True:
        return {}
    return {"stream_options": {"include_usage": True}}


def is_usage_alone(event: Mapping[str, object]) -> bool:
    """Whether an event says nothing but what the answer cost."""
    return event.get("choices") == [] and isinstance(event.get("usage"), Mapping)


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says: its first choice, and what it cost."""
    choices = sorted(mappings(body.get("choices")), key=_index)
    # Text completions say their text without a message around it.
    contents = [
        content_of(mapping(choice.get("message")).get("content", choice.get("text")))
        for choice in choices
    ]
    texts = ["\n".join(content.texts) for content in contents] or [""]
    error = _error_of(body)
    return Answer(
        texts[0],
        called_tools(mapping(choices[0].get("message"))) if choices else (),
        text(body.get("model")),
        usage_of(mapping(body.get("usage"))),
        failed=error is not None,
        complete=bool(choices) and error is None,
        finish_reason=text(choices[0].get("finish_reason")) if choices else None,
        error=error,
        response_id=text(body.get("id")),
        other_texts=tuple(texts[1:]),
    )


def _error_of(body: Mapping[str, object]) -> str | None:
    """What an answer or a chunk says of an error; None where it is none.

    Some servers say it without an `error` member: by `object`, or by why a choice ended.
    """
    error = error_message(body.get("error"))
    if error is None and body.get("object") == "error":
        error = error_message(body)
    failed = [c for c in mappings(body.get("choices")) if c.get("finish_reason") == "error"]
    if error is None and failed:
        error = error_message(failed[0].get("error")) or "unknown error"
    return error


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Tokens as chat completions count them."""
    prompt = usage.get("prompt_tokens_details")
    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        count(prompt, "cached_tokens"),
        count(prompt, "cache_write_tokens"),
    )


def called_tools(said: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the tools that a message calls."""
    if "tool_calls" not in said and "function_call" not in said:
        return ()
    calls = [mapping(call.get("function")) for call in mappings(said.get("tool_calls"))]
    names = [text(call.get("name")) for call in (*calls, mapping(said.get("function_call")))]
    return tuple(name for name in names if name)


class _Choice:
    """One choice of a stream."""

    def __init__(self) -> None:
        self.words = GatheredWords()
        self.tools: dict[tuple[object, object], str] = {}
        self.finish_reason: str | None = None
        self._ids: dict[object, object] = {}

    def take(self, piece: Mapping[str, object]) -> None:
        said = mapping(piece.get("delta"))
        for words in content_of(said.get("content")).texts:
            self.words.add(0, words)
        for call in mappings(said.get("tool_calls")):
            self._take_call(call)
        name = text(mapping(said.get("function_call")).get("name"))
        if name:
            self.tools.setdefault(("function_call", None), name)
        self.finish_reason = text(piece.get("finish_reason")) or self.finish_reason

    def _take_call(self, call: Mapping[str, object]) -> None:
        """Count a call once: some servers repeat its name, or its index with another id."""
        index, call_id = str(call.get("index")), text(call.get("id"))
        if call_id is not None:
            self._ids[index] = call_id
        name = text(mapping(call.get("function")).get("name"))
        if name:
            whole = "index" not in call and call_id is None
            key = ("whole", len(self.tools)) if whole else (index, self._ids.get(index))
            begun = self.tools.get(key, "")
            # A name may come in pieces.
            is_again = name == begun or (begun and call_id is not None)
            self.tools[key] = begun if is_again else begun + name


class ChatStream:
    """The events of a streamed chat completion, gathered."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._model: str | None = None
        self._id: str | None = None
        self._usage = Usage()
        self._error: str | None = None
        self._is_done = False
        self._has_events = self._has_choices = False

    def take(self, event: Mapping[str, object]) -> None:
        """Take the next chunk."""
        self._has_events = True
        self._has_choices |= "choices" in event
        self._model = text(event.get("model")) or self._model
        self._id = text(event.get("id")) or self._id
        self._error = _error_of(event) or self._error
        for piece in mappings(event.get("choices")):
            self._choices.setdefault(_index(piece), _Choice()).take(piece)
        if isinstance(event.get("usage"), Mapping):
            self._usage = usage_of(mapping(event["usage"]))

    def finish(self) -> None:
        """Note that `[DONE]` came."""
        self._is_done = True

    def is_complete(self) -> bool:
        """Whether `[DONE]` came or, as some servers leave it out, each choice said why it ends."""
        if self._error is not None:
            return False
        ended = [choice.finish_reason for choice in self._choices.values()]
        if ended and all(ended):
            return True
        # Events without a single choice are no answer, such as `{"detail": …}` before `[DONE]`.
        return self._is_done and (self._has_choices or not self._has_events)

    def answer(self) -> Answer:
        """What was answered so far."""
        choices = [self._choices[index] for index in sorted(self._choices)] or [_Choice()]
        first = choices[0]
        return Answer(
            first.words.joined(),
            tuple(first.tools.values()),
            self._model,
            self._usage,
            failed=self._error is not None,
            complete=self.is_complete(),
            finish_reason=first.finish_reason,
            error=self._error,
            response_id=self._id,
            other_texts=tuple(choice.words.joined() for choice in choices[1:]),
        )

    def error_event(self, message: str) -> bytes:
        """An event that official clients raise."""
        return event_bytes(json.dumps(error_body(502, message)))


def streamed_answer() -> ChatStream:
    """An empty answer, to be filled by events."""
    return ChatStream()


def error_body(status: int, message: str, *, code: str | None = None) -> dict[str, object]:
    """An error in OpenAI's form."""
    kind, own_code = _ERRORS.get(
        status, ("server_error" if status >= 500 else _ERRORS[400][0], None)
    )
    return {"error": {"message": message, "type": kind, "param": None, "code": code or own_code}}


def models_body(names: Iterable[str]) -> dict[str, object]:
    """The answer of `GET /v1/models`."""
    return {"object": "list", "data": [model_body(name) for name in names]}


def model_body(name: str) -> dict[str, object]:
    """The answer of `GET /v1/models/{name}`."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "turnout"}


def checked_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """Messages as the caller of a library gives them: `role` and `content`, or `from` and `value`.

    Raises:
        RecordError: If one is malformed.
    """
    return [_checked(position, item) for position, item in enumerate(messages)]


def _checked(position: int, item: Mapping[str, object]) -> Message:
    if not isinstance(item, Mapping):
        raise RecordError(
            f"messages[{position}]: found {type(item).__name__}; expected a dict with role and "
            "content, as message.model_dump() of a client's message."
        )
    if item.get("role") is None and "from" in item:
        item = {**item, "role": item["from"], "content": item.get("value")}
    name = item.get("role")
    role = _SPEAKERS.get(name) if isinstance(name, str) else None
    if role is None:
        raise RecordError(
            f"messages[{position}].role: found {name!r}; expected one of {', '.join(_ROLES)}."
        )
    content = item.get("content")
    is_readable = content is None or isinstance(content, str)
    if not is_readable and not (
        isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content)
    ):
        raise RecordError(
            f"messages[{position}].content: found {type(content).__name__}; expected text or a "
            "list of parts."
        )
    return _message(role, item)


def _message(role: Role, item: Mapping[str, object]) -> Message:
    value = item.get("content")
    content = content_of(list(value) if isinstance(value, tuple) else value)
    content.tools += called_tools(item)
    return message_of(role, content)


def _index(choice: Mapping[str, object]) -> int:
    return count(choice, "index") or 0
