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

pytestmark = pytest.mark.slow

CATALOG = load_catalog()
OPUS, SONNET, GPT, O3 = "claude-opus-4-5", "claude-sonnet-4-5", "gpt-4o", "o3"


def report(tmp_path, conversations):
    rows = [
        turn(name, index, f"message {index}", model)
        for name, models in conversations.items()
        for index, model in enumerate(models, start=1)
    ]
    return report_switches(write_turns(tmp_path / "turns.parquet", rows), CATALOG)


# Conversation → its models in order, and the kind of each switch, with "!" to another provider.
CASES = {
    "upgrade": ([SONNET, OPUS], ["upgrade"]),
    "downgrade": ([OPUS, SONNET], ["downgrade"]),
    "lateral": ([OPUS, "claude-opus-4-1"], ["lateral"]),
    "lateral to another provider": ([OPUS, O3], ["lateral!"]),
    "upgrade to another provider": ([GPT, OPUS], ["upgrade!"]),
    "a class is unknown": ([GPT, "claude-nimbus-5"], ["unknown"]),
    "over turns without a model": ([SONNET, None, "auto", OPUS], ["upgrade"]),
    "four models": ([OPUS, SONNET, GPT, O3], ["downgrade", "lateral!", "upgrade"]),
    "two spellings of one model": (["claude-opus-4-5-20251101", "anthropic/claude-opus-4.5"], []),
    "two spellings of an unknown model": (["acme-9", "acme-ai/ACME 9"], []),
    "one turn": ([OPUS], []),
    "no model": (["auto"], []),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The report on all cases, and its switches by conversation."""
    folder = tmp_path_factory.mktemp("cases")
    rows = [
        turn(name, index, f"message {index}", model)
        for name, (models, _) in CASES.items()
        for index, model in enumerate(models, start=1)
    ]
    rows += [turn("thinks harder", n, "x", SONNET, reasoning_tokens=500 * n) for n in (0, 1)]
    turns = write_turns(folder / "t.parquet", rows)
    report = report_switches(turns, CATALOG, out=folder / "out")
    switches = {}
    for row in pq.read_table(folder / "out" / "switches.parquet").to_pylist():
        kind = row["kind"] + "!" * row["provider_switch"]
        switches.setdefault(row["conversation_id"], []).append(kind)
    return report, switches


def test_each_kind_is_seen_by_class_and_another_provider_beside_it(cases):
    assert cases[1] == {name: kinds for name, (_, kinds) in CASES.items() if kinds}


def test_conversations_are_counted_by_models_used(cases):
    assert cases[0].by_models == {"1": 4, "2": 7, "3+": 1}
    assert cases[0].conversations == 12
    assert cases[0].turns_without_model == 3


def test_unknown_models_are_named_with_their_turns(cases):
    assert cases[0].unknown_models == {"acme-9": 2, "claude-nimbus-5": 1}


def test_a_turn_has_the_class_of_what_was_used_there(cases):
    assert cases[0].turns_by_class == {"reasoning": 14, "fast": 8, "unknown": 3}


def test_a_pair_has_its_rate_among_the_turns_on_the_first_model(cases):
    (pair,) = [pair for pair in cases[0].pairs if pair.to_model == "claude-opus-4-1"]
    assert (pair.from_model, pair.count, pair.rate) == (OPUS, 1, 0.1)


def test_switches_are_placed_by_the_turn_that_follows(tmp_path):
    measured = report(tmp_path, {"a": [SONNET, OPUS], "b": [SONNET] * 6 + [OPUS]})
    upgrades = {rate.name: (rate.turns, rate.upgrades.count) for rate in measured.by_turn}
    assert upgrades == {
        "2": (2, 1), "3": (1, 0), "4": (1, 0), "5": (1, 0), "6–10": (2, 1), "11–20": (0, 0),
        "21+": (0, 0),
    }  # fmt: skip
    assert (measured.rate.turns, measured.rate.switches.count) == (7, 2)


def test_switches_are_placed_in_time_in_utc(tmp_path):
    late = dt.datetime(2026, 5, 3, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    rows = [
        turn("a", 1, "x", SONNET),
        turn("a", 2, "y", OPUS, timestamp=late),
        turn("a", 3, "z", OPUS, timestamp=None),
    ]
    measured = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert measured.date_unit == "day"
    assert [(rate.name, rate.turns) for rate in measured.by_date] == [("2026-05-04", 1)]
    assert [rate.name for rate in measured.by_hour if rate.turns] == ["01"]
    assert [rate.name for rate in measured.by_weekday if rate.switches.count] == ["Monday"]


def test_a_log_without_times_has_no_rates_by_time(tmp_path):
    rows = [
        turn("a", index, "x", model, timestamp=None) for index, model in ((1, SONNET), (2, OPUS))
    ]
    measured = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert (measured.date_unit, measured.by_date, measured.by_hour) == (None, [], [])
    assert measured.rate.switches.count == 1


def test_what_a_product_made_is_counted_apart(tmp_path):
    rows = [
        turn("a", 1, "x", O3),
        turn("a", 2, "y", O3, response_type="failed"),
        turn("a", 3, "z", GPT),
        turn("a", 4, "w", O3),
        turn("b", 1, "x", O3),
        turn("b", 2, "yy", GPT),
    ]
    measured = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert {k.kind: (k.count, k.fallbacks) for k in measured.switches if k.count} == {
        "upgrade": (1, 1),
        "downgrade": (2, 1),
    }
    assert {f.kind: f.count for f in measured.fallbacks if f.count} == {"retry": 2}
    assert measured.by_models == {"1": 0, "2": 2, "3+": 0}
    assert measured.by_models_chosen == {"1": 1, "2": 1, "3+": 0}
    assert (measured.rate.switches.count, measured.rate.fallbacks.count) == (1, 2)
    # Only the person's switch is described: one turn before it, none after.
    downgrade = measured.medians[1]
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
    measured = report_switches(tmp_path / "turns.parquet", CATALOG, out=tmp_path / "out")
    shares = {name: round(n / measured.conversations, 3) for name, n in measured.by_models.items()}
    assert shares == {"1": 0.958, "2": 0.038, "3+": 0.004}
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["by_models"] == measured.by_models


def test_real_logs_give_a_report(shared_data, tmp_path):
    ingest([shared_data / "dev_chat_logs" / "turns.parquet"], tmp_path / "turns.parquet")
    measured = report_switches(tmp_path / "turns.parquet", CATALOG)
    assert measured.turns == 4846
    assert sum(measured.turns_by_class.values()) + measured.turns_without_model == measured.turns
    assert measured.by_models["1"] / measured.conversations > 0.9


STEPS = ("find switches", "count models and switches", "rate by turn and time")


@pytest.mark.parametrize(
    ("asked", "more"),
    [({}, ()), ({"n_examples": 1, "out": "made"}, ("quote examples", "write"))],
    ids=["counts alone", "examples and a folder"],
)
def test_the_steps_that_were_asked_for_are_told_with_their_numbers(tmp_path, asked, more):
    rows = [turn("a", index, "x", model) for index, model in enumerate((SONNET, OPUS), start=1)]
    source = write_turns(tmp_path / "t.parquet", rows)
    asked = {name: tmp_path / x if name == "out" else x for name, x in asked.items()}
    calls = []
    report_switches(source, CATALOG, **asked, on_progress=lambda *what: calls.append(what))
    names = [*STEPS, *more]
    steps = [f"{number} of {len(names)}: {name}" for number, name in enumerate(names, start=1)]
    assert calls == [what for step in steps for what in ((step, 0, None), (step, 1, 1))]
