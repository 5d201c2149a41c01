"""What kind of request it is: a person's turn, its continuation, or a product's helper call.

Helper calls are no turns: a product makes them for itself, often on a small model. They are told by
what they ask for, since few products mark them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, cast, get_args

from turnout.protocols.records import Request

RequestKind: TypeAlias = Literal[
    "turn", "continuation", "title", "tags", "follow-ups", "permission check", "compaction",
    "query", "autocompletion", "sub-agent", "token count", "auxiliary",
]  # fmt: skip
KINDS: tuple[RequestKind, ...] = get_args(RequestKind)

# What a helper call's last user message says. Each pattern is anchored to the message's start.
_WORDINGS: tuple[tuple[RequestKind, re.Pattern[str]], ...] = (
    ("compaction", re.compile(r"CRITICAL: Respond with TEXT ONLY")),
    ("permission check", re.compile(r"<transcript>")),
    ("title", re.compile(r"<session>")),
    ("follow-ups", re.compile(r"\[SUGGESTION MODE\b")),
)  # fmt: skip
# A title is asked for and the conversation quoted, as LibreChat and others do.
_TITLE = re.compile(
    r"(?:please )?(?:provide|write|generate|create) an? (?:very )?(?:concise|short|brief)"
    r"[^\n]*title",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"^\W{0,4}(?:user|human)\W{0,3}:", re.IGNORECASE | re.MULTILINE)
# Open WebUI and those who copied it: `### Task:` and a line that says which.
_TASK = re.compile(r"### Task:\s*\n?([^\n]*)")
_TASKS: tuple[tuple[RequestKind, re.Pattern[str]], ...] = (
    ("title", re.compile(r"\btitle\b", re.IGNORECASE)),
    ("tags", re.compile(r"\btags?\b", re.IGNORECASE)),
    ("follow-ups", re.compile(r"\bfollow-?\s?ups?\b", re.IGNORECASE)),
    ("query", re.compile(r"\b(?:search|quer(?:y|ies)|necessity)\b", re.IGNORECASE)),
    ("autocompletion", re.compile(r"\bautocomplet", re.IGNORECASE)),
)
_HISTORY = ("<chat_history>", "### Chat History:")
_CLASSES = {
    "subagent": "sub-agent", "workflow": "sub-agent", "compaction": "compaction",
    "auxiliary": "auxiliary",
}  # fmt: skip
# Properties of an answer's schema that give a helper call away where no tools are offered.
_SCHEMAS: Mapping[str, RequestKind] = {
    "title": "title", "tags": "tags", "follow_ups": "follow-ups", "queries": "query",
}  # fmt: skip


def kind_of(request: Request, headers: Mapping[str, str]) -> RequestKind:
    """The kind of a request.

    Args:
        request: What was asked.
        headers: The caller's, with names in lower case; empty where a log has none.
    """
    marked = _marked(headers)
    if marked is not None:
        return marked
    last = next((m for m in reversed(request.messages) if m.role != "system"), None)
    if last is None:
        return "auxiliary"
    if last.role == "user" and (helper := _by_wording(last.text)):
        return helper
    if not request.tools and (helper := _by_schema(request.answer_schema)):
        return helper
    return "turn" if last.is_human else "continuation"


def _marked(headers: Mapping[str, str]) -> RequestKind | None:
    """What clients say themselves: Claude Code by headers, Codex by its turn's metadata."""
    if headers.get("x-claude-code-agent-id"):
        return "sub-agent"
    said = _CLASSES.get(headers.get("x-claude-code-request-class", ""))
    if said is not None:
        return cast(RequestKind, said)
    metadata = codex_metadata(headers)
    if metadata.get("thread_source") == "thread_title":
        return "title"
    return "compaction" if metadata.get("request_kind") == "compaction" else None


def codex_metadata(headers: Mapping[str, str]) -> Mapping[str, object]:
    """What Codex says of a request's turn; empty where it says nothing."""
    said = headers.get("x-codex-turn-metadata")
    if not said:
        return {}
    try:
        metadata = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _by_wording(text: str) -> RequestKind | None:
    text = text.lstrip()
    for kind, pattern in _WORDINGS:
        if pattern.match(text):
            return kind
    if _TITLE.match(text) and _QUOTED.search(text):
        return "title"
    task = _TASK.match(text)
    if task is None or not any(mark in text for mark in _HISTORY):
        return None
    return next((kind for kind, pattern in _TASKS if pattern.search(task[1])), "auxiliary")


def _by_schema(schema: Mapping[str, object]) -> RequestKind | None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(properties) != 1:
        return None
    return _SCHEMAS.get(next(iter(properties)))
