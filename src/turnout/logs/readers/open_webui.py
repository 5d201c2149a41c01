"""Chats that Open WebUI exports: a conversation as a tree of messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
from turnout.protocols.parts import count

# What the assistant did or thought, rather than said, as the page draws it.
_NOT_SAID = re.compile(r"<details type=\"[^\"]*\".*?</details>\s*", re.DOTALL)


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of one chat."""
    chat = mapping(parsed(values["chat"]))
    history = mapping(chat.get("history"))
    messages = history.get("messages")
    if isinstance(messages, Mapping):
        listed = [{"id": name, **mapping(message)} for name, message in messages.items()]
    elif isinstance(chat.get("messages"), list):  # an old export
        listed = [dict(mapping(message)) for message in chat["messages"]]
        for before, message in zip([{}, *listed], listed, strict=False):
            message.setdefault("parentId", before.get("id"))
    else:
        return None
    nodes = {str(message.get("id")): _node(message) for message in listed}
    models = chat.get("models")
    facts = {
        "id": values.get("id") or chat.get("id"),
        "user_id": values.get("user_id"),
        "created_at": values.get("created_at") or chat.get("timestamp"),
        "model": models[0] if isinstance(models, list) and len(models) == 1 else None,
    }
    return turns_of_tree(nodes, history.get("currentId"), facts)


def _node(message: Values) -> Node:
    time_s = message.get("timestamp")
    return Node(
        name_of(message.get("parentId")),
        _message(message),
        float(time_s) if isinstance(time_s, int | float) else 0.0,
        count(message, "modelIdx") or 0,
    )


def _message(message: Values) -> LoggedMessage:
    content = message.get("content")
    if message.get("role") == "assistant" and isinstance(content, str):
        content = _NOT_SAID.sub("", content)
    if message.get("files") and not content:
        content = [{"type": "file"}]
    return message_of(
        message.get("role"), content, first_of(message, ("model",)), message.get("timestamp")
    )
