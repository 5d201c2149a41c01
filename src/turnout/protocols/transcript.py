"""Messages → turns: what a person said, and everything that the assistant did about it."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from turnout.errors import RecordError
from turnout.protocols import chat
from turnout.protocols.records import Message
from turnout.records import Turn


def turns_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Group chat messages into turns, oldest first.

    Args:
        messages: OpenAI chat messages: `role`, and `content` as text or as a list of parts.

    Returns:
        At least one turn; the last is the current one.

    Raises:
        RecordError: If a message is malformed or no user message is there.
    """
    turns = grouped(chat.checked_messages(messages))
    if not turns:
        raise RecordError(
            f"messages: {len(messages)} messages and no user text among them; expected at least "
            "one message with role 'user'. Send the user's message."
        )
    return turns


def grouped(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """Group messages into turns, oldest first; none where no person wrote anything.

    A turn is a user message and everything the assistant did about it: tool calls and their
    results belong to the assistant's side. User messages with nothing between them are one turn,
    joined by a blank line. Where a product says that a turn was interrupted, the next words are
    another one; before a summary that replaced the answers, each message is one. System
    messages and harness text are the product's words: they are left out, so that a long system
    prompt never decides a route.
    """
    asked: list[list[str]] = []
    answers: list[str | None] = []
    is_answering = True
    for message in messages:
        if message.ends_turn and not is_answering:
            if "compaction summary" in message.harness:
                unanswered = asked.pop()
                asked += [[text] for text in unanswered]
                answers += [None] * (len(unanswered) - 1)
            is_answering = True
        if message.role == "user" and message.text.strip():
            if is_answering:
                asked.append([])
                answers.append(None)
            asked[-1].append(message.text)
            is_answering = False
        elif message.role in ("assistant", "tool") and asked:
            is_answering = True
            if message.role == "assistant" and message.text.strip():
                # The last text is the answer; earlier ones accompany tool calls.
                answers[-1] = message.text
    return tuple(
        Turn("\n\n".join(texts), answer) for texts, answer in zip(asked, answers, strict=True)
    )


def read_conversation(value: object) -> tuple[Turn, ...]:
    """The turns of a conversation in a table's cell, oldest first.

    Args:
        value: A list of chat messages (`role`, `content`) up to the current one, or its JSON text.

    Returns:
        At least one turn; the last is the current one, empty where it has no words, such as an
        image alone.

    Raises:
        RecordError: If it is no list, a message is malformed or none has the role user.
    """
    read = messages_in(value) if isinstance(value, str) else value
    if not isinstance(read, list):
        raise RecordError(
            f"found {reprlib.repr(value)}; expected a list of messages (role, content), or its "
            "JSON text."
        )
    messages = chat.checked_messages(read)
    if not any(message.role == "user" for message in messages):
        raise RecordError(
            f"found {len(messages)} messages; expected at least one message with the role user."
        )
    turns = grouped(messages)
    return (*turns, Turn("")) if _asks_without_words(messages) else turns


def messages_in(text: str) -> list[Any] | None:
    """The list of chat messages that a text is in JSON; None where it is no JSON list."""
    try:
        value = json.loads(text, strict=False) if text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _asks_without_words(messages: Sequence[Message]) -> bool:
    """Whether the last question has no text."""
    asked = False
    for message in reversed(messages):
        if message.role == "user":
            if message.text.strip():
                return False
            asked = True
        elif asked and message.role in ("assistant", "tool"):
            break
    return asked
