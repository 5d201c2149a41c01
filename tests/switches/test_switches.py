"""Switches, told apart."""

import datetime as dt
import json

import pyarrow.parquet as pq
import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.simulation import simulate
from turnout.switches import report_switches

CATALOG = load_catalog()
OPUS, SONNET, GPT, O3 = "claude-opus-4-5", "claude-sonnet-4-5", "gpt-4o", "o3"


def report(tmp_path, conversations):
    rows = [
        turn(name, index, f"message {index}", model)
        for name, models in conversations.items()
        for index, model in enumerate(models, start=1)
    ]
    return report_switches(write_turns(tmp_path / "turns.parquet", rows), CATALOG)


KIND_CASES = {
    "upgrade": ([SONNET, OPUS], "upgrade", False),
    "downgrade": ([OPUS, SONNET], "downgrade", False),
    "lateral": ([OPUS, "claude-opus-4-1"], "lateral", False),
    "lateral to another provider": ([OPUS, O3], "lateral", True),
    "upgrade to another provider": ([GPT, OPUS], "upgrade", True),
    "a class is unknown": ([GPT, "claude-fable-5"], "unknown", False),
    "over turns without a model": ([SONNET, None, "auto", OPUS], "upgrade", False),
}


def test_each_kind_is_told_by_class_and_both_facts_are_kept(tmp_path):
    rows = [
        turn(name, index, f"message {index}", model)
        for name, (models, _, _) in KIND_CASES.items()
        for index, model in enumerate(models, start=1)
    ]
    report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG, out=tmp_path / "out")
    written = pq.read_table(tmp_path / "out" / "switches.parquet").to_pylist()
    found = {row["conversation_id"]: (row["kind"], row["provider_switch"]) for row in written}
    assert found == {name: (kind, other) for name, (_, kind, other) in KIND_CASES.items()}


def test_two_spellings_of_one_model_are_no_switch(tmp_path):
    found = report(tmp_path, {"a": ["claude-opus-4-5-20251101", "anthropic/claude-opus-4.5"]})
    assert found.switch_count == 0
    assert found.by_models == {"1": 1, "2": 0, "3+": 0}


def test_a_switch_never_crosses_conversations(tmp_path):
    assert report(tmp_path, {"a": [SONNET], "b": [OPUS]}).switch_count == 0


def test_conversations_are_counted_by_models_used(tmp_path):
    found = report(
        tmp_path,
        {"a": [OPUS], "b": [OPUS, SONNET], "c": [OPUS, SONNET, GPT, O3], "d": ["auto"]},
    )
    assert found.by_models == {"1": 1, "2": 1, "3+": 1}
    assert found.conversations == 3
    assert found.turns_without_model == 1


def test_unknown_models_are_named_with_their_turns(tmp_path):
    found = report(tmp_path, {"a": ["claude-fable-5", "claude-fable-5", "glm-9"], "b": [GPT]})
    assert found.unknown_models == {"claude-fable-5": 2, "glm-9": 1}
    assert found.turns_by_class == {"reasoning": 0, "fast": 1, "unknown": 3}


def test_reasoning_tokens_make_a_hybrid_model_a_reasoning_one(tmp_path):
    rows = [
        turn("a", 1, "x", SONNET, reasoning_tokens=0),
        turn("a", 2, "y", SONNET, reasoning_tokens=500),
    ]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert found.turns_by_class == {"reasoning": 1, "fast": 1, "unknown": 0}
    assert found.switch_count == 0  # the same model, thinking harder


def test_a_pair_has_its_rate_among_the_turns_on_the_first_model(tmp_path):
    found = report(tmp_path, {"a": [SONNET, SONNET, OPUS], "b": [SONNET, SONNET]})
    assert [(p.from_model, p.to_model, p.count, p.rate) for p in found.pairs] == [
        (SONNET, OPUS, 1, 0.25)
    ]


def test_switches_are_placed_by_the_turn_that_follows(tmp_path):
    found = report(tmp_path, {"a": [SONNET, OPUS], "b": [SONNET] * 6 + [OPUS]})
    upgrades = {rate.name: (rate.turns, rate.upgrades.count) for rate in found.by_turn}
    assert upgrades == {
        "2": (2, 1), "3": (1, 0), "4": (1, 0), "5": (1, 0), "6–10": (2, 1), "11–20": (0, 0),
        "21+": (0, 0),
    }  # fmt: skip
    assert (found.rate.turns, found.rate.switches.count) == (7, 2)


def test_switches_are_placed_in_time_in_utc(tmp_path):
    late = dt.datetime(2026, 5, 3, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    rows = [
        turn("a", 1, "x", SONNET),
        turn("a", 2, "y", OPUS, timestamp=late),
        turn("a", 3, "z", OPUS, timestamp=None),
    ]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert found.date_unit == "day"
    assert [(rate.name, rate.turns) for rate in found.by_date] == [("2026-05-04", 1)]
    assert [rate.name for rate in found.by_hour if rate.turns] == ["01"]
    assert [rate.name for rate in found.by_weekday if rate.switches.count] == ["Monday"]


def test_a_log_without_times_has_no_rates_by_time(tmp_path):
    rows = [turn("a", at, "x", model, timestamp=None) for at, model in ((1, SONNET), (2, OPUS))]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert (found.date_unit, found.by_date, found.by_hour) == (None, [], [])
    assert found.rate.switches.count == 1


def test_what_a_product_made_is_counted_apart(tmp_path):
    rows = [
        turn("a", 1, "x", O3),
        turn("a", 2, "y", O3, response_type="failed"),
        turn("a", 3, "z", GPT),
        turn("a", 4, "w", O3),
        turn("b", 1, "x", O3),
        turn("b", 2, "yy", GPT),
    ]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert {k.kind: (k.count, k.fallbacks) for k in found.switches if k.count} == {
        "upgrade": (1, 1),
        "downgrade": (2, 1),
    }
    assert {f.kind: f.count for f in found.fallbacks if f.count} == {"retry": 2}
    assert found.by_models == {"1": 0, "2": 2, "3+": 0}
    assert found.by_models_chosen == {"1": 1, "2": 1, "3+": 0}
    assert (found.rate.switches.count, found.rate.fallbacks.count) == (1, 2)
    # Only the person's switch is described: one turn before it, none after.
    downgrade = found.medians[1]
    assert (downgrade.turns_before, downgrade.turns_after) == (1, 0)
    assert (downgrade.chars_before, downgrade.chars_at, downgrade.chars_after) == (1, 2, None)


def test_a_log_without_models_is_refused(tmp_path):
    path = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", "auto")])
    with pytest.raises(RecordError, match="none of 1 turns names a model"):
        report_switches(path, CATALOG)


def test_a_table_that_was_not_ingested_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "raw.parquet")
    with pytest.raises(RecordError, match="Ingest the log first"):
        report_switches(tmp_path / "raw.parquet", CATALOG)


def test_the_simulator_has_the_real_fleets_distribution(tmp_path):
    simulate(tmp_path / "log", n_conversations=1000, seed=3)
    ingest([tmp_path / "log" / "turns.parquet"], tmp_path / "turns.parquet")
    found = report_switches(tmp_path / "turns.parquet", CATALOG, out=tmp_path / "out")
    shares = {name: round(n / found.conversations, 3) for name, n in found.by_models.items()}
    assert shares == {"1": 0.958, "2": 0.038, "3+": 0.004}
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["by_models"] == found.by_models


def test_real_logs_give_a_report(shared_data, tmp_path):
    ingest([shared_data / "dev_chat_logs" / "turns.parquet"], tmp_path / "turns.parquet")
    found = report_switches(tmp_path / "turns.parquet", CATALOG)
    assert found.turns == 4856
    assert sum(found.turns_by_class.values()) + found.turns_without_model == found.turns
    assert found.by_models["1"] / found.conversations > 0.9


STEPS = ("find switches", "count models and switches", "rate by turn and time")


@pytest.mark.parametrize(
    ("asked", "more"),
    [({}, ()), ({"n_examples": 1}, ("quote examples",)), ({"out": "made"}, ("write",))],
    ids=["counts alone", "examples", "a folder"],
)
def test_the_steps_that_were_asked_for_are_told_with_their_numbers(tmp_path, asked, more):
    rows = [turn("a", index, "x", model) for index, model in enumerate((SONNET, OPUS), start=1)]
    source = write_turns(tmp_path / "t.parquet", rows)
    asked = {name: tmp_path / x if name == "out" else x for name, x in asked.items()}
    told = []
    report_switches(source, CATALOG, **asked, on_progress=lambda *what: told.append(what))
    names = [*STEPS, *more]
    steps = [f"{at} of {len(names)}: {name}" for at, name in enumerate(names, start=1)]
    assert told == [what for step in steps for what in ((step, 0, None), (step, 1, 1))]
