"""Chat messages as the wire carries them → turns; knows no model and no format of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnout.errors import RecordError
from turnout.records import Turn

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_PARTS = ("text", "input_text", "output_text")


def turns_of(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Group a message list into turns, oldest first.

    A turn is a user message and everything the assistant did about it: tool calls and their
    results belong to the assistant's side. User messages with nothing between them are one turn,
    joined by a blank line. System and developer messages are the product's words, not the
    user's: they are left out, so that a long system prompt never decides a route.

    Args:
        messages: OpenAI chat messages: `role`, and `content` as text or as a list of parts.

    Returns:
        At least one turn; the last is the current one.

    Raises:
        RecordError: If a message is malformed or no user message is there.
    """
    turns: list[Turn] = []
    answering = True
    for position, message in enumerate(messages):
        role, text = _role_and_text(position, message)
        if role == "user" and text.strip():
            if answering:
                turns.append(Turn(text))
            else:
                turns[-1] = Turn(f"{turns[-1].user_message}\n\n{text}")
            answering = False
        elif role in ("assistant", "tool", "function") and turns:
            answering = True
            if role == "assistant" and text.strip():
                # The last text is the answer; earlier ones accompany tool calls.
                turns[-1] = Turn(turns[-1].user_message, text)
    if not turns:
        raise RecordError(
            f"messages: {len(messages)} messages and no user text among them; expected at least "
            "one message with role 'user'. Send the user's message."
        )
    return tuple(turns)


def _role_and_text(position: int, message: Mapping[str, Any]) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise RecordError(
            f"messages[{position}].role: found {role!r}; expected one of {', '.join(ROLES)}."
        )
    content = message.get("content")
    if content is None:
        return role, ""
    if isinstance(content, str):
        return role, content
    if not isinstance(content, Sequence) or not all(isinstance(p, Mapping) for p in content):
        raise RecordError(
            f"messages[{position}].content: found {type(content).__name__}; expected text or a "
            "list of parts."
        )
    texts = (part.get("text") for part in content if part.get("type") in _TEXT_PARTS)
    return role, "\n".join(text for text in texts if isinstance(text, str))
