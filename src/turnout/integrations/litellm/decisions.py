"""A request of LiteLLM → the router's decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from turnout.protocols import Boundary, Request, grouped
from turnout.protocols.conversations import ConversationId, boundary_of, conversation_of
from turnout.protocols.kinds import kind_of
from turnout.protocols.parts import mapping, text
from turnout.records import Decision
from turnout.routing import Router

_HUMAN = ("turn", "continuation")


def decision_of(
    router: Router,
    request: Request,
    headers: Mapping[str, str],
    body: Mapping[str, object],
    metadata: Mapping[str, object],
) -> Decision | None:
    """The decision about a request.

    A helper call (a title, a compaction, a sub-agent, …) stays on the class of its conversation and
    changes nothing.

    Args:
        router: The router; it remembers conversations that the client names.
        request: The request.
        headers: The caller's, with names in lower case.
        body: The request's fields that may name the conversation.
        metadata: LiteLLM's metadata of the request.

    Returns:
        The decision; None without a person's message, or for a helper of an unknown conversation.

    Raises:
        RecordError: If an id for Turnout is invalid.
    """
    turns = grouped(request.messages)
    if not turns:
        return None
    kind = kind_of(request, headers)
    boundary: Boundary = boundary_of(headers, request, body.get("input"))
    decision = router.decide(
        turns,
        conversation_id=_conversation(headers, body, metadata, is_helper=kind not in _HUMAN),
        kind=kind,
        compacted=boundary.is_compacted,
        remember=kind in _HUMAN,
    )
    return decision if kind in _HUMAN or decision.lock is not None else None


def _conversation(
    headers: Mapping[str, str],
    body: Mapping[str, object],
    metadata: Mapping[str, object],
    *,
    is_helper: bool,
) -> str | None:
    """The conversation within its caller; for a sub-agent, that of its parent."""
    named = conversation_of(headers, body)
    session = text(metadata.get("session_id"))
    if named is None and session is not None:
        named = conversation_of({"x-litellm-session-id": session}, {})
    if named is None or named.rule == "previous_response_id":
        return None
    if is_helper:
        named = replace(named, value=named.value.partition("/")[0])
    return _scoped(named, text(metadata.get("user_api_key_hash")))


def _scoped(named: ConversationId, caller: str | None) -> str:
    return f"{caller or ''}|{named.value}"


def headers_of(metadata: Mapping[str, object]) -> dict[str, str]:
    """The caller's headers, with names in lower case."""
    headers = mapping(metadata.get("headers"))
    return {str(name).lower(): str(value) for name, value in headers.items()}
