"""Chat sessions of Copilot in VS Code: "Chat: Export Chat…", or the files of `chatSessions`."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.logs.readers.messages import (
    LoggedMessage,
    Turns,
    Values,
    mapping,
    message_of,
    turns_of_messages,
)

_SAID = ("markdownContent", "markdownVuln")


def turns(values: Values) -> Turns | None:
    """The turns of one session."""
    requests = values["requests"]
    if not isinstance(requests, list) or not all(isinstance(each, Mapping) for each in requests):
        return None
    messages = [message for request in requests for message in _exchange(request)]
    return turns_of_messages(messages, {**values, "model": None})


def _exchange(request: Values) -> tuple[LoggedMessage, LoggedMessage]:
    """A request's message, and the words among the parts of its response."""
    time = request.get("timestamp")
    asked = message_of("user", mapping(request.get("message")).get("text"), timestamp=time)
    parts = request.get("response")
    said = [_words(mapping(part)) for part in parts] if isinstance(parts, list) else []
    answer = "".join(words for words in said if words)
    return asked, message_of("assistant", answer, request.get("modelId"), time)


def _words(part: Values) -> str | None:
    """The Markdown of a part; parts with another `kind` are tools and progress."""
    value = part.get("value")
    value = mapping(value).get("value", value)
    return (
        value if isinstance(value, str) and part.get("kind", "markdownContent") in _SAID else None
    )
