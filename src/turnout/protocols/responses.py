"""OpenAI responses: requests, answers, streams and errors.

Source:
    OpenAI API reference, "Responses".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from turnout.protocols import chat
from turnout.protocols.answer_reader import event_bytes
from turnout.protocols.event_stream import GatheredWords
from turnout.protocols.parts import (
    content_of,
    count,
    error_message,
    instructions_of,
    mapping,
    mappings,
    message_of,
    text,
)
from turnout.protocols.records import Answer, Message, Request, Role, Usage

NAME = "responses"
EFFORT_NAMES: tuple[str, ...] = ("reasoning",)
_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
}  # fmt: skip
_CALLS = {"function_call", "custom_tool_call", "local_shell_call", "shell_call", "mcp_call",
          "web_search_call", "file_search_call", "code_interpreter_call"}  # fmt: skip
_UNFINISHED = ("queued", "in_progress")
_LAST_EVENTS = {"response.completed", "response.incomplete", "response.failed"}

error_body = chat.error_body
models_body = chat.models_body
model_body = chat.model_body


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; items of unknown types are left out."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = mappings(given)
    messages = (_message(item) for item in items)
    answer_format = mapping(mapping(body.get("text")).get("format"))
    return Request(
        tuple(message for message in messages if message is not None),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools")) or any(_offers_tools(item) for item in items),
        mapping(answer_format.get("schema")),
        _effort([body, *(i for i in items if i.get("type") == "configuration_update")]),
        text(body.get("previous_response_id")),
        instructions=instructions_of(body.get("instructions")),
        max_answer_tokens=count(body, "max_output_tokens"),
    )


def _effort(settings: list[Mapping[str, object]]) -> str | None:
    """The effort that was set last: updates in the history come after the request's own."""
    efforts = [text(mapping(values.get("reasoning")).get("effort")) for values in settings]
    return next((effort for effort in reversed(efforts) if effort), None)


def effort_parameters(effort: str) -> dict[str, object]:
    """The parameters that ask for a reasoning effort."""
    return {"reasoning": {"effort": effort}}


def usage_parameters(body: Mapping[str, object]) -> dict[str, object]:
    """Nothing: a response always says what it cost."""
    return {}


def is_usage_alone(event: Mapping[str, object]) -> bool:
    """Never: the usage comes with the last event."""
    return False


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says, and what it cost."""
    items = [message for item in mappings(body.get("output")) if (message := _message(item))]
    status = text(body.get("status"))
    error = error_message(body.get("error"))
    failed = error is not None or status in ("failed", "cancelled")
    pending = not failed and status in _UNFINISHED
    reason = text(mapping(body.get("incomplete_details")).get("reason"))
    return Answer(
        "\n".join(item.text for item in items if item.role == "assistant" and item.text),
        tuple(name for item in items for name in item.tools),
        text(body.get("model")),
        usage_of(mapping(body.get("usage"))),
        failed=failed,
        complete=not failed
        and not pending
        and (status in ("completed", "incomplete") or "output" in body),
        pending=pending,
        finish_reason=reason or status,
        error=error or ("unknown error" if failed else None),
        response_id=text(body.get("id")),
    )


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Tokens as responses count them."""
    details = usage.get("input_tokens_details")
    return Usage(
        count(usage, "input_tokens"),
        count(usage, "output_tokens"),
        count(usage.get("output_tokens_details"), "reasoning_tokens"),
        count(details, "cached_tokens"),
        count(details, "cache_write_tokens"),
    )


class ResponseStream:
    """The events of a streamed response, gathered."""

    def __init__(self) -> None:
        self._words = GatheredWords()
        self._tools: dict[int, str] = {}
        self._response: Mapping[str, object] = {}
        self._last: str | None = None
        self._error: str | None = None
        self._sequence_number = -1

    def take(self, event: Mapping[str, object]) -> None:
        """Take the next event."""
        kind = text(event.get("type")) or ""
        self._sequence_number = max(self._sequence_number, count(event, "sequence_number") or 0)
        index = count(event, "output_index") or 0
        if isinstance(event.get("response"), Mapping):
            self._response = mapping(event["response"])
        if kind in _LAST_EVENTS:
            self._last = kind
        elif kind == "response.output_text.delta":
            self._words.add(index, text(event.get("delta")))
        elif kind in ("response.output_item.added", "response.output_item.done"):
            item = _message(mapping(event.get("item")))
            if item is not None and item.tools:
                self._tools[index] = item.tools[0]
        elif kind == "error" or event.get("error"):
            said = text(event.get("message"))
            self._error = error_message(event.get("error")) or said or "unknown error"

    def finish(self) -> None:
        """Nothing: a `[DONE]` is no event of this format."""

    def is_complete(self) -> bool:
        """Whether the last event came and is no failure."""
        return self._error is None and self._last not in (None, "response.failed")

    def answer(self) -> Answer:
        """What was answered so far: the last event's own words, or those gathered."""
        last = read_answer(self._response)
        failed = self._error is not None or last.failed or self._last == "response.failed"
        gathered = self._words.joined()
        return replace(
            last,
            text=last.text or gathered,
            tools=last.tools or tuple(self._tools[index] for index in sorted(self._tools)),
            failed=failed,
            complete=self.is_complete() and not failed,
            pending=False,
            error=self._error or last.error or ("unknown error" if failed else None),
        )

    def error_event(self, message: str) -> bytes:
        """`response.failed`: the event that clients show; they say nothing of a bare `error`."""
        said = {"code": "server_error", "message": message}
        names = {"id": "resp_failed", "object": "response", "created_at": 0, "output": []}
        response = {**names, **self._response, "status": "failed", "error": said}
        values = {"type": "response.failed", "sequence_number": self._sequence_number + 1}
        return event_bytes(json.dumps({**values, "response": response}), "response.failed")


def streamed_answer() -> ResponseStream:
    """An empty answer, to be filled by events."""
    return ResponseStream()


def _message(item: Mapping[str, object]) -> Message | None:
    kind = text(item.get("type", "message"))
    role = _ROLES.get(str(item.get("role")))
    if kind == "message" and role is not None:
        return message_of(role, content_of(item.get("content")))
    if kind in _CALLS:
        name = text(item.get("name")) or str(kind).removesuffix("_call")
        return replace(Message("assistant"), tools=(name,))
    if isinstance(kind, str) and kind.endswith("_output"):
        return Message("tool")
    return None


def _offers_tools(item: Mapping[str, object]) -> bool:
    return item.get("type") == "additional_tools"
