"""The journal of Turnout's own gateway: one line a request, with its decision."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.logs.columns import CALL_ID
from turnout.logs.readers.messages import HELPER_CALL, NoTurn, Turn, Turns, Values
from turnout.routing.served import Served

SOURCE = "turnout journal"
NO_TEXT = "request whose text the journal did not record"
# Read as they stand, of a `Served` record and of the lines that were written before it.
_AS_WRITTEN = (
    "conversation_id", "turn_index", "user_message", "model", "timestamp", "assistant_message",
    "response_type", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens",
    "duration_ms", "user_id", "requested_model",
)  # fmt: skip
_OF_SERVED = (
    *_AS_WRITTEN, "cache_write_tokens", "chosen_by", "decided_class", "p_reasoning", "population",
    "threshold", "policy", "propensity", "router", "feedback",
)  # fmt: skip


def turns(values: Values) -> Turns | NoTurn:
    """The turn of a `Served` record, with its decision.

    The gateway writes no feedback: a line may have one that was added afterwards.

    Raises:
        RecordError: If it is no whole record of a version that is known.
    """
    served = Served.from_json({name: value for name, value in values.items() if name != "feedback"})
    if served.kind not in ("turn", "continuation"):
        return NoTurn(f"{HELPER_CALL}: {served.kind}")
    if served.user_message is None:
        return NoTurn(NO_TEXT)
    return [_turn(values, _OF_SERVED) | {"llm_calls": 1, CALL_ID: served.request_id}]


def turns_of_first_version(values: Values) -> Turns | None:
    """The turn of a line that was written before records had a version.

    Who chose is derived: a line without a decision is of a caller that named a target's model.
    """
    decision = values["decision"]
    if not isinstance(decision, Mapping | None) or "turn_index" not in values:
        return None
    turn = _turn(values, (*_AS_WRITTEN, "llm_calls"))
    turn |= {"router": values["router"], CALL_ID: values.get("timestamp")}
    if decision is None:
        return [turn | {"chosen_by": "person"}]
    names = ("p_reasoning", "population", "threshold", "policy")
    decided = {name: decision.get(name) for name in names}
    return [turn | decided | {"decided_class": decision.get("model_class"), "chosen_by": "router"}]


def _turn(values: Values, names: tuple[str, ...]) -> Turn:
    turn = {name: values.get(name) for name in names}
    return turn | {"source": SOURCE, "tool_counts": values.get("tool_counts") or None}
