"""A Claude account export: a conversation as a list of `chat_messages`, a tree where edited."""

from __future__ import annotations

from collections.abc import Sequence

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
    model_in,
    text_of,
    turns_of_messages,
)

_PARENT = "parent_message_uuid"


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of one conversation; older exports do not say which message follows which."""
    listed = values["chat_messages"]
    if not isinstance(listed, list):
        return None
    messages = [mapping(message) for message in listed]
    if not messages or not all(
        message.get(_PARENT) and message.get("uuid") for message in messages
    ):
        return turns_of_messages([_message(message) for message in messages], values)
    nodes = {str(message["uuid"]): _node(message) for message in messages}
    return turns_of_tree(nodes, values.get("current_leaf_message_uuid"), values)


def _node(message: Values) -> Node:
    time = moment(message.get("created_at"))
    return Node(name_of(message.get(_PARENT)), _message(message), time.timestamp() if time else 0.0)


def _message(message: Values) -> LoggedMessage:
    """A message; one that is only an attachment says the text that was extracted from it.

    The parts of its content count before `text`, which says of tools that they cannot be shown.
    """
    content = text_of(message.get("content")) or first_of(message, ("text", "content"))
    parts = [content] if content else []
    for attached in [*_listed(message.get("attachments")), *_listed(message.get("files"))]:
        extracted = mapping(attached).get("extracted_content")
        if not content:
            parts.append(extracted or {"type": "file"})
    return message_of(message.get("sender"), parts, model_in(message), message.get("created_at"))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
