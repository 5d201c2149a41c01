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
    if not isinstance(nodes, Mapping) or not all(isinstance(n, Mapping) for n in nodes.values()):
        return None
    path: list[Message] = []
    name, seen = _current_node(values, nodes), set()
    while isinstance(name, str) and name in nodes and name not in seen:
        seen.add(name)
        message = mapping(nodes[name].get("message"))
        if not mapping(message.get("metadata")).get("is_visually_hidden_from_conversation"):
            path.append(_message(message))
        name = nodes[name].get("parent")
    # A message that names no model was answered by the conversation's own.
    model = values.get("model") or values.get("default_model_slug")
    return turns_of_messages(path[::-1], {**values, "model": model})


def _current_node(values: Values, nodes: Mapping[str, Values]) -> object:
    """The node that the person ended on; where the export names none, the newest leaf."""
    named = values.get("current_node")
    if isinstance(named, str) and named in nodes:
        return named
    leaves = [name for name, node in nodes.items() if not node.get("children")]
    return max(leaves, key=lambda name: _time_s(nodes[name]), default=None)


def _time_s(node: Values) -> float:
    time_s = mapping(node.get("message")).get("create_time")
    return float(time_s) if isinstance(time_s, int | float) else 0.0


def _message(message: Values) -> Message:
    return message_of(
        mapping(message.get("author")).get("role"),
        mapping(message.get("content")).get("parts"),
        mapping(message.get("metadata")).get("model_slug"),
        message.get("create_time"),
    )
