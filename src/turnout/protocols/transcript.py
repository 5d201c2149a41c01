"""Messages → turns: what a person said, and everything that the assistant did about it."""

from __future__ import annotations

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
    joined by a blank line. System messages and harness text are the product's words: they are left
    out, so that a long system prompt never decides a route.
    """
    asked: list[list[str]] = []
    answers: list[str | None] = []
    is_answering = True
    for message in messages:
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
