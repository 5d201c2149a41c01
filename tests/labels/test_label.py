"""Evidence and what it adds up to."""

import json
from dataclasses import replace

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.engine import connect
from turnout.errors import RecordError
from turnout.labels import ExternalFiles, explain, label_turns
from turnout.labels.aggregation import (
    STATED_ACCURACIES,
    calibrated,
    check_votes,
    fitted_accuracies,
    probability,
)
from turnout.labels.evidence import CODES, SOURCES, votes
from turnout.labels.external_votes import human_labels, judged_needs, measured_outcomes
from turnout.labels.vote_patterns import count_patterns, pattern_number, voteless_number
from turnout.logs import ingest
from turnout.manifest import file_sha256
from turnout.simulation import simulate
from turnout.stats.intervals import wilson
from turnout.turns import read_turns

pytestmark = pytest.mark.slow

CATALOG = load_catalog()
DEEP, QUICK = "o3", "gpt-4o"


def evidence(tmp_path, rows):
    """(conversation, turn) → code → vote, votes of 0 left out."""
    backend = connect()
    table = read_turns(backend, write_turns(tmp_path / "t.parquet", rows))
    cast = backend.to_pyarrow(votes(table, backend, CATALOG)).to_pylist()
    return {
        (row["conversation_id"], row["turn_index"]): {c: row[c] for c in CODES if row[c]}
        for row in cast
    }


SORT = "please sort the list of names"
WINDOWS, LOGIN = "why does the build fail on windows?", "Fix the login test in auth.py"
MERGE = "write a function that merges lists"
# Name → turns as (index, model, what differs from a plain turn), and the votes on each.
CASES = {
    "the model chosen, by its class and turn": (
        [(1, DEEP, {}), (2, DEEP, {})], [{"model_first": 1}, {"model_later": 1}],
    ),
    "a fast model chosen": ([(1, QUICK, {})], [{"model_first": -1}]),
    "an upgrade speaks for its turn and the one before": (
        [(1, QUICK, {}), (2, DEEP, {})], [{"model_first": -1, "before_upgrade": 1}, {"upgrade": 1}],
    ),
    "a downgrade": ([(1, DEEP, {}), (2, QUICK, {})], [{"model_first": 1}, {"downgrade": -1}]),
    "a fallback after a failure is nobody's choice": (
        [(1, QUICK, {"response_type": "failed"}), (2, DEEP, {}), (3, QUICK, {})],
        [{"model_first": -1}, {}, {}],
    ),
    "a sub-agent's first model is nobody's choice": ([(1, DEEP, {"mode": "subagent"})], [{}]),
    "no switch across a gap": (
        [(1, QUICK, {}), (3, DEEP, {})], [{"model_first": -1}, {"model_later": 1}],
    ),
    "an unknown model": ([(1, "mystery-9", {})], [{}]),
    "a request after a gap is not repeated": (
        [(1, QUICK, {"user_message": SORT}), (3, QUICK, {"user_message": SORT})],
        [{"model_first": -1}, {"model_later": -1}],
    ),
} | {
    f"{second!r} after {first!r} on {model}": (
        [(1, model, {"user_message": first}), (2, model, {"user_message": second})],
        [{"model_first": vote, **also}, {"model_later": vote}],
    )
    for model, vote, first, second, also in (
        (QUICK, -1, SORT, f"{SORT}!", {"repeated_request": 1}),
        (QUICK, -1, SORT, "that's wrong, the list is reversed", {"complaint": 1}),
        (QUICK, -1, SORT, "das funktioniert nicht", {"complaint": 1}),
        (DEEP, 1, SORT, f"{SORT}!", {}),
        (DEEP, 1, SORT, "das funktioniert nicht", {}),
        (QUICK, -1, WINDOWS, "why is the build failing on Windows??", {"repeated_request": 1}),
        (QUICK, -1, LOGIN, "the login test in auth.py still fails, fix it",
         {"repeated_request": 1, "complaint": 1}),
        (QUICK, -1, MERGE, "write a haiku about merging functions", {}),
        (QUICK, -1, SORT, "now reverse the list, please", {}),
        (QUICK, -1, "yes", "yes", {}),
    )
} | {
    f"feedback {feedback}": ([(1, QUICK, {"feedback": feedback})], [{"model_first": -1, **also}])
    for feedback, also in (
        ("thumbs_down", {"feedback": 1}), ("Positive", {"feedback": -1}), ("meh", {}),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    rows = [
        turn(name, index, f"message {index}", model) | more
        for name, (turns, _) in CASES.items()
        for index, model, more in turns
    ]
    return evidence(tmp_path_factory.mktemp("cases"), rows)


@pytest.mark.parametrize("name", CASES)
def test_a_log_speaks_for_or_against_a_need(cases, name):
    turns, expected = CASES[name]
    assert [cases[name, index] for index, *_ in turns] == expected


def test_effort_is_ranked_inside_its_model_class_and_equal_effort_votes_alike(tmp_path):
    rows = [turn(f"q{n}", 1, f"m{n}", QUICK, completion_tokens=n) for n in range(10)]
    rows += [turn(f"d{n}", 1, f"m{n}", DEEP, completion_tokens=1000 + n) for n in range(10)]
    rows += [turn(f"s{n}", 1, f"m{n}", QUICK, llm_calls=1) for n in range(5)]
    votes_of = evidence(tmp_path, rows)
    assert [votes_of[f"q{n}", 1].get("effort", 0) for n in (0, 9)] == [-1, 1]
    assert [votes_of[f"d{n}", 1].get("effort", 0) for n in (0, 9)] == [-1, 1]
    assert {votes_of[f"s{n}", 1].get("effort", 0) for n in range(5)} == {0}


def test_the_effort_of_cancelled_turns_tells_nothing(tmp_path):
    rows = [turn(f"q{n}", 1, f"m{n}", QUICK, completion_tokens=n) for n in range(10)]
    rows[9]["response_type"] = "cancelled"
    assert "effort" not in evidence(tmp_path, rows)["q9", 1]


@pytest.mark.parametrize(
    "counts",
    [lambda n: {'a "9" b': n, "run": 1}, lambda n: {f'"{10 - n}" of 3': n}],
    ids=["several tools", "numbers in their names"],
)
def test_tool_calls_are_effort_whatever_the_tools_are_called(tmp_path, counts):
    rows = [turn(f"q{n}", 1, f"m{n}", QUICK, tool_counts=json.dumps(counts(n))) for n in range(10)]
    votes_of = evidence(tmp_path, rows)
    assert [votes_of[f"q{n}", 1].get("effort", 0) for n in (0, 5, 9)] == [-1, 0, 1]


def test_turns_without_tools_come_after_thousands_with_some(tmp_path):
    counts = [{"run": n} for n in range(3_000)] + [{}] * 3
    rows = [
        turn(f"q{n:04}", 1, f"m{n}", QUICK, tool_counts=json.dumps(count))
        for n, count in enumerate(counts)
    ]
    votes_of = evidence(tmp_path, rows)
    assert [votes_of[f"q{n}", 1].get("effort", 0) for n in (2999, 3002)] == [1, -1]


def middle_ranks(values):
    """Rank in [0, 1] of each value, equal ones in the middle; NaN for NaN."""
    known = values[~np.isnan(values)]
    below = (known[None, :] < values[:, None]).sum(axis=1)
    up_to = (known[None, :] <= values[:, None]).sum(axis=1)
    ranks = (below / max(1, len(known) - 1) + up_to / max(1, len(known))) / 2
    return np.where(np.isnan(values), np.nan, ranks)


def test_effort_is_the_mean_rank_of_what_was_counted(tmp_path):
    draw = np.random.default_rng(0)
    n, names = 200, ("completion_tokens", "llm_calls", "duration_ms")
    counts = {name: draw.integers(0, 20, n).astype(float) for name in names}
    for values in counts.values():
        values[draw.random(n) < 0.3] = np.nan
    rows = [
        turn(f"c{number}", 1, "m", QUICK)
        | {name: None if np.isnan(v[number]) else int(v[number]) for name, v in counts.items()}
        for number in range(n)
    ]
    ranks = np.stack([middle_ranks(values) for values in counts.values()])
    counted = (~np.isnan(ranks)).sum(axis=0)
    mean = np.where(counted, np.nansum(ranks, axis=0) / np.maximum(1, counted), np.nan)
    rank = middle_ranks(mean)
    votes_of = evidence(tmp_path, rows)
    voted = [votes_of[f"c{number}", 1].get("effort", 0) for number in range(n)]
    assert voted == [int(r >= 0.7) - int(r <= 0.3) for r in rank]
    assert set(voted) == {-1, 0, 1}


def written(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def said(conversation_id, turn_index, label, annotator=None):
    return {
        "conversation_id": conversation_id,
        "turn_index": turn_index,
        "label": label,
        "annotator": annotator,
    }


def test_the_majority_of_people_votes_and_a_tie_says_nothing(tmp_path):
    rows = [
        *(said("a", 1, label, who) for label, who in (("reasoning", "x"), ("0", "y"), ("1", "z"))),
        *(said("b", 1, label, who) for label, who in (("fast", "x"), ("reasoning", "y"))),
        *(said("c", 1, label, "x") for label in ("reasoning", "fast")),
        said("d", 1, "", "x"),
    ]
    external = human_labels(written(tmp_path / "human.parquet", rows))
    votes_of = {row["conversation_id"]: row["human"] for row in external.votes.to_pylist()}
    assert votes_of == {"a": 1, "b": 0, "c": -1}
    assert (external.rows, external.unused, external.annotators) == (8, 1, 3)
    assert external.annotator_agreement == pytest.approx(1 / 4)


def test_an_annotator_may_be_a_number(tmp_path):
    rows = [said("a", 1, label, who) for label, who in (("0", 0), ("0", 7), ("fast", 0))]
    external = human_labels(written(tmp_path / "human.parquet", rows))
    assert (external.annotators, external.votes["human"].to_pylist()) == (2, [0])


def test_a_judge_that_sees_both_sides_says_nothing(tmp_path):
    path = tmp_path / "judged.csv"
    path.write_text("conversation_id,turn_index,need\na,1,3\nb,1,\n")
    external = judged_needs(path)
    assert external.votes.to_pylist() == [
        {"conversation_id": "a", "turn_index": 1, "judge": 0, "judge_leaning": 0}
    ]
    assert (external.rows, external.unused) == (2, 1)


def test_ids_of_digits_stay_as_a_csv_writes_them(tmp_path):
    path = tmp_path / "human.csv"
    path.write_text("conversation_id,turn_index,label\n007,1,0\n")
    assert human_labels(path).votes.to_pylist() == [
        {"conversation_id": "007", "turn_index": 1, "human": 1}
    ]


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (human_labels, "conversation_id,turn_index,label\na,1,maybe\n", ":2: label is 'maybe'"),
        (human_labels, "conversation_id,turn_index,label\na,x,0\n", ":2: turn_index is 'x'"),
        (human_labels, "conversation_id,label\na,0\n", "no column turn_index"),
        (measured_outcomes, "prompt,reasoning_score,fast_score\nx,1.5,0\n", ":2: reasoning_score"),
        (measured_outcomes, "prompt,reasoning_score,fast_score\nx,,0\n", "reasoning_score is None"),
        (measured_outcomes, "text,reasoning_score,fast_score\nx,1,0\n", ":2: prompt is None"),
        (measured_outcomes, "messages,reasoning_score,fast_score\nx,1,0\n", ":2: messages: found"),
        (judged_needs, "conversation_id,turn_index\na,1\n", "no column need"),
        (
            judged_needs,
            "conversation_id,turn_index,need\na,1,6\n",
            ":2: need is '6'; expected a whole",
        ),
        (
            judged_needs,
            "conversation_id,turn_index,need\na,1,5\na,1,1\n",
            ":3: .*one answer a turn",
        ),
        (human_labels, 'conversation_id,turn_index,label\n"a,1,0\nb,1,0\n', ":2: not CSV"),
    ],
)
def test_a_file_of_external_votes_that_cannot_be_read_is_refused_with_its_row(
    tmp_path, reader, text, message
):
    (tmp_path / "given.csv").write_text(text)
    with pytest.raises(RecordError, match=message):
        reader(tmp_path / "given.csv")


def test_labels_of_outcomes_decide_in_place_of_the_scores(tmp_path):
    labels = {"a": (0, 0), "b": ("fast", 1), "c": (None, None), "d": (0, 1), "e": (None, 0)}
    rows = [
        {"prompt": name, "reasoning_score": 0.9, "fast_score": 0.5, "label": label}
        for name, pair in labels.items()
        for label in map(lambda each: "" if each is None else str(each), pair)
    ]
    external = measured_outcomes(written(tmp_path / "o.parquet", rows))
    assert {row["user_message"]: row["outcome"] for row in external.votes.to_pylist()} == {
        "a": 1, "b": -1, "c": 0, "d": 0, "e": 1,
    }  # fmt: skip


def test_outcomes_vote_by_the_gap_and_are_silent_where_neither_class_did_well(tmp_path):
    pairs = {"hard": (0.9, 0.2), "easy": (0.9, 0.9), "unsolved": (0.1, 0.1)}
    rows = [
        {"prompt": name, "reasoning_score": r + d, "fast_score": f}
        for name, (r, f) in pairs.items()
        for d in (-0.1, 0.1)  # averaged
    ]
    external = measured_outcomes(written(tmp_path / "o.parquet", rows))
    assert {row["user_message"]: row["outcome"] for row in external.votes.to_pylist()} == {
        "hard": 1,
        "easy": -1,
        "unsolved": 0,
    }


def asked(*messages):
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": text} for number, text in enumerate(messages)]


def test_measured_conversations_vote_on_the_turn_that_they_end_with(tmp_path):
    turns = write_turns(
        tmp_path / "t.parquet",
        [
            turn(name, index, text, QUICK)
            for name in "ab"
            for index, text in ((1, "x"), (2, "go on"))
        ],
    )
    scores = {"reasoning_score": 1.0, "fast_score": 0.0}
    rows = {
        "named": [{"conversation_id": "b", "messages": asked("x", "-", "go on")}],
        "alone": [{"messages": asked("x", "-", "go on")}, {"messages": asked("go on")}],
    }
    for name, voted in (("named", {("b", 2)}), ("alone", {("a", 2), ("b", 2)})):
        file = written(tmp_path / f"{name}.parquet", [row | scores for row in rows[name]])
        out = tmp_path / f"{name}-labels.parquet"
        label_turns(turns, out, CATALOG, external=ExternalFiles(None, file, None))
        by_outcome = {
            (row["conversation_id"], row["turn_index"])
            for row in pq.read_table(out).to_pylist()
            if "outcome" in row["evidence"]
        }
        assert by_outcome == voted


def test_people_outcomes_and_a_judge_join_the_evidence_of_their_turns(tmp_path):
    turns = write_turns(
        tmp_path / "t.parquet",
        [turn("a", 1, "x", QUICK), turn("b", 1, "y", QUICK), turn("c", 1, "z", DEEP)],
    )
    key = {"conversation_id": "a", "turn_index": 1}
    external = ExternalFiles(
        written(tmp_path / "h.parquet", [said("a", 1, "reasoning"), said("gone", 1, "fast")]),
        written(
            tmp_path / "o.parquet",
            [{"prompt": "y", "reasoning_score": 1.0, "fast_score": 0.0}],
        ),
        written(
            tmp_path / "j.parquet",
            [key | {"need": 4}, {"conversation_id": "b", "turn_index": 1, "need": None}],
        ),
    )
    out = tmp_path / "labels.parquet"
    report = label_turns(turns, out, CATALOG, external=external)
    rows = {row["conversation_id"]: row for row in pq.read_table(out).to_pylist()}
    assert rows["a"]["evidence"] == ["-model_first", "judge_leaning", "human"]
    assert rows["b"]["evidence"] == ["-model_first", "outcome"]
    assert [(file.unused, file.unmatched) for file in report.external] == [(0, 1), (0, 0), (1, 0)]
    assert report.fitted_on == "human"
    assert report.known_turns == 1


def test_where_all_models_are_of_one_class_a_judge_alone_labels(tmp_path):
    turns = write_turns(
        tmp_path / "t.parquet", [turn(name, 1, name, QUICK) for name in ("hard", "easy", "silent")]
    )
    needs = [
        {"conversation_id": n, "turn_index": 1, "need": v} for n, v in (("hard", 5), ("easy", 1))
    ]
    judged = ExternalFiles(judged=written(tmp_path / "j.parquet", needs))
    label_turns(turns, tmp_path / "judged", CATALOG, external=judged)
    rows = {row["conversation_id"]: row for row in pq.read_table(tmp_path / "judged").to_pylist()}
    assert {name: row["evidence"] for name, row in rows.items()} == {
        "hard": ["judge"], "easy": ["-judge"],
    }  # fmt: skip
    label_turns(turns, tmp_path / "alone", CATALOG)
    assert pq.read_table(tmp_path / "alone")["evidence"].to_pylist() == [["-model_first"]] * 3


def test_people_are_taken_at_their_word_where_few_turns_need_reasoning(tmp_path):
    rows = [turn(f"c{n}", 1, f"message {n}", QUICK) for n in range(400)]
    answers = [said(f"c{n}", 1, "reasoning" if n < 20 else "fast") for n in range(400)]
    external = ExternalFiles(human=written(tmp_path / "h.parquet", answers))
    turns, out = write_turns(tmp_path / "t.parquet", rows), tmp_path / "labels.parquet"
    report = label_turns(turns, out, CATALOG, external=external)
    assert report.prior < 0.2
    labels = {row["conversation_id"]: row for row in pq.read_table(out).to_pylist()}
    assert labels["c3"]["p_reasoning"] == pytest.approx(0.95, abs=1e-3)
    assert labels["c300"]["p_reasoning"] == pytest.approx(0.05, abs=1e-3)


def test_turns_of_known_truth_may_come_as_csv(tmp_path):
    turns = write_turns(tmp_path / "t.parquet", [turn("7", n, f"x{n}", QUICK) for n in (1, 2)])
    (tmp_path / "truth.csv").write_text("conversation_id,turn_index,label\n7,1,reasoning\n7,2,\n")
    report = label_turns(turns, tmp_path / "l", CATALOG, truth=tmp_path / "truth.csv")
    assert (report.fitted_on, report.known_turns) == ("truth", 1)


def test_the_steps_of_labelling_are_told_with_files_and_labels_counted(tmp_path):
    rows = [turn(f"c{n}", 1, "x", ("mystery-9", QUICK, DEEP)[n % 3]) for n in range(3000)]
    turns = write_turns(tmp_path / "t.parquet", rows)
    external = ExternalFiles(
        human=written(tmp_path / "h.parquet", [said("c0", 1, "fast")]),
        judged=written(
            tmp_path / "j.parquet", [{"conversation_id": "c1", "turn_index": 1, "need": 4}]
        ),
    )
    steps = []
    label_turns(
        turns,
        tmp_path / "l",
        CATALOG,
        external=external,
        on_progress=lambda *what: steps.append(what),
    )
    assert steps == [
        *(("1 of 4: match external votes", done, 2) for done in (0, 1, 2, 2)),
        *(("2 of 4: gather evidence", *units) for units in ((0, None), (1, 1))),
        *(("3 of 4: aggregate votes", *units) for units in ((0, None), (1, 1))),
        *(("4 of 4: write labels", done, 2001) for done in (0, 2001, 2001)),
    ]


def test_without_external_votes_no_step_matches_them(tmp_path):
    turns = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", QUICK)])
    steps = []
    label_turns(turns, tmp_path / "l", CATALOG, on_progress=lambda *what: steps.append(what[0]))
    assert list(dict.fromkeys(steps)) == [
        "1 of 3: gather evidence", "2 of 3: aggregate votes", "3 of 3: write labels",
    ]  # fmt: skip


def test_external_votes_on_another_log_are_refused(tmp_path):
    turns = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", QUICK)])
    human = written(tmp_path / "h.parquet", [said("gone", 1, "fast")])
    with pytest.raises(RecordError, match="none of its 1 rows is about a turn of the log"):
        label_turns(turns, tmp_path / "l", CATALOG, external=ExternalFiles(human=human))


def test_every_label_carries_the_weights_and_reasons_that_add_up_to_it(tmp_path):
    rows = [turn("a:1", 1, "x", QUICK), turn("a:1", 2, "y", DEEP), turn("b", 1, "z", "mystery-9")]
    turns, out = write_turns(tmp_path / "t.parquet", rows), tmp_path / "labels.parquet"
    label_turns(turns, out, CATALOG)
    for row in pq.read_table(out).to_pylist():
        assert len(row["evidence"]) == len(row["weights"]) == len(row["reasons"])
        assert row["p_reasoning"] == pytest.approx(1 / (1 + np.exp(-sum(row["weights"]))))
    first, second = explain(turns, out, "a:1")
    assert [vote.code for vote in first.votes] == ["model_first", "before_upgrade"]
    assert first.votes[0].weight < 0 < first.votes[1].weight
    assert explain(turns, out, "a:1:2") == [second]
    assert explain(turns, out, "b")[0].p_reasoning is None
    with pytest.raises(RecordError, match="no turn c:4"):
        explain(turns, out, "c:4")


def test_a_long_query_draws_no_bar_into_the_result():
    shown = connect().raw_sql("SELECT current_setting('enable_progress_bar')").fetchone()
    assert shown == (False,)


def test_log_odds_add_up():
    cast = np.zeros((1, len(CODES)), np.int8)
    cast[0, [CODES.index("upgrade"), CODES.index("downgrade")]] = 1, -1
    odds = 0.92 / 0.08 * (0.35 / 0.65)
    assert probability(cast, STATED_ACCURACIES)[0] == pytest.approx(odds / (1 + odds))


def test_known_truth_teaches_how_far_a_source_can_be_trusted():
    draw = np.random.default_rng(0)
    truth = (draw.random(4000) < 0.3).astype(np.int8)
    cast = np.zeros((4000, len(CODES)), np.int8)
    right = draw.random(4000) < 0.9
    cast[:, CODES.index("effort")] = np.where(right == (truth == 1), 1, -1)
    fitted = fitted_accuracies(check_votes(cast, truth, np.arange(4000)))
    assert fitted.accuracy[CODES.index("effort")] == pytest.approx(0.9, abs=0.02)
    assert fitted.accuracy[CODES.index("upgrade")] == pytest.approx(0.92)
    assert fitted.prior == pytest.approx(0.3, abs=0.03)


def test_people_weigh_the_other_sources_and_never_themselves():
    cast = np.zeros((400, len(CODES)), np.int8)
    cast[:, CODES.index("effort")] = 1
    truth = np.ones(400, np.int8)
    fitted = fitted_accuracies(check_votes(cast, truth, np.arange(400)))
    changed = calibrated(fitted, cast, truth, np.arange(len(CODES)) != CODES.index("human"))
    effort, human = CODES.index("effort"), CODES.index("human")
    assert changed.log_odds[effort] > fitted.log_odds[effort]
    assert changed.log_odds[human] == fitted.log_odds[human]


def test_known_turns_of_few_conversations_are_worth_less(tmp_path):
    draw = np.random.default_rng(0)
    each = draw.random(40) < 0.5  # a conversation is right or wrong as a whole
    cast = np.zeros((400, len(CODES)), np.int8)
    cast[:, 0] = np.where(np.repeat(each, 10), 1, -1)
    checked = check_votes(cast, np.ones(400, np.int8), np.repeat(np.arange(40), 10))
    assert checked.votes[0] == 400
    assert checked.independent[0] == pytest.approx(40, abs=2)


@settings(max_examples=50)
@given(
    share=strategies.floats(0, 1), votes=strategies.floats(0, 1e6), more=strategies.floats(1, 1e6)
)
def test_an_interval_holds_its_share_and_narrows_with_votes(share, votes, more):
    low, high = wilson(share, votes)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1
    narrow = wilson(share, votes + more)
    assert narrow[1] - narrow[0] <= high - low + 1e-9


@settings(max_examples=50)
@given(
    strategies.lists(
        strategies.tuples(strategies.integers(-1, 1), strategies.booleans()), min_size=1
    )
)
def test_calibration_never_turns_evidence_round_and_stays_finite(rows):
    cast = np.zeros((len(rows), len(CODES)), np.int8)
    cast[:, 0] = [vote for vote, _ in rows]
    truth = np.asarray([need for _, need in rows], np.int8)
    calibration = calibrated(STATED_ACCURACIES, cast, truth, np.ones(len(CODES), bool))
    assert np.isfinite(calibration.log_odds).all()
    assert np.isfinite(calibration.prior_log_odds)
    assert (calibration.log_odds >= 0).all()


def test_a_source_that_is_mostly_wrong_is_not_turned_round():
    cast = np.zeros((500, len(CODES)), np.int8)
    cast[:, CODES.index("complaint")] = 1
    fitted = fitted_accuracies(check_votes(cast, np.zeros(500, np.int8), np.arange(500)))
    assert fitted.accuracy[CODES.index("complaint")] == 0.5


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    simulate(folder / "log", n_conversations=400, seed=2)
    ingest([folder / "log" / "turns.parquet"], folder / "turns.parquet")
    return folder


@pytest.fixture(scope="module")
def labelled(simulated):
    """The labels of the simulated log by stated accuracies, and their report."""
    out = simulated / "labels.parquet"
    return out, label_turns(simulated / "turns.parquet", out, CATALOG)


@pytest.fixture(scope="module")
def fitted_on_truth(simulated):
    """The same by accuracies fitted on the whole truth."""
    out, truth = simulated / "truth-labels.parquet", simulated / "log" / "truth.parquet"
    return out, label_turns(simulated / "turns.parquet", out, CATALOG, truth=truth)


def test_evidence_agrees_with_the_truth_better_than_the_model_alone(simulated, labelled):
    out, report = labelled
    truth = {
        (row["conversation_id"], row["turn_index"]): row["label"] == 0
        for row in pq.read_table(simulated / "log" / "truth.parquet").to_pylist()
    }
    labels = pq.read_table(out).to_pylist()
    assert len(labels) == report.labelled
    needs = np.array([truth[row["conversation_id"], row["turn_index"]] for row in labels])
    by_evidence = np.array([row["p_reasoning"] >= 0.5 for row in labels])
    by_model = np.array(
        [bool({"model_first", "model_later", "upgrade"} & {*row["evidence"]}) for row in labels]
    )
    assert (by_evidence == needs).mean() > (by_model == needs).mean() + 0.04


def test_known_turns_make_probabilities_mean_what_they_say(simulated, labelled, tmp_path):
    truth = pq.read_table(simulated / "log" / "truth.parquet").to_pylist()
    needs = {(row["conversation_id"], row["turn_index"]): row["label"] == 0 for row in truth}
    few = pa.Table.from_pylist(np.random.default_rng(0).permutation(truth)[:300].tolist())
    pq.write_table(few, tmp_path / "truth.parquet")
    calibrated = tmp_path / "l.parquet"
    label_turns(simulated / "turns.parquet", calibrated, CATALOG, truth=tmp_path / "truth.parquet")
    errors = []
    for out in (labelled[0], calibrated):
        rows = pq.read_table(out).to_pylist()
        p = np.array([row["p_reasoning"] for row in rows])
        need = np.array([needs[row["conversation_id"], row["turn_index"]] for row in rows])
        bins = np.minimum((p * 10).astype(int), 9)
        inside = [bins == b for b in range(10)]
        errors.append(sum(abs((p - need)[rows].sum()) for rows in inside) / len(p))
    assert errors[1] < 0.6 * errors[0]


def test_a_second_run_is_up_to_date_and_reports_the_same(simulated, fitted_on_truth):
    out, first = fitted_on_truth
    truth = simulated / "log" / "truth.parquet"
    again = label_turns(simulated / "turns.parquet", out, CATALOG, truth=truth)
    assert (first.fresh, again.fresh) == (True, False)
    assert replace(again, fresh=True) == first
    assert first.known_turns > 1000


def test_every_turn_has_the_label_that_its_own_votes_add_up_to(simulated, labelled):
    turns, (out, report) = simulated / "turns.parquet", labelled
    backend = connect()
    table = votes(read_turns(backend, turns), backend, CATALOG)
    rows = backend.to_pyarrow(table.order_by("conversation_id", "turn_index")).to_pylist()
    cast = np.asarray([[row[code] for code in CODES] for row in rows], np.int8)
    spoken = (cast != 0).any(axis=1)
    labels = pq.read_table(out).to_pylist()
    keys = [(row["conversation_id"], row["turn_index"]) for row in labels]
    assert keys == [
        (row["conversation_id"], row["turn_index"])
        for row, speaks in zip(rows, spoken, strict=True)
        if speaks
    ]
    p = probability(cast[spoken], STATED_ACCURACIES)
    assert [row["p_reasoning"] for row in labels] == pytest.approx(p)
    for row, own in zip(labels, cast[spoken], strict=True):
        assert row["evidence"] == [
            code if vote > 0 else f"-{code}" for code, vote in zip(CODES, own, strict=True) if vote
        ]
    assert (report.turns, report.reasoning) == (len(rows), int((p >= 0.5).sum()))
    assert [source.turns for source in report.sources] == (cast != 0).sum(axis=0).tolist()


def test_labels_are_the_same_bytes_whatever_the_rows_order_and_the_memory(
    simulated, fitted_on_truth, tmp_path
):
    table = pq.read_table(simulated / "turns.parquet")
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(shuffled, tmp_path / "shuffled.parquet", row_group_size=300)
    truth, other = simulated / "log" / "truth.parquet", tmp_path / "other.parquet"
    label_turns(tmp_path / "shuffled.parquet", other, CATALOG, truth=truth, memory_mb=100)
    assert file_sha256(fitted_on_truth[0]) == file_sha256(other)


@settings(max_examples=10)
@given(strategies.lists(strategies.lists(strategies.integers(-1, 1), min_size=4, max_size=4)))
def test_votes_are_counted_by_pattern_and_found_again(rows):
    names = ("a", "b", "c", "d")
    schema = pa.schema([pa.field(name, pa.int8()) for name in names])
    table = ibis.memtable(
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema)
    )
    backend = connect()
    numbers = table.select(pattern=pattern_number(table, names))
    patterns = count_patterns(backend, numbers, len(names))
    cast = np.asarray(rows, np.int8).reshape(-1, len(names))
    expected, turns = np.unique(cast, axis=0, return_counts=True)
    assert (patterns.votes.tolist(), patterns.turns.tolist()) == (expected.tolist(), turns.tolist())
    assert [
        patterns.votes[position].any() for position in patterns.positions(patterns.numbers)
    ] == [number != voteless_number(len(names)) for number in patterns.numbers]


def test_build_takes_targets_weights_and_codes_from_the_labels(simulated, labelled, tmp_path):
    report = build_from_turns(
        simulated / "turns.parquet",
        tmp_path / "data",
        architecture="conversation",
        catalog=CATALOG,
        labels=labelled[0],
        size=400,  # of more rows than wanted, no weight is changed to balance them
    )
    assert report.description["source"] == "labels"
    labels = {
        (row["conversation_id"], row["turn_index"]): row
        for row in pq.read_table(labelled[0]).to_pylist()
    }
    rows = pq.read_table(tmp_path / "data" / "train.parquet").to_pylist()
    for row in rows:
        label = labels[row["conversation_id"], row["turn_index"]]
        assert row["target"] == pytest.approx(label["p_reasoning"])
        assert row["weight"] == pytest.approx(max(0.05, label["confidence"]))
        assert (row["evidence"], row["label"]) == (
            label["evidence"],
            0 if label["p_reasoning"] >= 0.5 else 1,
        )


def test_a_log_without_any_evidence_is_refused(tmp_path):
    path = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", "mystery-9")])
    with pytest.raises(RecordError, match=r"no evidence on any of 1 turns.*turnout judge"):
        label_turns(path, tmp_path / "labels.parquet", CATALOG)


def test_truth_of_another_log_is_refused(tmp_path):
    turns = write_turns(tmp_path / "t.parquet", [turn("a", 1, "x", QUICK)])
    truth = pa.table({"conversation_id": ["none"], "turn_index": [1], "label": [0]})
    pq.write_table(truth, tmp_path / "truth.parquet")
    with pytest.raises(RecordError, match="none of its rows is about the log's"):
        label_turns(turns, tmp_path / "l", CATALOG, truth=tmp_path / "truth.parquet")


def test_labels_that_are_none_are_refused(simulated, tmp_path):
    with pytest.raises(RecordError, match="no column p_reasoning"):
        build_from_turns(
            simulated / "turns.parquet",
            tmp_path / "data",
            architecture="session",
            catalog=CATALOG,
            labels=simulated / "log" / "truth.parquet",
        )


def test_every_source_has_a_reason_and_an_accuracy_above_chance():
    assert len(set(CODES)) == len(CODES)
    assert all(source.reason and 0.5 < source.accuracy < 1 for source in SOURCES)


def test_the_page_gives_the_stated_accuracies():
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "labels.md").read_text()
    for source in SOURCES:
        (line,) = [row for row in page.splitlines() if row.startswith(f"| `{source.code}`")]
        assert line.endswith(f"| {source.accuracy:.0%} |".replace("%", " %"))
