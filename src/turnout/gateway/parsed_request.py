"""A request as it was read, before anything is decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from turnout.gateway.conversations import Identity, digest
from turnout.gateway.headers import RawHeaders
from turnout.protocols import Call, JsonBody, Request, RequestKind, WireFormat
from turnout.records import Turn

_ANSWER = "previous_response_id"


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """One request.

    Attributes:
        wire_format: What the client speaks.
        path: The endpoint's, below the version.
        query: Without `?`.
        raw_headers: As they came; names in lower case.
        headers: The same as text, of several the first.
        body: The request's JSON.
        call: What it asks.
        identity: What tells its conversation apart.
        caller: Name of the caller's key; None where the gateway asks for none.
    """

    wire_format: WireFormat
    path: str
    query: str
    raw_headers: RawHeaders
    headers: Mapping[str, str]
    body: JsonBody
    call: Call
    identity: Identity
    caller: str | None

    @property
    def request(self) -> Request:
        """What is asked."""
        return self.call.request

    @property
    def kind(self) -> RequestKind:
        """What kind of request it is."""
        return self.call.kind

    @property
    def is_stored_upstream(self) -> bool:
        """Whether the history lies at one upstream, so that no other can go on with it."""
        values = self.body.values
        return bool(values.get("previous_response_id") or values.get("conversation"))

    @property
    def is_system_alone(self) -> bool:
        """Whether nobody says anything but the product's own system prompt."""
        return all(message.role == "system" for message in self.request.messages)

    def turns(self) -> tuple[Turn, ...]:
        """What a person wrote, and what was answered; empty where the last message has no text."""
        human = next((m for m in reversed(self.request.messages) if m.is_human), None)
        return self.call.turns if human is not None and human.text.strip() else ()

    def user_message(self) -> str:
        """The words of the last turn; empty where it has none."""
        turns = self.turns()
        return turns[-1].user_message if turns else ""


def identity_of(call: Call, values: Mapping[str, object], scope: str) -> Identity:
    """What tells a request's conversation apart.

    Args:
        call: The request.
        values: Its body.
        scope: Names the caller, or the key that it sent.
    """
    named = call.conversation
    given = named.value if named is not None and named.rule != _ANSWER else None
    parent, _, agent = (given or "").partition("/")
    previous = values.get(_ANSWER)
    return Identity(
        scope=digest("scope", scope),
        given_id=given,
        given_by=named.rule if named is not None and given else "transcript",
        user=user_of(values),
        kind=call.kind,
        turn_key=call.turn_key,
        boundary=call.boundary,
        previous_response_id=previous if isinstance(previous, str) else None,
        parent_id=parent if agent else None,
    )


def user_of(values: Mapping[str, object]) -> str:
    """The end user that a request names; empty where it names none."""
    metadata = values.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    for value in (values.get("user"), values.get("safety_identifier"), named):
        if isinstance(value, str) and value:
            return _account(value)[:256]
    return ""


def _account(user_id: str) -> str:
    """Claude Code names its account inside JSON, beside the session."""
    if not user_id.startswith("{"):
        return user_id
    try:
        user = json.loads(user_id)
    except (ValueError, RecursionError):
        return user_id
    names = user if isinstance(user, dict) else {}
    return str(names.get("account_uuid") or names.get("device_id") or "")
