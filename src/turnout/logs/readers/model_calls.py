"""One model call → the turn that it adds, or what it is instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.logs.readers.litellm import last_turn
from turnout.logs.readers.messages import Message, NoTurn, Turns
from turnout.protocols import Message as ProtocolMessage
from turnout.protocols import Request
from turnout.protocols.kinds import kind_of
from turnout.protocols.records import Role

_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool"}


def turn_of_call(
    messages: Sequence[Message], facts: dict[str, Any], call_id: object
) -> Turns | NoTurn:
    """The last turn of a call; a product's helper call has none.

    Args:
        messages: What was sent, oldest first, and what came back.
        facts: Fields of the turn besides what was said.
        call_id: Names the call.
    """
    asked = list(messages)
    while asked and asked[-1].role == "assistant":
        asked.pop()
    kind = kind_of(Request(tuple(map(_as_asked, asked))), {}) if asked else "turn"
    if kind not in ("turn", "continuation"):
        return NoTurn(f"a product's helper call: {kind}")
    return last_turn(messages, {}, facts, call_id)


def _as_asked(message: Message) -> ProtocolMessage:
    attachments = ("file",) if message.attached else ()
    return ProtocolMessage(
        _ROLES.get(message.role, "system"), message.text, attachments=attachments
    )
