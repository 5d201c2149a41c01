"""Which conversation a request belongs to, as far as the client says so.

It knows no store and no transcript: where the client names nothing, the transcript must tell.

Source:
    What clients were seen to send; `docs/gateway.md` lists it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from turnout.errors import RecordError
from turnout.protocols.kinds import codex_metadata
from turnout.protocols.parts import count, mapping, mappings, text
from turnout.protocols.records import Request
from turnout.protocols.transcript import grouped

CONVERSATION_HEADER = "x-turnout-conversation-id"
MAX_ID_CHARS = 128
# Given for Turnout: an id that does not fit is refused rather than replaced by its hash.
_OWN = {CONVERSATION_HEADER, "metadata.conversation_id"}
_NAMING = {"session_id", "metadata", "conversation", "prompt_cache_key", "previous_response_id"}
_ALPHABET = re.compile(r"[A-Za-z0-9._:-]+")
_VENDOR_SESSION = re.compile(r"x-[a-z0-9-]+-session-id")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_OLD_CLAUDE_CODE = re.compile(r"user_.*_session_(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ConversationId:
    """A conversation as the client names it.

    Attributes:
        value: At most `2 * MAX_ID_CHARS + 1` characters of `A-Za-z0-9._:-`; a `/` stands between
            a session and a sub-agent of it, or another thread that works for it.
        rule: The header or body field that names it. `previous_response_id` names no conversation
            but one of its answers.
    """

    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Boundary:
    """What a client says about its context.

    Attributes:
        is_compacted: Whether the history before this request was replaced by a summary.
        window: The client's own count of context windows; it rises at each compaction.
    """

    is_compacted: bool = False
    window: int | None = None


def conversation_of(
    headers: Mapping[str, str], body: Mapping[str, object]
) -> ConversationId | None:
    """The conversation that a request names; None where it names none.

    The first rule that matches wins: our own header, then clients' headers, then body fields. Ids
    of clients that do not fit our alphabet and length are replaced by their hash.

    Args:
        headers: The caller's, with names in lower case.
        body: The request's JSON object.

    Raises:
        RecordError: If an id that is given for Turnout does not fit.
    """
    for rule, value in (*_header_ids(headers), *_body_ids(body)):
        if rule in _OWN:
            return ConversationId(_checked(rule, value), rule)
        agent = headers.get("x-claude-code-agent-id") or _codex_thread(headers, value)
        return ConversationId(_fitted(value) + (f"/{_fitted(agent)}" if agent else ""), rule)
    return None


def _codex_thread(headers: Mapping[str, str], session: str) -> str | None:
    """The thread that works for a session of Codex; None of the session's own."""
    parent = headers.get("x-codex-parent-thread-id")
    if not parent and not text(codex_metadata(headers).get("parent_thread_id")):
        return None
    thread = headers.get("thread-id")
    return thread if thread != session else None


def _header_ids(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if not headers:
        return
    names = [CONVERSATION_HEADER, "x-litellm-session-id", "x-claude-code-session-id"]
    client = headers.get("user-agent", "") + headers.get("originator", "")
    if "codex" in client.lower():
        names += ["session-id", "session_id", "conversation_id"]
    names += sorted(name for name in headers if _VENDOR_SESSION.fullmatch(name))
    names += ["x-session-id", "x-session-affinity"]
    for name in names:
        if value := headers.get(name):
            yield name, value


def _body_ids(body: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    if _NAMING.isdisjoint(body):
        return
    metadata = mapping(body.get("metadata"))
    conversation = body.get("conversation")
    candidates = {
        "session_id": body.get("session_id"),
        "metadata.conversation_id": metadata.get("conversation_id"),
        "metadata.session_id": metadata.get("session_id"),
        "metadata.user_id": _session_of_user_id(metadata.get("user_id")),
        "conversation": mapping(conversation).get("id", conversation),
        "prompt_cache_key": _unique(body.get("prompt_cache_key")),
        "previous_response_id": body.get("previous_response_id"),
    }
    for rule, value in candidates.items():
        if said := _said(rule, value):
            yield rule, said


def _said(rule: str, value: object) -> str | None:
    """An id as text; programs number their conversations too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if rule in _OWN and value is not None and not isinstance(value, str):
        raise RecordError(
            f"{rule}: found {type(value).__name__}; expected text. Send an id as text, or none."
        )
    return text(value)


def _session_of_user_id(value: object) -> str | None:
    """Claude Code's session inside `metadata.user_id`, in its new form and its old one."""
    said = text(value)
    if said is None:
        return None
    if said.lstrip().startswith("{"):
        try:
            return text(mapping(json.loads(said)).get("session_id"))
        except (ValueError, RecursionError):
            return None
    old = _OLD_CLAUDE_CODE.fullmatch(said)
    return old[1] if old else None


def _unique(value: object) -> str | None:
    """A cache key that is one conversation's; many programs give all their users the same."""
    said = text(value)
    return said if said and _UUID.search(said) else None


def _checked(rule: str, value: str) -> str:
    if len(value) <= MAX_ID_CHARS and _ALPHABET.fullmatch(value):
        return value
    raise RecordError(
        f"{rule}: found {value[:40]!a}; expected 1 to {MAX_ID_CHARS} characters of letters, digits "
        "and '.', '_', ':', '-'. Send such an id, or none."
    )


def _fitted(value: str) -> str:
    if len(value) <= MAX_ID_CHARS and _ALPHABET.fullmatch(value):
        return value
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def boundary_of(headers: Mapping[str, str], request: Request, items: object) -> Boundary:
    """What a request says about its context.

    Args:
        headers: The caller's, with names in lower case.
        request: What was asked.
        items: The body's `input`, where it has one.
    """
    metadata = codex_metadata(headers)
    window = count(metadata, "window_number")
    if window is None:
        number = headers.get("x-codex-window-id", "").rpartition(":")[2]
        window = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    is_item = any(item.get("type") == "compaction" for item in mappings(items))
    is_marked = bool(headers.get("x-claude-code-context-compacted"))
    return Boundary(is_item or is_marked or _is_first_after_summary(request), window)


def _is_first_after_summary(request: Request) -> bool:
    """Whether a summary stands in the history, and no turn between it and the current one."""
    summaries = [n for n, m in enumerate(request.messages) if "compaction summary" in m.harness]
    return bool(summaries) and len(grouped(request.messages[summaries[-1] :])) <= 1


def turn_key_of(headers: Mapping[str, str]) -> str | None:
    """The client's own id of the human turn that a request serves; None where it gives none."""
    given = headers.get("x-claude-code-prompt-id") or text(codex_metadata(headers).get("turn_id"))
    return _fitted(given) if given else None
