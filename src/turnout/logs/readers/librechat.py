"""Conversations that LibreChat exports as JSON: a list of messages, or messages in messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnout.logs.moments import moment
from turnout.logs.readers.branches import Node, name_of, turns_of_tree
from turnout.logs.readers.messages import (
    LoggedMessage,
    NoTurn,
    Turn,
    Values,
    first_of,
    mapping,
    message_of,
    parsed,
)


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of one conversation."""
    messages = list(_nested(parsed(values["messages"])))
    if not messages or not all("isCreatedByUser" in message for message in messages):
        return None
    nodes = {str(message.get("messageId")): _node(message) for message in messages}
    options = mapping(values.get("options"))
    facts = {
        "conversationId": values.get("conversationId"),
        "user": first_of(values, ("user",)),
        "model": first_of(options, ("model",)) or first_of(values, ("model",)),
    }
    return turns_of_tree(nodes, None, facts)


def _nested(messages: object) -> Iterator[Values]:
    """All messages; those of a recursive export stand in the message before them."""
    waiting = [(message, None) for message in _listed(messages)]
    while waiting:
        message, parent = waiting.pop(0)
        name = message.get("messageId")
        yield message if parent is None else {**message, "parentMessageId": parent}
        waiting[:0] = [(child, name) for child in _listed(message.get("children"))]


def _listed(messages: object) -> list[Values]:
    return [mapping(message) for message in messages] if isinstance(messages, list) else []


def _node(message: Values) -> Node:
    time = moment(message.get("createdAt"))
    return Node(
        name_of(message.get("parentMessageId")),
        _message(message),
        time.timestamp() if time else 0.0,
    )


def _message(message: Values) -> LoggedMessage:
    of_person = message.get("isCreatedByUser") is True
    content: object = message.get("text")
    if not content and isinstance(message.get("content"), list):
        content = [_part(mapping(part)) for part in message["content"]]
    if of_person and message.get("files") and not content:
        content = [{"type": "file"}]
    return message_of(
        "user" if of_person else "assistant",
        content,
        None if of_person else first_of(message, ("model",)),
        message.get("createdAt"),
    )


def _part(part: Values) -> Values:
    """A part of a message; its text may stand one level deeper."""
    text = part.get("text")
    return {**part, "text": mapping(text).get("value", text)}
