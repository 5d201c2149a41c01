"""A SpecStory session: what a coding assistant and its user said, as Markdown.

SpecStory writes what coding assistants and their users said as `_**User (time)**_` and
`_**Agent (model …)**_` headings with text between them. A sub-agent's headings are marked
`- sidechain`. Tools print anything, other sessions too, so a heading must stand between blank lines
and, inside of code or of a tool's output, continue the session's times.

Source:
    SpecStory, `specstory-cli/pkg/session/markdown.go`, Markdown v2.1.0.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.logs.moments import moment
from turnout.logs.readers.messages import (
    NoTurn,
    Turn,
    Values,
    messages_of,
    turns_of_messages,
)
from turnout.logs.readers.sessions import SUB_AGENT

_HEADING = re.compile(
    r"_\*\*(?P<speaker>User|Human|Assistant|Agent)(?P<sidechain> - sidechain)?(?::[^(*]*)?"
    r"(?:\s*\((?P<details>[^)]*)\))?\*\*_\s*"
)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_TOOL = re.compile(r"<tool-use\b(?!.*</tool-use>)")
_SESSION = re.compile(r"<!--.*?\bSession (\S+)|^\*\*Session ID:\*\* *(\S+)", re.MULTILINE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
# What the assistant did or thought, rather than said.
_NOT_SAID = re.compile(
    r"<think>.*?</think>|<tool-use\b.*?</tool-use>|<details>.*?</details>|^_Tools used:.*?_$",
    re.DOTALL | re.MULTILINE,
)
_MODE = re.compile(r"^mode\b|\bmode$", re.IGNORECASE)
_RULE = re.compile(r"^\s*---\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Heading:
    """A heading of a message: where its line is, and what it says."""

    line: int
    of_person: bool
    of_sub_agent: bool
    model: str | None
    timestamp: str | None

    @property
    def time(self) -> dt.datetime | None:
        """When, where the heading says."""
        return moment(self.timestamp)


def turns(values: Values) -> Sequence[Turn | NoTurn] | None:
    """The turns of a session; messages to and from sub-agents are counted."""
    parsed = conversation(str(values["markdown"]), str(values.get("name")))
    if parsed is None:
        return None
    turns = turns_of_messages(messages_of(parsed["messages"]) or [], parsed)
    return [*turns, *[NoTurn(SUB_AGENT)] * parsed["n_of_sub_agents"]]


def conversation(text: str, name: str) -> dict[str, Any] | None:
    """What a session file says, or None where it has no heading of a message.

    Args:
        text: The file.
        name: Names the conversation where the file does not.
    """
    lines = text.split("\n")
    headings = list(_headings(lines))
    if not headings:
        return None
    ends = [heading.line for heading in headings[1:]] + [len(lines)]
    messages = [
        {
            "role": "user" if heading.of_person else "assistant",
            "model": heading.model,
            "timestamp": heading.timestamp,
            "content": _said(lines[heading.line + 1 : end], of_person=heading.of_person),
        }
        for heading, end in zip(headings, ends, strict=True)
        if not heading.of_sub_agent
    ]
    session = _SESSION.search(text)
    return {
        "conversation_id": (session[1] or session[2]) if session else name,
        "messages": messages,
        "n_of_sub_agents": len(headings) - len(messages),
    }


def _headings(lines: Sequence[str]) -> Iterator[_Heading]:
    last: dt.datetime | None = None
    fence, in_tool = "", False
    last_end = max((n for n, line in enumerate(lines) if "</tool-use>" in line), default=-1)
    for number, line in enumerate(lines):
        heading = _heading(lines, number)
        # Tools print unclosed code, and other sessions: within one, times tell whose it is.
        if heading is not None and (
            not (fence or in_tool) or (heading.time and last and heading.time >= last)
        ):
            last = heading.time or last
            fence, in_tool = "", False
            yield heading
        elif in_tool:
            in_tool = "</tool-use>" not in line
        elif _TOOL.match(line) and number < last_end:
            in_tool, fence = True, ""
        elif mark := _FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]


def _heading(lines: Sequence[str], number: int) -> _Heading | None:
    match = _HEADING.fullmatch(lines[number])
    if match is None or not _is_alone(lines, number):
        return None
    details = match["details"] or ""
    time = _TIME.search(details)
    facts = [part.strip() for part in _TIME.sub("", details).split(",")]
    model = next((fact for fact in facts if fact and not _MODE.search(fact)), None)
    of_person = match["speaker"] in ("User", "Human")
    return _Heading(
        number,
        of_person,
        match["sidechain"] is not None,
        model.removeprefix("model ") if model and not of_person else None,
        time[0] if time else None,
    )


def _is_alone(lines: Sequence[str], number: int) -> bool:
    """Whether blank lines stand around it; a message's id may follow."""
    before = lines[number - 1].strip() if number else ""
    after = lines[number + 1].strip() if number + 1 < len(lines) else ""
    return not before and (not after or after.startswith("<!--"))


def _said(lines: Sequence[str], *, of_person: bool) -> str:
    said = "\n".join(lines)
    if not of_person:
        said = _NOT_SAID.sub("", said)
    return _RULE.sub("", said).strip()
