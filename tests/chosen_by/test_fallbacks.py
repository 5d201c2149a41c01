"""What a product changed, told apart from what a person chose, kind by kind."""

import ibis
import pyarrow as pa
import pytest

from tests.tables import turn
from turnout.catalog import load_catalog
from turnout.chosen_by.fallbacks import FALLBACKS, fallback_signs, with_fallbacks
from turnout.chosen_by.model_switches import with_switches
from turnout.engine import connect
from turnout.schema import TURNS
from turnout.turns import with_model_facts

# Name → turns as (model, what differs from a plain turn), the kind expected at each.
PERSON = None
ALIAS = {"requested_model": "smart"}
ROUTED, BY_NAME = {"chosen_by": "router"}, {"chosen_by": "person"}
CASES = {
    "a switch after a success": ([("o3", {}), ("gpt-4o", {})], [None, PERSON]),
    "a rate limit and the way back": (
        [("o3", {"response_type": "rate_limited"}), ("gpt-4o", {}), ("o3", {})],
        [None, "rate_limit", "rate_limit"],
    ),
    "another spelling of a limit": (
        [("o3", {"response_type": "Too Many-Requests"}), ("gpt-4o", {})],
        [None, "rate_limit"],
    ),
    "a failure whose answer names the limit": (
        [("o3", {"response_type": "failed", "assistant_message": "HTTP 429"}), ("gpt-4o", {})],
        [None, "rate_limit"],
    ),
    "an answer that is an error in a log without endings": (
        [("o3", {"assistant_message": "API Error: 529 overloaded"}), ("gpt-4o", {})],
        [None, "rate_limit"],
    ),
    "an answer about errors is none": (
        [("o3", {"assistant_message": "An API Error 429 means …"}), ("gpt-4o", {})],
        [None, PERSON],
    ),
    "a failure, tried again on another model, and back": (
        [("o3", {}), ("o3", {"response_type": "failed"}), ("gpt-4o", {}), ("o3", {})],
        [None, None, "retry", "retry"],
    ),
    "two failures in a row, and back to the first model": (
        [
            ("o3", {"response_type": "failed"}), ("gpt-4o", {"response_type": "error"}),
            ("gpt-4.1", {}), ("o3", {}),
        ],
        [None, "retry", "retry", "retry"],
    ),
    "who stays after a fallback chose to": (
        [("o3", {"response_type": "failed"}), ("gpt-4o", {}), ("gpt-4o", {}), ("o3", {})],
        [None, "retry", None, PERSON],
    ),
    "who goes on to a third model chose to": (
        [("o3", {"response_type": "failed"}), ("gpt-4o", {}), ("gpt-4.1", {})],
        [None, "retry", PERSON],
    ),
    "a failed turn that names no model": (
        [("o3", {}), (None, {"response_type": "failed"}), ("gpt-4o", {})],
        [None, None, "retry"],
    ),
    "the way back over a turn that names no model": (
        [("o3", {"response_type": "failed"}), ("gpt-4o", {}), (None, {}), ("o3", {})],
        [None, "retry", None, "retry"],
    ),
    "a cancelled turn sent again at once": (
        [("o3", {"response_type": "cancelled", "duration_ms": 57_000, "user_message": "x"}),
         ("gpt-4o", {"user_message": "x "})],
        [None, "retry"],
    ),
    "a cancelled turn sent again with other space around it": (
        [("o3", {"response_type": "\tCANCELLED\x0b", "user_message": "\nx\x0b"}),
         ("gpt-4o", {"user_message": " x\r\n"})],
        [None, "retry"],
    ),
    "a number inside a word is no limit": (
        [("o3", {"response_type": "failed", "assistant_message": "id a429"}), ("gpt-4o", {})],
        [None, "retry"],
    ),
    "a cancelled turn sent again after a while": (
        [("o3", {"response_type": "cancelled", "duration_ms": 1000, "user_message": "x"}),
         ("gpt-4o", {"user_message": "x"})],
        [None, PERSON],
    ),
    "a cancelled turn and another message": (
        [("o3", {"response_type": "cancelled"}), ("gpt-4o", {})],
        [None, PERSON],
    ),
    "a sub-agent of several turns and the way back": (
        [("o3", {}), ("gpt-4o", {"mode": "subagent"}), ("gpt-4o", {"mode": "Sub-Agent"}),
         ("o3", {})],
        [None, "sub_agent", None, "sub_agent"],
    ),
    "a notice of the product": (
        [("o3", {}), ("gpt-4o", {"user_message": "<task-notification>\ndone"}), ("o3", {})],
        [None, "sub_agent", "sub_agent"],
    ),
    "a person's change while a sub-agent ran": (
        [("o3", {}), ("gpt-4o", {"mode": "sidechain"}), ("gpt-4.1", {})],
        [None, "sub_agent", PERSON],
    ),
    "an agent mode is a person's": (
        [("o3", {"mode": "Agent"}), ("gpt-4o", {"mode": "Agent"})],
        [None, PERSON],
    ),
    "the same message on another model for one turn": (
        [("o3", {"user_message": "x"}), ("gpt-4o", {"user_message": "x"}), ("o3", {})],
        [None, "excursion", "excursion"],
    ),
    "the same message on another model, to stay": (
        [("o3", {"user_message": "x"}), ("gpt-4o", {"user_message": "x"}), ("gpt-4o", {})],
        [None, PERSON, None],
    ),
    "another message on another model for one turn": (
        [("o3", {}), ("gpt-4o", {}), ("o3", {})],
        [None, PERSON, PERSON],
    ),
    "the same message on the way back": (
        [("o3", {}), ("gpt-4o", {"user_message": "x"}), ("o3", {"user_message": "x"})],
        [None, PERSON, PERSON],
    ),
    "a router chose, and chose again": (
        [("gpt-4o", ROUTED), ("o3", ROUTED), ("o3", ROUTED), ("gpt-4o", ROUTED)],
        [None, "router", None, "router"],
    ),
    "a person asks for a model by name after a router": (
        [("gpt-4o", ROUTED), ("o3", BY_NAME), ("gpt-4o", BY_NAME)],
        [None, PERSON, PERSON],
    ),
    "a person's choice after a failure is no fallback where the log says so": (
        [("o3", {"response_type": "failed"}), ("gpt-4o", BY_NAME)],
        [None, PERSON],
    ),
    "the product fell back, and the way back": (
        [("o3", {}), ("gpt-4o", {"chosen_by": "product"}), ("o3", {})],
        [None, "product", "product"],
    ),
    "the same model was asked for, and another one answered": (
        [("o3", ALIAS), ("gpt-4o", ALIAS), ("o3", ALIAS)],
        [None, "product", "product"],
    ),
    "another model was asked for": (
        [("o3", ALIAS), ("gpt-4o", {"requested_model": "quick"})],
        [None, PERSON],
    ),
    "who chose is not known": (
        [("o3", {"chosen_by": "unknown"}), ("gpt-4o", {"chosen_by": "unknown"})],
        [None, PERSON],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds():
    rows = [
        turn(name, index, f"message {index}", model) | more
        for name, (turns, _) in CASES.items()
        for index, (model, more) in enumerate(turns, start=1)
    ]
    backend = connect()
    turns = ibis.memtable(pa.Table.from_pylist(rows, TURNS))
    facts = with_model_facts(turns, backend, load_catalog())
    marked = with_fallbacks(with_switches(facts.mutate(**fallback_signs(facts))))
    marked_rows = backend.to_pyarrow(marked.order_by("conversation_id", "turn_index")).to_pylist()
    by_name = {}
    for row in marked_rows:
        assert row["fallback"] == (row["fallback_kind"] is not None)
        by_name.setdefault(row["conversation_id"], []).append(row["fallback_kind"])
    return by_name


@pytest.mark.parametrize("name", CASES)
def test_who_changed_the_model_is_told_turn_by_turn(kinds, name):
    assert kinds[name] == CASES[name][1]


def test_every_kind_is_among_the_cases():
    expected = {kind for _, kinds in CASES.values() for kind in kinds if kind}
    assert expected == {kind.code for kind in FALLBACKS}


@pytest.mark.parametrize(
    ("made_from", "from_model"), [("gpt-4o-2024-08-06", "o3"), ("claude-opus-4-5", None)]
)
def test_an_answer_made_again_under_another_name_of_its_model_is_no_switch_of_its_own(
    made_from, from_model
):
    rows = [turn("c", 1, "one", "o3"), turn("c", 2, "two", "gpt-4o")]
    rows[1] |= {"regenerated_from": made_from}
    backend = connect()
    turns = ibis.memtable(pa.Table.from_pylist(rows, TURNS))
    marked = with_switches(with_model_facts(turns, backend, load_catalog()))
    _, last = backend.to_pyarrow(marked.order_by("turn_index")).to_pylist()
    assert (last["from_model"], last["kind"]) == (from_model or made_from, "downgrade")
