"""`label` and `switches` have one notion of the same model, and so of a switch."""

import pyarrow.parquet as pq
import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.labels import label_turns
from turnout.switches import report_switches

OPUS, HAIKU, SONNET = "claude-opus-4-5", "claude-haiku-4-5", "claude-sonnet-4-5"
LIMITED = {"response_type": "rate_limited"}
OVERLOADED = {"assistant_message": "API Error: 529 overloaded"}
# Name → turns as (model, what differs from a plain turn), and for each turn what a person did.
CASES = {
    "the way back from a limit is in another spelling": (
        [(f"{OPUS}-20251101", LIMITED), (HAIKU, {}), ("anthropic/claude-opus-4.5", {})],
        ["", "", ""],
    ),
    "a turn without a model failed in between": (
        [(OPUS, {}), ("<synthetic>", OVERLOADED), (HAIKU, {}), (OPUS, {})],
        ["", "", "", ""],
    ),
    "the way back passes a turn without a model": (
        [(OPUS, LIMITED), (HAIKU, {}), ("auto", {}), (OPUS, {})],
        ["", "", "", ""],
    ),
    "the way back to an unknown model in another spelling": (
        [("Acme Model_2", LIMITED), (HAIKU, {}), ("hub/acme-model-2", {})],
        ["", "", ""],
    ),
    "a model that thinks harder is the same": (
        [(SONNET, {"reasoning_tokens": 0}), (SONNET, {"reasoning_tokens": 900})],
        ["", ""],
    ),
    "another spelling of it that thinks harder is the same": (
        [("claude-sonnet-4.5", {}), (f"{SONNET}:thinking", {}), (SONNET, {})],
        ["", "", ""],
    ),
    "a switch over a turn without a model": (
        [("gpt-4o-mini", {}), ("auto", {}), ("o3", {})],
        ["", "", "upgrade"],
    ),
    "up and down again": ([(HAIKU, {}), (OPUS, {}), (HAIKU, {})], ["", "upgrade", "downgrade"]),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Conversation → what `switches` and what `label` say that a person did at each turn."""
    folder = tmp_path_factory.mktemp("same")
    rows = [
        turn(name, index, f"message {index}", model) | more
        for name, (turns, _) in CASES.items()
        for index, (model, more) in enumerate(turns, start=1)
    ]
    turns, catalog = write_turns(folder / "turns.parquet", rows), load_catalog()
    report_switches(turns, catalog, out=folder / "switches")
    label_turns(turns, folder / "labels.parquet", catalog)
    switched = {
        (row["conversation_id"], row["turn_index"]): row["kind"]
        for row in pq.read_table(folder / "switches" / "switches.parquet").to_pylist()
        if not row["fallback"]
    }
    voted = {
        (row["conversation_id"], row["turn_index"]): code.removeprefix("-")
        for row in pq.read_table(folder / "labels.parquet").to_pylist()
        for code in row["evidence"]
        if code in ("upgrade", "-downgrade")
    }
    return [
        {
            name: [by_turn.get((name, index), "") for index in range(1, len(turns) + 1)]
            for name, (turns, _) in CASES.items()
        }
        for by_turn in (switched, voted)
    ]


@pytest.mark.parametrize("name", CASES)
def test_label_votes_where_switches_sees_a_persons_switch(both, name):
    switched, voted = both
    assert switched[name] == CASES[name][1]
    assert voted[name] == CASES[name][1]


def test_before_an_upgrade_the_turn_that_had_no_model_is_no_evidence(tmp_path):
    rows = [turn("a", n, "x", model) for n, model in enumerate(("gpt-4o", "auto", "o3"), start=1)]
    turns, out = write_turns(tmp_path / "t.parquet", rows), tmp_path / "labels.parquet"
    label_turns(turns, out, load_catalog())
    labels = {row["turn_index"]: row["evidence"] for row in pq.read_table(out).to_pylist()}
    assert labels == {1: ["-model_first"], 3: ["upgrade"]}
