"""A ChatGPT account export: a conversation as a tree of message nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from turnout.logs.readers.branches import Node, name_of, turns_of_tree
from turnout.logs.readers.message_rows import attachments_in
from turnout.logs.readers.messages import NoTurn, Turn, Values, mapping, message_of

# What the product adds to a chat: messages that nobody sees, and a person's settings.
_NOT_OF_PERSON = ("is_visually_hidden_from_conversation", "is_user_system_message")


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns on the way to the newest message; messages edited away are siblings off it."""
    tree = values["mapping"]
    if not isinstance(tree, Mapping) or not all(isinstance(n, Mapping) for n in tree.values()):
        return None
    nodes = {str(name): _node(node) for name, node in tree.items()}
    # A message that names no model was answered by the conversation's own.
    model = values.get("model") or values.get("default_model_slug")
    return turns_of_tree(nodes, values.get("current_node"), {**values, "model": model})


def _node(node: Values) -> Node:
    message = mapping(node.get("message"))
    metadata = mapping(message.get("metadata"))
    hidden = not message or any(metadata.get(mark) for mark in _NOT_OF_PERSON)
    time_s = message.get("create_time")
    parts = mapping(message.get("content")).get("parts")
    parts = parts if isinstance(parts, list) else []
    attached = attachments_in(metadata.get("attachments"))
    read = message_of(
        mapping(message.get("author")).get("role"),
        [*parts, *attached],
        metadata.get("model_slug") or metadata.get("default_model_slug"),
        time_s,
    )
    return Node(
        name_of(node.get("parent")),
        None if hidden else read,
        float(time_s) if isinstance(time_s, int | float) else 0.0,
    )
