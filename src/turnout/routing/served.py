"""The record of one request that a gateway served: request, decision and answer."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from turnout.errors import RecordError
from turnout.protocols.records import Usage
from turnout.records import ModelClass, Population

SERVED_VERSION = 2
"""Version of the record; lines without one were written before records had a version."""

ChosenBy = Literal["person", "router", "product", "unknown"]
"""Who chose a turn's model. Only a person's choice is evidence of what the turn needs."""

Outcome = Literal["success", "failed", "cancelled", "pending"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request at one target.

    Attributes:
        target: Name of the target.
        model: The model it was sent to.
        status: HTTP status; None where no answer came.
        error: What went wrong, in one sentence; None where it was answered.
    """

    target: str
    model: str
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """One request, from its arrival to its answer.

    Attributes:
        request_id: Unique to the request.
        timestamp: When the request came, in UTC.
        protocol: `chat`, `responses` or `messages`.
        kind: What the request is: `turn`, or the helper or continuation that it is instead.
        conversation_id: The conversation, as the session store names it.
        identified_by: How the conversation was identified: a header, a body field, or `transcript`.
        turn_index: 1-based position of the human turn that the request belongs to.
        user_message: The human's words; None where texts are not recorded.
        user_message_hash: Its hash, where the journal stores hashes.
        assistant_message: The answer's text; None where texts are not recorded.
        user_id: The end user, where the request names one; pseudonymised when read as a log.
        caller: Name of the caller's key in the settings.
        requested_model: The model that was asked for.
        model: The model that answered, else the last one tried.
        model_class: The class that served.
        target: Name of the target that served.
        chosen_by: Who chose the class that served.
        decided_class: The router's decision, also in shadow mode; None where it did not decide.
        p_reasoning: The score in [0, 1]; None where nothing was scored.
        population: The population of score and threshold.
        threshold: The least score that sends a message to reasoning.
        policy: Name of the policy.
        reason: One sentence.
        propensity: Probability in (0, 1] with which the served class was chosen; None where the
            router did not choose.
        router: Digest of the router folder.
        outcome: How the answer ended; `pending` where it goes on in the upstream's background.
        status: HTTP status sent to the caller; None where the caller disconnected first.
        attempts: Every try, in order.
        usage: Tokens, as the upstream counted them.
        tool_counts: Tool name → calls in the answer.
        duration_ms: From the request's arrival to the answer's last byte.
        first_byte_ms: From the request's arrival to the answer's first byte.
        decision_ms: Time to score and decide.
        version: Version of this record.
    """

    request_id: str
    timestamp: dt.datetime
    protocol: str
    kind: str
    conversation_id: str
    turn_index: int
    requested_model: str | None
    model: str
    model_class: ModelClass | None
    target: str
    chosen_by: ChosenBy
    outcome: Outcome
    identified_by: str = "transcript"
    user_message: str | None = None
    user_message_hash: str | None = None
    assistant_message: str | None = None
    user_id: str | None = None
    caller: str | None = None
    decided_class: ModelClass | None = None
    p_reasoning: float | None = None
    population: Population | None = None
    threshold: float | None = None
    policy: str | None = None
    reason: str | None = None
    propensity: float | None = None
    router: str | None = None
    status: int | None = None
    attempts: tuple[Attempt, ...] = ()
    usage: Usage = field(default_factory=Usage)
    tool_counts: Mapping[str, int] = field(default_factory=dict)
    duration_ms: int | None = None
    first_byte_ms: int | None = None
    decision_ms: float | None = None
    version: int = SERVED_VERSION

    def as_json(self) -> dict[str, Any]:
        """The record as one flat JSON object, under the names of the turns table.

        Token counts are at the top level, and `outcome` is named `response_type`.
        """
        values = {name: getattr(self, name) for name in _FIELDS}
        values["timestamp"] = self.timestamp.astimezone(dt.UTC).isoformat()
        values["attempts"] = [
            {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS} for attempt in self.attempts
        ]
        values["tool_counts"] = dict(self.tool_counts)
        return {
            "served_version": self.version,
            **values,
            "response_type": self.outcome,
            **{name: getattr(self.usage, name) for name in _USAGE_FIELDS},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Served:
        """The record that `as_json` wrote.

        Raises:
            RecordError: If the version is another, or a field is missing, unknown or not of its
                kind.
        """
        fields = dict(values)
        version = fields.pop("served_version", None)
        if version != SERVED_VERSION:
            raise RecordError(
                f"served_version: found {version!r}; expected {SERVED_VERSION}. "
                "Read the journal with the version of Turnout that wrote it, or a newer one."
            )
        try:
            usage = Usage(**{f.name: fields.pop(f.name, None) for f in dataclasses.fields(Usage)})
            served = cls(
                timestamp=dt.datetime.fromisoformat(fields.pop("timestamp")),
                outcome=fields.pop("response_type"),
                attempts=tuple(Attempt(**attempt) for attempt in fields.pop("attempts", ())),
                usage=usage,
                **fields,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"journal record: {error}; expected the fields of Served.") from error
        if served.chosen_by not in get_args(ChosenBy) or served.outcome not in get_args(Outcome):
            raise RecordError(
                f"journal record: found chosen_by {served.chosen_by!r} and response_type "
                f"{served.outcome!r}; expected one of {', '.join(get_args(ChosenBy))}, and one of "
                f"{', '.join(get_args(Outcome))}."
            )
        return served


_USAGE_FIELDS = tuple(item.name for item in dataclasses.fields(Usage))
_ATTEMPT_FIELDS = tuple(item.name for item in dataclasses.fields(Attempt))
# Fields with the same name in the JSON object.
_FIELDS = tuple(
    item.name
    for item in dataclasses.fields(Served)
    if item.name not in ("usage", "outcome", "version")
)
