"""The record of a served request survives its JSON form."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.protocols.records import Usage
from turnout.routing.served import Attempt, Served

NOW = dt.datetime(2026, 11, 30, 12, 0, tzinfo=dt.UTC)
TOKENS = st.none() | st.integers(0, 10**9)
RECORDS = st.builds(
    Served,
    timestamp=st.datetimes(timezones=st.just(dt.UTC)),
    model_class=st.sampled_from(["reasoning", "fast", None]),
    chosen_by=st.sampled_from(["person", "router", "product", "unknown"]),
    outcome=st.sampled_from(["success", "failed", "cancelled"]),
    attempts=st.lists(st.builds(Attempt)).map(tuple),
    usage=st.builds(Usage, prompt_tokens=TOKENS, cached_tokens=TOKENS),
    tool_counts=st.dictionaries(st.text(), st.integers(1, 9)),
    version=st.just(2),
)


@given(RECORDS)
def test_a_record_comes_back_from_json_as_it_was(served: Served) -> None:
    assert Served.from_json(json.loads(json.dumps(served.as_json()))) == served


def _line(**changes: object) -> dict[str, object]:
    served = Served(
        "r1", NOW, "chat", "turn", "c1", 1, "auto", "m", "fast", "fast", "router", "success"
    )
    return served.as_json() | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"served_version": 1}, "served_version: found 1; expected 2"),
        ({"timestamp": "yesterday"}, "journal record: Invalid isoformat"),
        ({"colour": "red"}, "colour"),
        ({"chosen_by": "nobody"}, "found chosen_by 'nobody'"),
    ],
)
def test_a_record_that_is_none_is_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        Served.from_json(_line(**changes))
