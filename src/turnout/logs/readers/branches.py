"""Conversations that are stored as trees, since messages were edited and answers regenerated.

The branch that the person ended on is the conversation; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from turnout.logs.readers.messages import Message, NoTurn, Turns, Values, turns_of_messages
from turnout.logs.readers.sessions import BRANCH

REGENERATED = "an answer that was regenerated"
REGENERATED_ELSEWHERE = "an answer that was regenerated on another model"


@dataclass(frozen=True, slots=True)
class Node:
    """A message and the one before it.

    Attributes:
        parent: The name of the node before it; a name of none where it is the first.
        message: None where the node says nothing or is hidden from the person.
        time_s: When, in seconds since 1970; 0 where nothing tells.
    """

    parent: object
    message: Message | None
    time_s: float = 0.0


def turns_of_tree(
    nodes: Mapping[str, Node], ended_on: object, values: Values
) -> Sequence[dict[str, object] | NoTurn]:
    """The turns of the branch that the person ended on, and what lies beside it.

    Args:
        nodes: Name → node, in the order of the log.
        ended_on: The name of the last node; where it names none, the newest leaf is.
        values: The row, for the facts that stand once for all of its turns.
    """
    if not isinstance(ended_on, str) or ended_on not in nodes:
        ended_on = _newest_leaf(nodes)
    path: list[str] = []
    name: object = ended_on
    seen: set[str] = set()
    while isinstance(name, str) and name in nodes and name not in seen:
        seen.add(name)
        path.append(name)
        name = nodes[name].parent
    messages = [message for name in reversed(path) if (message := nodes[name].message) is not None]
    turns: Turns = turns_of_messages(messages, values)
    return [*turns, *_beside(nodes, seen)]


def _newest_leaf(nodes: Mapping[str, Node]) -> str | None:
    parents = {node.parent for node in nodes.values() if isinstance(node.parent, str)}
    leaves = [name for name in nodes if name not in parents]
    # Of leaves of one time the last one in the log is the newest.
    return max(reversed(leaves), key=lambda name: nodes[name].time_s, default=None)


def _beside(nodes: Mapping[str, Node], on_path: set[str]) -> Iterator[NoTurn]:
    """Every message of the person that lies beside the path, and answers to one that is on it."""
    kept_answers = {
        node.parent: node.message.model
        for name, node in nodes.items()
        if name in on_path and node.message and isinstance(node.parent, str)
    }
    for name, node in nodes.items():
        message = node.message
        if name in on_path or message is None:
            continue
        if message.role == "user" and (message.text.strip() or message.attached):
            yield NoTurn(BRANCH)
        elif message.role == "assistant" and node.parent in on_path:
            kept = kept_answers.get(str(node.parent))
            other = message.model is not None and kept is not None and message.model != kept
            yield NoTurn(REGENERATED_ELSEWHERE if other else REGENERATED)
