"""A conversation as one list of messages: WildChat, LMSYS-Chat, ShareGPT, fine-tuning files."""

from __future__ import annotations

from turnout.logs.readers.messages import Turns, Values, messages_of, turns_of_messages

_LISTS = ("messages", "conversation", "conversations")


def turns(values: Values) -> Turns | None:
    """The turns of the first list of messages that the row has."""
    lists = [messages_of(values.get(name)) for name in _LISTS]
    if all(messages is None for messages in lists):
        return None
    return turns_of_messages(next(filter(None, lists), []), values)
