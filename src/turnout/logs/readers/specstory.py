"""A SpecStory session: what a coding assistant and its user said, as Markdown.

SpecStory writes what coding assistants and their users said as `_**User (time)**_` and
`_**Agent (model …)**_` headings with text between them.
"""

from __future__ import annotations

import re
from typing import Any

from turnout.logs.readers.messages import Turns, Values, messages_of, turns_of_messages

_HEADING = re.compile(r"^_\*\*(User|Human|Assistant|Agent)(?::[^(*]*)?(?:\s*\(([^)]*)\))?\*\*_\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_SESSION = re.compile(r"<!--.*?\bSession (\S+)|^\*\*Session ID:\*\* *(\S+)", re.MULTILINE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?Z?")
# What the assistant did or thought, rather than said.
_NOT_SAID = re.compile(
    r"<think>.*?</think>|<tool-use\b.*?</tool-use>|<details>.*?</details>|^_Tools used:.*?_$",
    re.DOTALL | re.MULTILINE,
)
_RULE = re.compile(r"^\s*---\s*$", re.MULTILINE)


def turns(values: Values) -> Turns | None:
    """The turns of a session."""
    found = conversation(str(values["markdown"]), str(values.get("name")))
    if found is None:
        return None
    return turns_of_messages(messages_of(found["messages"]) or [], found)


def conversation(text: str, name: str) -> dict[str, Any] | None:
    """What a session file says, or None where it has no heading of a message.

    Args:
        text: The file.
        name: Names the conversation where the file does not.
    """
    messages: list[dict[str, Any]] = []
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark:
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        _close(messages, lines)
        messages.append(_opened(heading[1], heading[2] or ""))
        lines = []
    _close(messages, lines)
    if not messages:
        return None
    session = _SESSION.search(text)
    found = (session[1] or session[2]) if session else name
    return {"conversation_id": found, "messages": messages}


def _opened(speaker: str, details: str) -> dict[str, Any]:
    time = _TIME.search(details)
    facts = [part.strip() for part in _TIME.sub("", details).split(",")]
    model = next((fact for fact in facts if fact and not fact.startswith("mode ")), None)
    if speaker in ("User", "Human"):
        model = None
    return {
        "role": "user" if speaker in ("User", "Human") else "assistant",
        "model": model.removeprefix("model ") if model else None,
        "timestamp": time[0] if time else None,
    }


def _close(messages: list[dict[str, Any]], lines: list[str]) -> None:
    if messages:
        said = "\n".join(lines)
        if messages[-1]["role"] == "assistant":
            said = _NOT_SAID.sub("", said)
        messages[-1]["content"] = _RULE.sub("", said).strip()
