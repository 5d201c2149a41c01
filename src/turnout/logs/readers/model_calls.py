"""One model call → the turn that it adds, or what it is instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.logs.readers import litellm
from turnout.logs.readers.messages import HELPER_CALL, LoggedMessage, NoTurn, Turns, Values
from turnout.protocols import Message, Request
from turnout.protocols.kinds import kind_of
from turnout.protocols.records import Role

# Tokens that a log may count beside the answer's body.
_COUNTED_APART = ("reasoning_tokens", "cached_tokens")
_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool"}


def turn_of_call(
    messages: Sequence[LoggedMessage], facts: dict[str, Any], call_id: object, *, named: bool = True
) -> Turns | NoTurn:
    """The last turn of a call; a product's helper call has none.

    Args:
        messages: What was sent, oldest first, and what came back.
        facts: Fields of the turn besides what was said.
        call_id: Names the call.
        named: Whether the log names the conversation, rather than each request.
    """
    asked = list(messages)
    while asked and asked[-1].role == "assistant":
        asked.pop()
    kind = kind_of(Request(tuple(map(_as_asked, asked))), {}) if asked else "turn"
    if kind not in ("turn", "continuation"):
        return NoTurn(f"{HELPER_CALL}: {kind}")
    return litellm.last_turn(messages, {}, facts, call_id, named=named)


def turn_of_request(row: Values) -> Turns | NoTurn | None:
    """The turn that a request adds.

    Args:
        row: The request in the columns of a LiteLLM spend log: `messages` or
            `proxy_server_request`, `response`, and the ids, model and times beside them.
    """
    read = litellm.turns(row)
    if not isinstance(read, list):
        return read
    counts = {name: row[name] for name in _COUNTED_APART if row.get(name) is not None}
    return [turn | counts for turn in read]


def _as_asked(message: LoggedMessage) -> Message:
    attachments = ("file",) if message.attached else ()
    return Message(_ROLES.get(message.role, "system"), message.text, attachments=attachments)
