"""The journal of Turnout's own gateway: one line a request, with its decision."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.logs.columns import CALL_ID
from turnout.logs.readers.messages import Turns, Values

SOURCE = "turnout journal"


def turns(values: Values) -> Turns | None:
    """The one turn of a request, as the gateway wrote it."""
    if not isinstance(values["decision"], Mapping | None) or "turn_index" not in values:
        return None
    # Every line is a call of its own: requests that a tool's result continues share their turn.
    return [{"source": SOURCE, CALL_ID: values.get("timestamp"), **values}]
