"""A ChatGPT account export: a conversation as a tree of message nodes."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.logs.readers.messages import (
    Message,
    Turns,
    Values,
    mapping,
    message_of,
    turns_of_messages,
)


def turns(values: Values) -> Turns | None:
    """The turns on the way to the newest message; messages edited away are siblings off it."""
    nodes = values["mapping"]
    if not isinstance(nodes, Mapping):
        return None
    path: list[Message] = []
    at, seen = values["current_node"], set()
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = mapping(nodes[at])
        message = mapping(node.get("message"))
        path.append(
            message_of(
                mapping(message.get("author")).get("role"),
                mapping(message.get("content")).get("parts"),
                mapping(message.get("metadata")).get("model_slug"),
                message.get("create_time"),
            )
        )
        at = node.get("parent")
    return turns_of_messages(path[::-1], values)
