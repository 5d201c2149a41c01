"""Anthropic messages: requests, answers, streams and errors.

Source:
    Anthropic API reference, "Messages".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from turnout.protocols.answer_reader import event_bytes
from turnout.protocols.event_stream import GatheredWords
from turnout.protocols.parts import (
    TOOL_USES,
    content_of,
    count,
    error_message,
    instructions_of,
    mapping,
    mappings,
    message_of,
    text,
)
from turnout.protocols.records import Answer, Request, Role, Usage

NAME = "messages"
EFFORT_NAMES: tuple[str, ...] = ("output_config", "thinking")
_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_ERRORS = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
_THINKING = {"disabled": "none", "enabled": "enabled"}


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; messages of unknown roles are left out."""
    answer_format = mapping(mapping(body.get("output_config")).get("format"))
    items = mappings(body.get("messages"))
    return Request(
        tuple(
            message_of(role, content_of(item.get("content")))
            for item in items
            if (role := _ROLES.get(str(item.get("role"))))
        ),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools")),
        mapping(answer_format.get("schema")),
        _effort(body, items),
        instructions=instructions_of(body.get("system")),
        max_answer_tokens=count(body, "max_tokens"),
    )


def _effort(body: Mapping[str, object], items: list[Mapping[str, object]]) -> str | None:
    """The effort that was set last; system messages in the history may set it again."""
    settings = [body, *(item for item in items if item.get("role") == "system")]
    efforts = [text(mapping(values.get("output_config")).get("effort")) for values in settings]
    thinking = _THINKING.get(str(mapping(body.get("thinking")).get("type")))
    if thinking == "none":
        return thinking
    return next((effort for effort in reversed(efforts) if effort), thinking)


def effort_parameters(effort: str) -> dict[str, object]:
    """The parameters that ask for a reasoning effort; `none` switches thinking off.

    Some models cannot be without thinking and refuse that; their target names the lowest effort.
    """
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": effort}}


def usage_parameters(body: Mapping[str, object]) -> dict[str, object]:
    """Nothing: an answer always says what it cost."""
    return {}


def is_usage_alone(event: Mapping[str, object]) -> bool:
    """Never: the usage comes with the first event and the last but one."""
    return False


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says, and what it cost."""
    content = content_of(body.get("content"))
    error = error_message(body.get("error"))
    failed = body.get("type") == "error" or error is not None
    return Answer(
        "\n".join(content.texts),
        tuple(content.tools),
        text(body.get("model")),
        usage_of(mapping(body.get("usage"))),
        failed=failed,
        complete=not failed and "content" in body,
        finish_reason=text(body.get("stop_reason")),
        error=error or ("unknown error" if failed else None),
        response_id=text(body.get("id")),
    )


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Tokens: `input_tokens` are those after the last cache mark, the others are added to them."""
    fresh = count(usage, "input_tokens")
    read = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    return Usage(
        None if fresh is None else fresh + (read or 0) + (written or 0),
        count(usage, "output_tokens"),
        count(usage.get("output_tokens_details"), "thinking_tokens"),
        read,
        written,
        count(usage.get("cache_creation"), "ephemeral_1h_input_tokens"),
    )


class MessageStream:
    """The events of a streamed message, gathered."""

    def __init__(self) -> None:
        self._words = GatheredWords()
        self._tools: dict[int, str] = {}
        self._message: Mapping[str, object] = {}
        self._usage: dict[str, object] = {}
        self._stop_reason: str | None = None
        self._error: str | None = None
        self._is_stopped = False

    def take(self, event: Mapping[str, object]) -> None:
        """Take the next event."""
        kind = event.get("type")
        index = count(event, "index") or 0
        if kind == "message_start":
            self._message = mapping(event.get("message"))
            self._count(self._message.get("usage"))
        elif kind == "content_block_start":
            self._start(index, mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            self._words.add(index, text(mapping(event.get("delta")).get("text")))
        elif kind == "message_delta":
            self._stop_reason = text(mapping(event.get("delta")).get("stop_reason"))
            self._count(event.get("usage"))
        elif kind == "message_stop":
            self._is_stopped = True
        elif kind == "error" or event.get("error"):
            self._error = error_message(event.get("error")) or "unknown error"

    def _start(self, index: int, block: Mapping[str, object]) -> None:
        name = text(block.get("name"))
        if name and text(block.get("type")) in TOOL_USES:
            self._tools[index] = name
        if block.get("type") == "text":
            self._words.add(index, text(block.get("text")))

    def _count(self, usage: object) -> None:
        """Later counts are cumulative; what they leave out stands as it was."""
        self._usage |= {k: v for k, v in mapping(usage).items() if v is not None}

    def finish(self) -> None:
        """Nothing: a `[DONE]` is no event of this format."""

    def is_complete(self) -> bool:
        """Whether the last event came."""
        return self._is_stopped and self._error is None

    def answer(self) -> Answer:
        """What was answered so far."""
        return Answer(
            self._words.joined(),
            tuple(self._tools[index] for index in sorted(self._tools)),
            text(self._message.get("model")),
            usage_of(self._usage),
            failed=self._error is not None,
            complete=self.is_complete(),
            finish_reason=self._stop_reason,
            error=self._error,
            response_id=text(self._message.get("id")),
        )

    def error_event(self, message: str) -> bytes:
        """An event that official clients raise."""
        return event_bytes(json.dumps(error_body(500, message)), "error")


def streamed_answer() -> MessageStream:
    """An empty answer, to be filled by events."""
    return MessageStream()


def error_body(status: int, message: str, *, code: str | None = None) -> dict[str, object]:
    """An error in Anthropic's form; `code` takes the place of the type that the status has."""
    own = "api_error" if status >= 500 else "invalid_request_error"
    kind = code or _ERRORS.get(status, own)
    return {"type": "error", "error": {"type": kind, "message": message}}


def models_body(names: Iterable[str]) -> dict[str, object]:
    """The answer of `GET /v1/models`: all models on one page."""
    listed = [model_body(name) for name in names]
    ends = (listed[0]["id"], listed[-1]["id"]) if listed else (None, None)
    return {"data": listed, "has_more": False, "first_id": ends[0], "last_id": ends[1]}


def model_body(name: str) -> dict[str, object]:
    """The answer of `GET /v1/models/{name}`."""
    epoch = "1970-01-01T00:00:00Z"
    return {"type": "model", "id": name, "display_name": name, "created_at": epoch}
