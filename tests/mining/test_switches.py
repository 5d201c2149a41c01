"""Switches, told apart."""

import json

import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.errors import RecordError
from turnout.logs import ingest, simulate
from turnout.mining import report_switches

CATALOG = load_catalog()
OPUS, SONNET, GPT, O3 = "claude-opus-4-5", "claude-sonnet-4-5", "gpt-4o", "o3"


def report(tmp_path, conversations):
    rows = [
        turn(name, index, f"message {index}", model)
        for name, models in conversations.items()
        for index, model in enumerate(models, start=1)
    ]
    return report_switches(write_turns(tmp_path / "turns.parquet", rows), CATALOG)


@pytest.mark.parametrize(
    ("models", "kind", "provider_switches"),
    [
        pytest.param([SONNET, OPUS], "upgrade", 0, id="upgrade"),
        pytest.param([OPUS, SONNET], "downgrade", 0, id="downgrade"),
        pytest.param([OPUS, O3], "lateral", 1, id="lateral-to-another-provider"),
        pytest.param([GPT, OPUS], "upgrade", 1, id="upgrade-to-another-provider"),
        pytest.param([GPT, "claude-fable-5"], "unknown", 0, id="a-class-is-unknown"),
        pytest.param([SONNET, None, "auto", OPUS], "upgrade", 0, id="over-turns-without-a-model"),
    ],
)
def test_each_kind_is_told_by_class_and_provider(tmp_path, models, kind, provider_switches):
    found = report(tmp_path, {"a": models})
    counts = {k.kind: (k.count, k.provider_switches) for k in found.switches if k.count}
    assert counts == {kind: (1, provider_switches)}


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
    upgrades = {name: counts["upgrade"] for name, counts in found.by_turn.items()}
    assert upgrades == {"2": 1, "3–5": 0, "6–10": 1, "11–20": 0, "21+": 0}


def test_examples_are_short(tmp_path):
    rows = [turn("a", 1, "x", SONNET), turn("a", 2, "long " * 100, OPUS)]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    assert len(found.switches[0].examples[0].user_message) <= 80


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


def switched(tmp_path, *turns):
    rows = [
        turn("a", at, f"m{at}", model, response_type=ended)
        for at, (model, ended) in enumerate(turns, start=1)
    ]
    found = report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG)
    return {kind.kind: (kind.count, kind.fallbacks) for kind in found.switches if kind.count}


def test_a_model_that_stands_in_for_a_failed_one_and_the_way_back_are_fallbacks(tmp_path):
    found = switched(
        tmp_path, ("o3", "success"), ("o3", "failed"), ("gpt-4o", "success"), ("o3", "success")
    )
    assert found == {"downgrade": (1, 1), "upgrade": (1, 1)}


def test_a_switch_after_a_success_or_a_cancelled_turn_is_a_persons(tmp_path):
    found = switched(tmp_path, ("gpt-4o", "cancelled"), ("o3", "success"), ("gpt-4o", None))
    assert found == {"upgrade": (1, 0), "downgrade": (1, 0)}


def test_who_does_not_return_after_a_fallback_chose_to_stay(tmp_path):
    found = switched(
        tmp_path, ("o3", "failed"), ("gpt-4o", None), ("gpt-4o", None), ("o3", "success")
    )
    assert found == {"downgrade": (1, 1), "upgrade": (1, 0)}
