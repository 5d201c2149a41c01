"""A conversation as one list of messages: WildChat, LMSYS-Chat, ShareGPT, fine-tuning files."""

from __future__ import annotations

from collections.abc import Sequence

from turnout.logs.readers.messages import (
    HELPER_CALL,
    Message,
    NoTurn,
    Turn,
    Values,
    messages_of,
    turns_of_messages,
)
from turnout.protocols.kinds import helper_by_instructions, helper_by_wording

_LISTS = ("messages", "conversation", "conversations")


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of the first list of messages that the row has; helper calls are none."""
    lists = [messages_of(values.get(name)) for name in _LISTS]
    if all(messages is None for messages in lists):
        return None
    messages = next(filter(None, lists), [])
    for_itself = helper_by_instructions(_instructions(messages))
    return [
        NoTurn(f"{HELPER_CALL}: {kind}")
        if (kind := for_itself or helper_by_wording(turn["user_message"]))
        else turn
        for turn in turns_of_messages(messages, values)
    ]


def _instructions(messages: Sequence[Message]) -> str:
    return messages[0].text if messages and messages[0].role == "other" else ""
