"""A Claude account export: a conversation as a list of `chat_messages`."""

from __future__ import annotations

from turnout.logs.readers.messages import (
    Message,
    Turns,
    Values,
    mapping,
    role_of,
    text_of,
    turns_of_messages,
)


def turns(values: Values) -> Turns | None:
    """The turns of one conversation."""
    said = values["chat_messages"]
    if not isinstance(said, list):
        return None
    messages = [
        Message(
            role_of(one.get("sender")),
            text_of(one.get("text")) or text_of(one.get("content")),
            timestamp=one.get("created_at"),
        )
        for one in map(mapping, said)
    ]
    return turns_of_messages(messages, values)
