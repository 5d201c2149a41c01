"""A Claude account export: a conversation as a list of `chat_messages`."""

from __future__ import annotations

from turnout.logs.readers.messages import (
    Turns,
    Values,
    first_of,
    mapping,
    message_of,
    turns_of_messages,
)


def turns(values: Values) -> Turns | None:
    """The turns of one conversation."""
    said = values["chat_messages"]
    if not isinstance(said, list):
        return None
    messages = [
        message_of(
            one.get("sender"),
            first_of(one, ("text", "content")),
            timestamp=one.get("created_at"),
        )
        for one in map(mapping, said)
    ]
    return turns_of_messages(messages, values)
