"""A conversation as one list of messages: WildChat, LMSYS-Chat, ShareGPT, fine-tuning files."""

from __future__ import annotations

from collections.abc import Sequence

from turnout.logs.column_names import USER_MESSAGE_NAMES, plain_name
from turnout.logs.readers.messages import (
    HELPER_CALL,
    LoggedMessage,
    NoTurn,
    Turn,
    Values,
    in_snake_case,
    mapping,
    messages_of,
    parsed,
    turns_of_messages,
)
from turnout.protocols.kinds import helper_by_instructions, helper_by_wording

_LISTS = ("messages", "conversation", "conversations")
# Names without case and signs that other products give the list.
OTHER_LISTS = frozenset(
    (*_LISTS, "turns", "dialogue", "dialog", "history", "chathistory", "transcript", "exchanges",
     "messagelist", "thread", "chat", "chatmessages", "conversationhistory")
)  # fmt: skip


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of the first list of messages that the row has; helper calls are none."""
    lists = [messages_of(values.get(name)) for name in _LISTS]
    if all(messages is None for messages in lists):
        return [] if _has_empty_list(values) else None
    return _turns(next(filter(None, lists), []), {**mapping(values.get("info")), **values})


def turns_of_other_lists(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The same of a list under another name, or with names in other spellings.

    In a row that is a turn already, such a list is the history before it.
    """
    if _is_turn(values):
        return None
    for name, value in values.items():
        if plain_name(name) in OTHER_LISTS and (messages := messages_of(value)) is not None:
            return _turns(messages, in_snake_case(values))
    return None


def _turns(messages: Sequence[LoggedMessage], values: Values) -> Sequence[Turn | NoTurn]:
    for_itself = helper_by_instructions(_instructions(messages))
    return [
        NoTurn(f"{HELPER_CALL}: {kind}")
        if (kind := for_itself or helper_by_wording(turn["user_message"]))
        else turn
        for turn in turns_of_messages(messages, values)
    ]


def _has_empty_list(values: Values) -> bool:
    """Whether a row is a conversation of which nothing is left."""
    listed = [parsed(values[name]) for name in _LISTS if name in values]
    return all(not value or value == [None] for value in listed) and not _is_turn(values)


def _is_turn(values: Values) -> bool:
    return not USER_MESSAGE_NAMES.isdisjoint(map(plain_name, values))


def _instructions(messages: Sequence[LoggedMessage]) -> str:
    return messages[0].text if messages and messages[0].role == "other" else ""
