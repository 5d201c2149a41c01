"""Conversations that are stored as trees, since messages were edited and answers regenerated.

The branch that the person ended on is the conversation; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from turnout.logs.readers.messages import LoggedMessage, NoTurn, Turns, Values, turns_of_messages
from turnout.logs.readers.sessions import BRANCH

REGENERATED = "an answer that was regenerated"
REGENERATED_ELSEWHERE = "an answer that was regenerated on another model"


@dataclass(frozen=True, slots=True)
class Node:
    """A message and the one before it.

    Attributes:
        parent: The name of the node before it; None or a name of none where it is the first.
        message: None where the node says nothing or is hidden from the person.
        time_s: When, in seconds since 1970; 0 where nothing tells.
        side: Which of several models it is of that were asked at the same time.
    """

    parent: str | None
    message: LoggedMessage | None
    time_s: float = 0.0
    side: int = 0


def name_of(value: object) -> str | None:
    """The name of a node, as a log has it; None where the value is none."""
    return value if isinstance(value, str) else None


def turns_of_tree(
    nodes: Mapping[str, Node], ended_on: object, values: Values
) -> Sequence[dict[str, object] | NoTurn]:
    """The turns of the branch that the person ended on, and what lies beside it.

    Args:
        nodes: Name → node, in the order of the log.
        ended_on: The name of the last node; where it names none, the newest leaf is.
        values: The row, for the facts that stand once for all of its turns.
    """
    path = path_to(nodes, ended_on)
    again = regenerated(nodes, path)
    messages: list[LoggedMessage] = []
    regenerated_from: object = None
    for name in path:
        regenerated_from = again.get(name, regenerated_from)
        message = nodes[name].message
        if message is not None and message.role == "assistant":
            messages.append(replace(message, regenerated_from=regenerated_from))
            regenerated_from = None
        elif message is not None:
            messages.append(message)
    turns: Turns = turns_of_messages(messages, values)
    return [*turns, *map(NoTurn, beside(nodes, set(path)).values())]


def path_to(nodes: Mapping[str, Node], ended_on: object) -> list[str]:
    """The names from the first node to the last; where `ended_on` names none, to the newest leaf.

    Args:
        nodes: Name → node, in the order of the log.
        ended_on: The name of the last node.
    """
    if not isinstance(ended_on, str) or ended_on not in nodes:
        ended_on = _newest_leaf(nodes)
    path: dict[str, None] = {}
    name: str | None = ended_on
    while name is not None and name in nodes and name not in path:
        path[name] = None
        name = nodes[name].parent
    return list(path)[::-1]


def regenerated(nodes: Mapping[str, Node], path: Sequence[str]) -> dict[str, object]:
    """Answer on the path → the model of the answer before it, where that was another one.

    Models that were asked at the same time say nothing of each other, nor do answers that came
    after the one that the person went on with.
    """
    on_path = set(path)
    model_of = _models_below(nodes)
    siblings: dict[str, list[str]] = {}
    for name, node in nodes.items():
        if node.parent is not None and node.message and node.message.role != "user":
            siblings.setdefault(node.parent, []).append(name)
    model_before: dict[str, object] = {}
    for names in siblings.values():
        names.sort(key=lambda name: nodes[name].time_s)
        chosen = next((name for name in names if name in on_path), None)
        if chosen is None:
            continue
        before = names[: names.index(chosen)]
        models = [model_of[name] for name in before if nodes[name].side == nodes[chosen].side]
        models = [model for model in models if model is not None]
        if models and model_of[chosen] not in (None, models[-1]):
            model_before[chosen] = models[-1]
    return model_before


def _models_below(nodes: Mapping[str, Node]) -> dict[str, object]:
    """The model of each answer; of a part of one that names none, that of the part after it."""
    models: dict[str, object] = {
        name: node.message.model if node.message else None for name, node in nodes.items()
    }
    for name in nodes:
        model, parent = models[name], nodes[name].parent
        steps = 0
        while model is not None and parent is not None and models.get(parent, model) is None:
            before = nodes[parent]
            if (before.message is not None and before.message.role == "user") or steps > len(nodes):
                break
            models[parent] = model
            parent, steps = before.parent, steps + 1
    return models


def _newest_leaf(nodes: Mapping[str, Node]) -> str | None:
    parents = {node.parent for node in nodes.values()}
    leaves = [name for name in nodes if name not in parents]
    # Of leaves of one time the last one in the log is the newest.
    return max(reversed(leaves), key=lambda name: nodes[name].time_s, default=None)


def beside(nodes: Mapping[str, Node], on_path: Collection[str]) -> dict[str, str]:
    """Message of a person beside the path, or answer to one on it → how it is counted."""
    models_on_path: dict[str | None, object] = {
        node.parent: node.message.model
        for name, node in nodes.items()
        if name in on_path and node.message and node.parent is not None
    }
    branches: dict[str, str] = {}
    for name, node in nodes.items():
        message = node.message
        if name in on_path or message is None:
            continue
        if message.role == "user" and (message.text.strip() or message.attached):
            branches[name] = BRANCH
        elif message.role == "assistant" and node.parent in on_path:
            model = models_on_path.get(node.parent)
            other = message.model is not None and model is not None and message.model != model
            branches[name] = REGENERATED_ELSEWHERE if other else REGENERATED
    return branches
