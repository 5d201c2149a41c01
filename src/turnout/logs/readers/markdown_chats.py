"""Chats that editors write as Markdown: Cursor's export, Aider's history of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator

from turnout.logs.readers.messages import (
    LoggedMessage,
    Turns,
    Values,
    digest,
    message_of,
    turns_of_messages,
)

_CURSOR = re.compile(r"^_Exported on .* from Cursor\b", re.MULTILINE)
_CURSOR_HEADING = re.compile(r"^---\n+\*\*(User|Cursor)\*\*\n", re.MULTILINE)
_AIDER_SESSION = re.compile(r"^# aider chat started at (.+)$", re.MULTILINE)
# A line of the person, of Aider itself, or of the answer.
_AIDER_LINE = re.compile(r"(#### |> ?)?(.*)")
_AIDER_MODEL = re.compile(r"(?:Main )?[Mm]odel: (\S+)")
# Commands after which words of the person stand.
_AIDER_COMMAND = re.compile(r"/(?:ask|code|architect|context)\s+(?=\S)")


def turns(values: Values) -> Turns | None:
    """The turns of the chats in a file; each session of Aider is a conversation."""
    text, name = str(values["markdown"]), str(values.get("name"))
    if _CURSOR.search(text):
        return turns_of_messages(list(_cursor(text)), {"id": f"{name}-{digest(text)}"})
    _, *parts = _AIDER_SESSION.split(text)
    if not parts:
        return None
    sessions = zip(parts[::2], parts[1::2], strict=True)
    return [
        turn
        for time, said in sessions
        for turn in turns_of_messages(list(_aider(said)), {"id": time, "timestamp": time})
    ]


def _cursor(text: str) -> Iterator[LoggedMessage]:
    """The messages; the export names no model."""
    _, *parts = _CURSOR_HEADING.split(text)
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        yield message_of("user" if speaker == "User" else "assistant", said.strip())


def _aider(text: str) -> Iterator[LoggedMessage]:
    """The messages of a session: lines of one speaker belong together."""
    model: str | None = None
    asked: list[str] = []
    answer: list[str] = []
    mark_before: str | None = None
    for line in text.splitlines():
        match = _AIDER_LINE.fullmatch(line)
        mark, words = (match[1], match[2]) if match else (None, line)
        if mark == "#### ":
            if mark_before != mark:
                yield from _exchange(asked, answer, model)
                asked, answer = [], []
            asked.append(words.rstrip())
        elif mark is not None:
            named = _AIDER_MODEL.match(words)
            model = named[1] if named else model
        else:
            answer.append(line)
        mark_before = mark
    yield from _exchange(asked, answer, model)


def _exchange(asked: list[str], answer: list[str], model: str | None) -> Iterator[LoggedMessage]:
    """What was asked, without the commands of Aider, and its answer."""
    words = _AIDER_COMMAND.sub("", "\n".join(asked).strip(), count=1)
    if words and not words.startswith("/"):
        yield message_of("user", words)
        yield message_of("assistant", "\n".join(answer).strip(), model)
