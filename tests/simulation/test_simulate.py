"""The simulated log is realistic, and its truth follows from composition and context."""

import random

import pyarrow.parquet as pq
import pytest

from turnout.errors import SettingsError
from turnout.manifest import tree_sha256
from turnout.schema import TRUTH, TURNS
from turnout.simulation import simulate
from turnout.simulation import vocabulary as words
from turnout.simulation.conversations import draw_conversation
from turnout.simulation.requests import Plan, draw_domain, draw_plan, phrased

CODE = words.DOMAINS[0][0]


@pytest.mark.parametrize(
    ("open_ended", "wide", "binding", "releasing", "hard"),
    [
        pytest.param(True, False, 0, 0, False, id="judgement-with-nothing-at-stake"),
        pytest.param(True, True, 0, 0, True, id="judgement-over-a-wide-scope"),
        pytest.param(True, False, 1, 0, True, id="judgement-under-a-binding-term"),
        pytest.param(True, False, 1, 1, False, id="judgement-released-of-its-term"),
        pytest.param(False, True, 1, 0, False, id="rules-under-some-pressure"),
        pytest.param(False, True, 2, 0, True, id="rules-under-much-pressure"),
        pytest.param(False, True, 2, 1, False, id="rules-released-of-a-term"),
    ],
)
def test_need_follows_from_judgement_meeting_pressure(open_ended, wide, binding, releasing, hard):
    assert Plan(CODE, open_ended, wide, binding, releasing).hard == hard


def test_no_operation_scope_or_term_occurs_on_one_side_only():
    rng = random.Random(1)
    texts = {True: "", False: ""}
    for _ in range(4000):
        hard = rng.random() < 0.5
        plan = draw_plan(rng, CODE, hard=hard)
        texts[hard] += " " + phrased(rng, plan, "the audit log").lower()
    phrases = [f.replace("{o}", "the audit log") for f, _ in CODE.mechanical + CODE.open_ended]
    phrases += CODE.properties
    for phrase in phrases:
        assert phrase.lower() in texts[True]
        assert phrase.lower() in texts[False]


def test_a_follow_up_takes_the_difficulty_of_what_is_pending():
    rng = random.Random(5)
    seen = set()
    for _ in range(300):
        pending = None
        for turn in draw_conversation(rng):
            if turn.kind == "request":
                pending = turn.difficulty
            elif turn.kind in ("follow_up", "transfer"):
                assert turn.difficulty == pending
                seen.add((turn.kind, turn.label))
    assert seen == {("follow_up", 0), ("follow_up", 1), ("transfer", 0), ("transfer", 1)}


def test_messages_rarely_repeat():
    rng = random.Random(2)
    texts = []
    for _ in range(3000):
        plan = draw_plan(rng, draw_domain(rng), hard=rng.random() < 0.5)
        texts.append(phrased(rng, plan, rng.choice(plan.domain.objects)))
    assert len(set(texts)) > 0.95 * len(texts)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        simulate(tmp_path / name, n_conversations=50, seed=seed)
    first, again, two = (tree_sha256(tmp_path / name) for name in ("one", "again", "two"))
    assert first == again != two


def test_the_log_is_as_untidy_as_real_ones(tmp_path):
    simulate(tmp_path / "log", n_conversations=1500, seed=4)
    turns = pq.read_table(tmp_path / "log" / "turns.parquet")
    truth = pq.read_table(tmp_path / "log" / "truth.parquet")
    assert turns.schema.equals(TURNS)
    assert truth.schema.equals(TRUTH)
    rows = turns.to_pylist()
    places = [(r["conversation_id"], r["turn_index"]) for r in rows]
    assert set(places) == {(r["conversation_id"], r["turn_index"]) for r in truth.to_pylist()}
    assert 0.01 < 1 - len(set(places)) / len(places) < 0.04  # sent twice
    unsuccessful = sum(r["response_type"] != "success" for r in rows) / len(rows)
    assert 0.05 < unsuccessful < 0.09
    first = {c: min(i for d, i in places if d == c) for c in {c for c, _ in places[:2000]}}
    assert any(index > 1 for index in first.values())  # partial captures
    assert max(i for _, i in places) > 30
    assert any(r["model"] == "auto" for r in rows)


def test_effort_follows_the_truth(tmp_path):
    simulate(tmp_path / "log", n_conversations=300, seed=4)
    label = {
        (r["conversation_id"], r["turn_index"]): r["label"]
        for r in pq.read_table(tmp_path / "log" / "truth.parquet").to_pylist()
    }
    spent = {0: [], 1: []}
    for r in pq.read_table(tmp_path / "log" / "turns.parquet").to_pylist():
        written = r["completion_tokens"] - r["reasoning_tokens"]
        spent[label[r["conversation_id"], r["turn_index"]]].append(written)
    assert sum(spent[0]) / len(spent[0]) > 2 * sum(spent[1]) / len(spent[1])


def test_without_noise_the_first_turn_is_served_by_what_it_needs(tmp_path):
    from turnout.simulation.telemetry import is_reasoning

    simulate(tmp_path / "log", n_conversations=300, seed=4, noise=0)
    label = {
        (r["conversation_id"], r["turn_index"]): r["label"]
        for r in pq.read_table(tmp_path / "log" / "truth.parquet").to_pylist()
    }
    for r in pq.read_table(tmp_path / "log" / "turns.parquet").to_pylist():
        if r["turn_index"] == 1 and r["model"] != "auto":
            assert is_reasoning(r["model"]) == (label[r["conversation_id"], 1] == 0)


@pytest.mark.parametrize(("conversations", "noise"), [(0, 0.1), (5, 1.5), (5, -0.1)])
def test_options_out_of_range_are_refused(tmp_path, conversations, noise):
    with pytest.raises(SettingsError, match="expected at least 1 and a share"):
        simulate(tmp_path / "log", n_conversations=conversations, noise=noise)
