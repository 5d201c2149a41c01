"""A request as it reaches a gateway: what it asks, its kind, the conversation that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from turnout.protocols.conversations import (
    Boundary,
    ConversationId,
    boundary_of,
    conversation_of,
    turn_key_of,
)
from turnout.protocols.json_body import JsonBody
from turnout.protocols.kinds import RequestKind, kind_of
from turnout.protocols.records import Request
from turnout.protocols.transcript import grouped
from turnout.protocols.wire_format import WireFormat
from turnout.records import Turn


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        request: What is asked.
        kind: What kind of request it is; only a `turn` is scored.
        turns: The human's words and the answers to them, oldest first. Empty where no person wrote
            any text: an image alone, a system prompt alone, a helper's own words.
        conversation: The conversation that the client names; None where it names none.
        boundary: What the client says about its context.
        turn_key: The client's own id of the human turn that the request serves.
    """

    request: Request
    kind: RequestKind
    turns: tuple[Turn, ...]
    conversation: ConversationId | None
    boundary: Boundary
    turn_key: str | None


def read_call(
    wire_format: WireFormat,
    headers: Mapping[str, str],
    body: JsonBody,
    *,
    is_token_count: bool = False,
) -> Call:
    """Read a request.

    Args:
        wire_format: The format of the endpoint that was asked.
        headers: The caller's, with names in lower case.
        body: The body.
        is_token_count: Whether the endpoint only counts tokens.

    Raises:
        RecordError: If the conversation id that is given for Turnout does not fit.
    """
    request = wire_format.read_request(body.values)
    return Call(
        request,
        "token count" if is_token_count else kind_of(request, headers),
        grouped(request.messages),
        conversation_of(headers, body.values),
        boundary_of(headers, request, body.values.get("input")),
        turn_key_of(headers),
    )
