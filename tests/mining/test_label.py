"""Evidence and what it adds up to."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.engine import connect, read_turns
from turnout.errors import RecordError
from turnout.logs import ingest, simulate
from turnout.mining import label_turns
from turnout.mining.evidence import CODES, SOURCES, votes
from turnout.mining.label import BELIEF, fit, probability

CATALOG = load_catalog()
DEEP, QUICK = "o3", "gpt-4o"


def evidence(tmp_path, rows):
    """(conversation, turn) → code → vote, votes of 0 left out."""
    backend = connect()
    table = read_turns(backend, write_turns(tmp_path / "t.parquet", rows))
    found = backend.to_pyarrow(votes(table, backend, CATALOG)).to_pylist()
    return {
        (row["conversation_id"], row["turn_index"]): {c: row[c] for c in CODES if row[c]}
        for row in found
    }


def test_the_model_chosen_votes_by_its_class_and_by_its_turn(tmp_path):
    rows = [turn("a", 1, "x", DEEP), turn("a", 2, "y", DEEP), turn("b", 1, "z", QUICK)]
    assert evidence(tmp_path, rows) == {
        ("a", 1): {"model_first": 1},
        ("a", 2): {"model_later": 1},
        ("b", 1): {"model_first": -1},
    }


def test_an_upgrade_speaks_for_its_turn_and_the_one_before(tmp_path):
    found = evidence(tmp_path, [turn("a", 1, "x", QUICK), turn("a", 2, "y", DEEP)])
    assert found["a", 1] == {"model_first": -1, "before_upgrade": 1}
    assert found["a", 2] == {"upgrade": 1}


def test_a_downgrade_speaks_for_fast(tmp_path):
    found = evidence(tmp_path, [turn("a", 1, "x", DEEP), turn("a", 2, "y", QUICK)])
    assert found["a", 2] == {"downgrade": -1}


def test_a_fallback_after_a_failure_is_nobodys_choice(tmp_path):
    rows = [
        turn("a", 1, "x", QUICK, response_type="failed"),
        turn("a", 2, "y", DEEP),
        turn("a", 3, "z", QUICK),
    ]
    found = evidence(tmp_path, rows)
    assert found == {("a", 1): {"model_first": -1}, ("a", 2): {}, ("a", 3): {}}


def test_nothing_is_claimed_across_a_gap_or_of_unknown_models(tmp_path):
    rows = [turn("a", 1, "x", QUICK), turn("a", 3, "y", DEEP), turn("b", 1, "z", "mystery-9")]
    found = evidence(tmp_path, rows)
    assert found["a", 3] == {"model_later": 1}
    assert found["b", 1] == {}


def test_effort_is_ranked_inside_its_model_class_and_equal_effort_votes_alike(tmp_path):
    rows = [turn(f"q{n}", 1, f"m{n}", QUICK, completion_tokens=n) for n in range(10)]
    rows += [turn(f"d{n}", 1, f"m{n}", DEEP, completion_tokens=1000 + n) for n in range(10)]
    rows += [turn(f"s{n}", 1, f"m{n}", QUICK, llm_calls=1) for n in range(5)]
    found = evidence(tmp_path, rows)
    assert [found[f"q{n}", 1].get("effort", 0) for n in (0, 9)] == [-1, 1]
    assert [found[f"d{n}", 1].get("effort", 0) for n in (0, 9)] == [-1, 1]
    assert {found[f"s{n}", 1].get("effort", 0) for n in range(5)} == {0}


def test_the_effort_of_cancelled_turns_tells_nothing(tmp_path):
    rows = [turn(f"q{n}", 1, f"m{n}", QUICK, completion_tokens=n) for n in range(10)]
    rows[9]["response_type"] = "cancelled"
    assert "effort" not in evidence(tmp_path, rows)["q9", 1]


@pytest.mark.parametrize(
    ("following", "code"),
    [
        ("please sort the list of names!", "said_again"),
        ("that's wrong, the list is reversed", "complaint"),
        ("das funktioniert nicht", "complaint"),
    ],
)
def test_what_the_user_says_next_speaks_of_a_fast_models_answer(tmp_path, following, code):
    first = "please sort the list of names"
    fast = [turn("a", 1, first, QUICK), turn("a", 2, following, QUICK)]
    assert evidence(tmp_path, fast)["a", 1][code] == 1
    deep = [turn("a", 1, first, DEEP), turn("a", 2, following, DEEP)]
    assert code not in evidence(tmp_path, deep)["a", 1]


def test_short_answers_are_not_the_same_request(tmp_path):
    rows = [turn("a", 1, "yes", QUICK), turn("a", 2, "yes", QUICK)]
    assert "said_again" not in evidence(tmp_path, rows)["a", 1]


@pytest.mark.parametrize(("feedback", "vote"), [("thumbs_down", 1), ("Positive", -1), ("meh", 0)])
def test_feedback_votes_on_a_fast_models_answer(tmp_path, feedback, vote):
    found = evidence(tmp_path, [turn("a", 1, "x", QUICK, feedback=feedback)])
    assert found["a", 1].get("feedback", 0) == vote


def test_log_odds_add_up():
    cast = np.zeros((1, len(CODES)), np.int8)
    cast[0, [CODES.index("upgrade"), CODES.index("downgrade")]] = 1, -1
    odds = 0.92 / 0.08 * (0.35 / 0.65)
    assert probability(cast, BELIEF)[0] == pytest.approx(odds / (1 + odds))


def test_known_truth_teaches_how_far_a_source_can_be_trusted():
    draw = np.random.default_rng(0)
    truth = (draw.random(4000) < 0.3).astype(np.int8)
    cast = np.zeros((4000, len(CODES)), np.int8)
    right = draw.random(4000) < 0.9
    cast[:, CODES.index("effort")] = np.where(right == (truth == 1), 1, -1)
    trust = fit(cast, truth)
    assert trust.accuracy[CODES.index("effort")] == pytest.approx(0.9, abs=0.02)
    assert trust.accuracy[CODES.index("upgrade")] == pytest.approx(0.92)
    assert trust.prior == pytest.approx(0.3, abs=0.03)


def test_a_source_that_is_mostly_wrong_is_not_turned_round():
    cast = np.zeros((500, len(CODES)), np.int8)
    cast[:, CODES.index("complaint")] = 1
    trust = fit(cast, np.zeros(500, np.int8))
    assert trust.accuracy[CODES.index("complaint")] == 0.5


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    simulate(folder / "log", n_conversations=400, seed=2)
    ingest([folder / "log" / "turns.parquet"], folder / "turns.parquet")
    return folder


def test_evidence_agrees_with_the_truth_better_than_the_model_alone(simulated):
    report = label_turns(simulated / "turns.parquet", simulated / "labels.parquet", CATALOG)
    truth = {
        (row["conversation_id"], row["turn_index"]): row["label"] == 0
        for row in pq.read_table(simulated / "log" / "truth.parquet").to_pylist()
    }
    labels = pq.read_table(simulated / "labels.parquet").to_pylist()
    assert len(labels) == report.labelled
    needs = np.array([truth[row["conversation_id"], row["turn_index"]] for row in labels])
    by_evidence = np.array([row["p_reasoning"] >= 0.5 for row in labels])
    by_model = np.array(
        [bool({"model_first", "model_later", "upgrade"} & {*row["evidence"]}) for row in labels]
    )
    assert (by_evidence == needs).mean() > (by_model == needs).mean() + 0.04


def test_a_second_run_is_up_to_date_and_tells_the_same(simulated):
    arguments = (simulated / "turns.parquet", simulated / "again.parquet", CATALOG)
    gold = simulated / "log" / "truth.parquet"
    first = label_turns(*arguments, gold=gold)
    again = label_turns(*arguments, gold=gold)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.to_json() == first.to_json()
    assert first.gold_turns > 1000


def test_build_takes_targets_weights_and_codes_from_the_labels(simulated, tmp_path):
    label_turns(simulated / "turns.parquet", simulated / "labels.parquet", CATALOG)
    report = build_from_turns(
        simulated / "turns.parquet",
        tmp_path / "data",
        architecture="conversation",
        catalog=CATALOG,
        labels=simulated / "labels.parquet",
    )
    assert report.description["source"] == "labels"
    labels = {
        (row["conversation_id"], row["turn_index"]): row
        for row in pq.read_table(simulated / "labels.parquet").to_pylist()
    }
    rows = pq.read_table(tmp_path / "data" / "train.parquet").to_pylist()
    for row in rows:
        found = labels[row["conversation_id"], row["turn_index"]]
        assert row["target"] == pytest.approx(found["p_reasoning"])
        assert row["weight"] == pytest.approx(max(0.05, found["confidence"]))
        assert (row["evidence"], row["label"]) == (
            found["evidence"],
            0 if found["p_reasoning"] >= 0.5 else 1,
        )


def test_a_log_without_any_evidence_is_refused(tmp_path):
    path = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", "mystery-9")])
    with pytest.raises(RecordError, match="no evidence on any of 1 turns"):
        label_turns(path, tmp_path / "labels.parquet", CATALOG)


def test_gold_of_another_log_is_refused(simulated, tmp_path):
    gold = pa.table({"conversation_id": ["none"], "turn_index": [1], "label": [0]})
    pq.write_table(gold, tmp_path / "gold.parquet")
    with pytest.raises(RecordError, match="knows none of the log's"):
        label_turns(
            simulated / "turns.parquet", tmp_path / "l", CATALOG, gold=tmp_path / "gold.parquet"
        )


def test_labels_that_are_none_are_refused(simulated, tmp_path):
    with pytest.raises(RecordError, match="no column p_reasoning"):
        build_from_turns(
            simulated / "turns.parquet",
            tmp_path / "data",
            architecture="session",
            catalog=CATALOG,
            labels=simulated / "log" / "truth.parquet",
        )


def test_every_source_has_a_reason_and_a_belief_above_chance():
    assert len(set(CODES)) == len(CODES)
    assert all(source.reason and 0.5 < source.accuracy < 1 for source in SOURCES)


def test_the_page_states_the_beliefs_as_they_are():
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "labels.md").read_text()
    for source in SOURCES:
        (line,) = [row for row in page.splitlines() if row.startswith(f"| `{source.code}`")]
        assert line.endswith(f"| {source.accuracy:.0%} |".replace("%", " %"))
