"""A Claude account export: a conversation as a list of `chat_messages`."""

from __future__ import annotations

from turnout.logs.readers.messages import (
    Message,
    Turns,
    Values,
    first_of,
    mapping,
    message_of,
    turns_of_messages,
)


def turns(values: Values) -> Turns | None:
    """The turns of one conversation."""
    messages = values["chat_messages"]
    if not isinstance(messages, list):
        return None
    return turns_of_messages([_message(mapping(message)) for message in messages], values)


def _message(message: Values) -> Message:
    """A message; one that is only an attachment says the text that was extracted from it."""
    content = first_of(message, ("text", "content"))
    parts = [content] if content else []
    for attached in [*_listed(message.get("attachments")), *_listed(message.get("files"))]:
        extracted = mapping(attached).get("extracted_content")
        if not content:
            parts.append(extracted or {"type": "file"})
    return message_of(message.get("sender"), parts, timestamp=message.get("created_at"))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
