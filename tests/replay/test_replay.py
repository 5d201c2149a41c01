"""`turnout replay`: what each policy would have cost, and what it rests on."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.browser import opened
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.catalog import Price, load_catalog
from turnout.cli import turnout
from turnout.dataset import build_from_turns
from turnout.errors import ArtifactError, RecordError, SettingsError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.replay.evidence import Evidence, training_data
from turnout.replay.page import caution
from turnout.replay.scored import OtherScorer
from turnout.replay.stage import replay
from turnout.routing import Priors, RouterFolder
from turnout.routing.folder import set_threshold
from turnout.routing.policies import Target
from turnout.schema import DECISIONS, LABELS, TRUTH

pytestmark = pytest.mark.slow  # many seconds in all

CATALOG = load_catalog()
TARGETS = {
    "reasoning": Target("claude-opus-4-5", Price(5.0, 25.0, 0.5, 6.25)),
    "fast": Target("claude-haiku-4-5", Price(1.0, 5.0, 0.1, 1.25)),
}
FLAGS = ("--reasoning-model", "claude-opus-4-5", "--fast-model", "claude-haiku-4-5")


def log(path, conversations=40, **more):
    """Conversations of three turns: every second one turns hard at its second turn."""
    rows = []
    for number in range(conversations):
        texts = ["hello", "prove and derive it" if number % 2 else "thanks", "thanks"]
        later = "claude-opus-4-5" if number % 2 else "claude-haiku-4-5"
        for index, text in enumerate(texts, 1):
            model = "claude-haiku-4-5" if index == 1 else later
            tokens = {
                "prompt_tokens": 1000 * index + number,
                "completion_tokens": 900 if "opus" in model else 300,
                "assistant_message": "done",
            }
            rows.append(turn(f"c{number:03}", index, text, model, **(tokens | more)))
    return write_turns(path, rows)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, routers):
    folder = tmp_path_factory.mktemp("replayed")
    turns = log(folder / "turns.parquet")
    return replay(routers, turns, folder / "report", catalog=CATALOG, targets=TARGETS), folder


def rows_of(report):
    return {row.name: row for row in report.comparison.served}


def test_both_architectures_are_judged_on_the_same_turns(replayed):
    report, folder = replayed
    assert (report.turns, report.conversations, report.left_out) == (120, 40, 0)
    scores = {
        name: pq.read_table(folder / f"report.{name}-scores.parquet")["p_reasoning"]
        for name in ("session", "conversation")
    }
    assert (scores["session"].null_count, scores["conversation"].null_count) == (80, 0)


def test_each_policy_does_what_it_is_named_for(replayed):
    rows = rows_of(replayed[0])
    assert rows["always reasoning"].measured.share_reasoning.value == 1.0
    assert rows["always fast"].measured.missed.value == 1.0
    assert rows["session"].measured.switches.value == 0.0
    assert rows["session"].measured.share_reasoning.value == 0.0
    # Twenty of forty conversations go up at their second turn; the third is read with it.
    assert rows["conversation"].measured.share_reasoning.value == pytest.approx(40 / 120)
    assert rows["conversation"].measured.switches.value == pytest.approx(0.5)
    assert rows["conversation"].measured.warm_switches.value == pytest.approx(0.5)


def test_costs_are_those_of_the_tokens_and_their_parts_add_up(replayed):
    row = rows_of(replayed[0])["always fast"].measured
    assert row.usd.value == pytest.approx(sum(row.parts_usd.values()))
    numbers = np.arange(40)
    fresh = (3000 + numbers).mean()  # each turn reads the prompt of the one before from the cache
    read = (1000 + numbers).mean() + (2000 + numbers).mean()
    answers = 3 * 300  # forty answers are Opus's: Haiku's are 300 tokens long
    usd = (fresh * 1.25 + read * 0.1 + answers * 5) / 1e6
    assert row.usd.value == pytest.approx(1000 * usd / 3)


def test_what_the_log_paid_is_compared_on_the_same_turns(replayed):
    today = rows_of(replayed[0])["always fast"].against_today
    assert today.low > 0  # the log had dear turns


def test_scores_agree_with_what_served_the_log(replayed):
    assert rows_of(replayed[0])["conversation"].measured.agreement.value == 1.0


def test_policies_are_compared_at_equal_misses(replayed):
    report, _ = replayed
    rows_at = {level.missed: level.rows for level in report.comparison.at_missed}
    assert set(rows_at) == {0.05, 0.10, 0.20}
    for level, rows in rows_at.items():
        assert {row.name for row in rows} == {"session", "boundary", "conversation", "priced"}
        assert all(row.measured.missed.value <= level for row in rows)
    assert report.comparison.recommendation.verdict == "route"


def test_the_folder_holds_page_numbers_and_table(replayed):
    _, folder = replayed
    content = json.loads((folder / "report" / "replay.json").read_text())
    assert content["comparison"]["served"][0]["name"] == "always reasoning"
    with (folder / "report" / "policies.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert {row["table"] for row in table} == {
        "as served", "0.05 missed", "0.1 missed", "0.2 missed",
    }  # fmt: skip


def test_a_reader_of_the_page_learns_that_misses_are_no_truth(replayed):
    _, folder = replayed
    page = " ".join((folder / "report" / "replay.html").read_text().split())
    assert "as good as its calibration; give --labels to see" in page
    assert "That is not the true share of misses. On simulated logs" in page
    assert caution("weighed evidence").startswith("Neither number is the true share")
    assert "the true ones, which stand beside" in caution("simulated truth")


def test_every_turn_has_a_decision_under_every_policy_and_their_costs_add_up(replayed):
    report, folder = replayed
    table = pq.read_table(folder / "report.decisions.parquet")
    assert table.schema.names == DECISIONS.names
    allowed = next(level for level in report.comparison.at_missed if level.missed == 0.10)
    for row in allowed.rows:
        own = table.filter(pc.equal(table["policy"], row.name)).to_pylist()
        assert [(r["conversation_id"], r["turn_index"]) for r in own] == [
            (f"c{allowed:03}", index) for allowed in range(40) for index in (1, 2, 3)
        ]
        assert {r["threshold"] for r in own} == {row.threshold}
        assert sum(r["usd"] for r in own) * 1000 / 120 == pytest.approx(row.measured.usd.value)
        on = [r["model_class"] == "reasoning" for r in own]
        assert np.mean(on) == pytest.approx(row.measured.share_reasoning.value)


def test_a_decision_says_what_it_read_and_why(replayed, routers, tmp_path):
    turns = replayed[1] / "turns.parquet"
    replay(routers, turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS, max_miss=0.7)
    table = pq.read_table(tmp_path / "r.decisions.parquet").to_pylist()
    # Turns 1 to 3 of a conversation that turns hard at its second turn.
    of = {(r["policy"], r["turn_index"]): r for r in table if r["conversation_id"] == "c001"}
    assert [of["session", index]["code"] for index in (1, 2, 3)] == ["scored", "pinned", "pinned"]
    assert of["session", 2]["p_reasoning"] is None
    upgraded = of["conversation", 2]
    assert (upgraded["model"], upgraded["switched"]) == ("claude-opus-4-5", True)
    assert upgraded["switch_usd"] > upgraded["stay_usd"] > 0
    assert upgraded["usd"] == upgraded["switch_usd"]
    assert of["priced", 2]["miss_usd"] > 0
    assert upgraded["miss_usd"] is None


def test_today_is_what_the_log_chose_and_paid(replayed):
    today = replayed[0].comparison.today
    assert today.share_reasoning.value == pytest.approx(40 / 120)
    assert today.priced_turns == 120
    assert today.under is None  # evidence follows from what was chosen
    # Nothing cached is counted: each model reads what its own last prompt left, as policies do.
    paid, haiku, opus = 0.0, TARGETS["fast"], TARGETS["reasoning"]
    for number in range(40):
        prompts = [1000 + number, 2000 + number, 3000 + number]
        dear = number % 2
        served = [(haiku, 300), *[(opus, 900) if dear else (haiku, 300)] * 2]
        cached = [0, 0 if dear else prompts[0], prompts[1]]
        for (target, answer), prompt, held in zip(served, prompts, cached, strict=True):
            paid += replace(target, output_tokens=answer).turn_usd(prompt, held)
    assert today.usd.value == pytest.approx(1000 * paid / 120)


def test_a_log_that_served_one_model_costs_what_always_serving_it_would(routers, tmp_path):
    rows = pq.read_table(log(tmp_path / "log.parquet", 6)).to_pylist()
    of_opus = [row | {"model": "claude-opus-4-5", "completion_tokens": 900} for row in rows]
    turns = write_turns(tmp_path / "turns.parquet", of_opus)
    report = replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    always = rows_of(report)["always reasoning"]
    assert always.against_today.value == pytest.approx(0.0, abs=1e-4)
    assert report.comparison.today.usd.value == pytest.approx(always.measured.usd.value)


def test_cached_tokens_that_the_log_counts_are_billed_as_counted(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 6, cached_tokens=0)
    report = replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    opus, haiku = CATALOG.price("claude-opus-4-5"), CATALOG.price("claude-haiku-4-5")
    paid = sum(
        price.cost_usd(prompt_tokens=1000 * index + number, completion_tokens=answer)
        for number in range(6)
        for index in (1, 2, 3)
        for price, answer in [(opus, 900) if number % 2 and index > 1 else (haiku, 300)]
    )
    assert report.comparison.today.usd.value == pytest.approx(1000 * paid / 18)


@pytest.fixture(scope="module")
def by_area(tmp_path_factory, routers):
    """Eighty conversations: forty of one area, thirty of another, the rest of many, one of none."""
    folder = tmp_path_factory.mktemp("areas")
    rows = pq.read_table(log(folder / "all.parquet", 80)).to_pylist()
    for row in rows:
        number = int(row["conversation_id"][1:])
        area = "billing" if number < 40 else "search" if number < 70 else f"area {number}"
        row["segments"] = None if number == 79 else json.dumps({"area": area, "plan": None})
    turns = write_turns(folder / "turns.parquet", rows)
    report = replay(routers, turns, folder / "report", catalog=CATALOG, targets=TARGETS, by="area")
    return report, folder


def test_costs_are_split_by_a_carried_column_and_add_up(by_area):
    by = by_area[0].comparison.by_segment
    assert [(s.name, s.conversations) for s in by.segments] == [
        ("billing", 40), ("search", 30), ("10 with fewer than 30 conversations each", 10),
    ]  # fmt: skip
    assert by.grouped == {f"area {number}": 1 for number in range(70, 79)} | {"not given": 1}
    whole = rows_of(by_area[0])["always reasoning"].measured.usd.value
    parts = sum(s.turns * s.fixed[0].measured.usd.value for s in by.segments)
    assert parts / 240 == pytest.approx(whole)
    assert all({number.missed for number in s.at_missed} == {0.05, 0.10, 0.20} for s in by.segments)


def test_segments_stand_on_the_page_and_in_the_table(by_area):
    folder = by_area[1] / "report"
    assert "<b>billing</b>: 40 conversations, 120 turns" in (folder / "replay.html").read_text()
    with (folder / "policies.csv").open() as stream:
        assert {row["segment"] for row in csv.DictReader(stream)} >= {"", "billing", "search"}


def test_a_column_that_no_turn_carries_is_refused_with_those_it_has(by_area, routers):
    turns = by_area[1] / "turns.parquet"
    with pytest.raises(RecordError, match="carries the column team; carried: area, plan"):
        replay(routers, turns, by_area[1] / "r", catalog=CATALOG, targets=TARGETS, by="team")


def write_truth(path, conversations):
    """The second and third turn of every second conversation need reasoning."""
    rows = [
        {
            "conversation_id": f"c{number:03}", "turn_index": index,
            "label": 0 if number % 2 and index > 1 else 1, "difficulty": 0.5, "kind": "request",
        }
        for number in range(conversations)
        for index in (1, 2, 3)
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, TRUTH), path)
    return path


@pytest.fixture(scope="module")
def against_truth(tmp_path_factory, routers):
    folder = tmp_path_factory.mktemp("truth")
    evidence = Evidence(truth=write_truth(folder / "truth.parquet", 80))

    def greets(inputs):
        return np.array(["hello" in each.message for each in inputs])

    backwards = OtherScorer("backwards", routers[0], lambda: greets)
    return replay(
        routers, log(folder / "turns.parquet", 80), folder / "r", catalog=CATALOG,
        targets=TARGETS, evidence=evidence, others=[backwards],
    )  # fmt: skip


def test_scorers_are_ranked_on_the_same_turns_the_session_router_pinned(against_truth):
    ranking = against_truth.comparison.ranking
    assert (ranking.turns, ranking.reasoning, ranking.conversations) == (240, 80, 80)
    rows = {row.name: row for row in ranking.rows}
    assert list(rows) == ["conversation", "session, pinned", "backwards", "length"]
    assert rows["conversation"].auroc.value == 1.0
    # Every conversation begins with the same message.
    assert rows["session, pinned"].auroc.value == 0.5
    assert rows["backwards"].auroc.value < 0.5
    assert rows["backwards"].ahead.value == 1.0 - rows["backwards"].auroc.value


def test_others_are_set_beside_at_the_misses_that_conversation_has_by_evidence(against_truth):
    level = next(a for a in against_truth.comparison.at_missed if a.missed == 0.20)
    conversation = next(row for row in level.rows if row.name == "conversation")
    assert [row.name for row in level.beside] == ["backwards", "length"]
    for row in level.beside:
        assert row.matched_on == "evidence"
        assert row.measured.under.value <= conversation.measured.under.value
        assert row.measured.usd.value > conversation.measured.usd.value
    assert against_truth.comparison.today.under.value == 0.0


def test_evidence_counts_only_in_conversations_that_no_router_was_trained_on(routers, tmp_path):
    for name, splits in (("a", ([0, 1], [2], [3, 4])), ("b", ([3], [5], [4, 6]))):
        (tmp_path / name).mkdir()
        for split, numbers in zip(("train", "validation", "test"), splits, strict=True):
            ids = pa.table({"conversation_id": [f"c{n:03}" for n in numbers]})
            write_parquet(ids, tmp_path / name / f"{split}.parquet")
    evidence = Evidence(
        truth=write_truth(tmp_path / "truth.parquet", 10),
        datasets=[tmp_path / "a", tmp_path / "b"],
    )
    report = replay(
        routers, log(tmp_path / "turns.parquet", 10), tmp_path / "r", catalog=CATALOG,
        targets=TARGETS, evidence=evidence,
    )  # fmt: skip
    # Conversations 4 and 6, of three turns each; 3 is test in one data set and training in another.
    assert (report.evident_turns, report.held_out) == (6, True)
    assert report.comparison.ranking is None


def test_the_page_opens_in_a_browser_without_a_complaint(replayed, tmp_path):
    _, folder = replayed
    complaints, asked, document = opened(folder / "report" / "replay.html", tmp_path)
    assert (complaints, [url for url in asked if not url.startswith("file:")]) == ([], [])
    assert "What each policy would have cost" in document


def test_another_threshold_or_price_scores_nothing_again(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 4)
    router = write_router(tmp_path / "router", "conversation")
    first = replay([router], turns, tmp_path / "report", catalog=CATALOG, targets=TARGETS)
    set_threshold(router, 0.9, "test")
    scores = tmp_path / "report.conversation-scores.parquet"
    before = scores.stat().st_mtime_ns
    second = replay([router], turns, tmp_path / "report", catalog=CATALOG, targets=TARGETS)
    assert scores.stat().st_mtime_ns == before
    assert second.fresh
    assert rows_of(first)["conversation"].threshold != rows_of(second)["conversation"].threshold


def test_a_second_run_is_up_to_date(replayed, routers):
    _, folder = replayed
    again = replay(
        routers, folder / "turns.parquet", folder / "report", catalog=CATALOG, targets=TARGETS
    )
    assert not again.fresh


def test_a_session_router_alone_is_judged_at_first_turns(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 6)
    report = replay(routers[:1], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert [row.name for row in report.comparison.served if row.kind == "policy"] == ["session"]


def test_missing_token_counts_are_estimated_and_marked(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 6, prompt_tokens=None, completion_tokens=None)
    report = replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert (report.estimated, report.assumed) == (1.0, 0.0)
    table = pq.read_table(tmp_path / "r.conversation-scores.parquet").to_pylist()
    # The tokenizer: "hello", then its answer "done" and "thanks".
    assert [row["prompt_tokens"] for row in table[:2]] == [1, 3]


def test_models_without_a_price_are_counted_and_never_free(routers, tmp_path):
    rows = pq.read_table(log(tmp_path / "all.parquet", 6)).to_pylist()
    for row in rows:
        row["model"] = "acme-deep" if row["conversation_id"] == "c000" else row["model"]
    turns = write_turns(tmp_path / "turns.parquet", rows)
    report = replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert report.unpriced == {"acme-deep": 3}


def test_conversations_without_their_first_turn_are_left_out_and_counted(routers, tmp_path):
    rows = pq.read_table(log(tmp_path / "all.parquet", 6)).to_pylist()
    turns = write_turns(tmp_path / "turns.parquet", rows[1:])
    report = replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert (report.conversations, report.left_out) == (5, 1)
    only_later = write_turns(tmp_path / "later.parquet", rows[1:3])
    with pytest.raises(
        RecordError, match=r"later.parquet: of 1 conversations 0 begin with their first turn"
    ):
        replay(routers[1:], only_later, tmp_path / "r2", catalog=CATALOG, targets=TARGETS)


def test_a_turn_of_several_rows_is_refused(routers, tmp_path):
    rows = [turn("a", 1, "hello", "o3"), turn("a", 1, "hello again", "o3")]
    turns = write_turns(tmp_path / "turns.parquet", rows)
    with pytest.raises(RecordError, match="1 rows repeat the conversation and index"):
        replay(routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)


def test_strong_evidence_stands_beside_expected_misses(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 6)
    labels = [
        {
            "conversation_id": f"c{number:03}", "turn_index": 2, "p_reasoning": p,
            "confidence": confidence, "evidence": [],
        }
        for number, p, confidence in ((0, 0.95, 0.9), (1, 0.95, 0.9), (3, 0.05, 0.9), (5, 0.9, 0.3))
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(labels, LABELS), tmp_path / "labels.parquet")
    report = replay(
        routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS,
        evidence=Evidence(tmp_path / "labels.parquet"),
    )  # fmt: skip
    row = rows_of(report)["conversation"].measured
    assert (report.evidence, report.evident_turns) == ("strong evidence", 3)
    # c000 is never hard to the router and needs reasoning; c003 is, and does not.
    assert (row.under.value, row.over.value) == (0.5, 1.0)


def test_no_miss_among_few_conversations_is_no_proof_of_none(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet")
    labels = labels_of_second_turns(tmp_path / "labels.parquet", 16)
    report = replay(
        routers[1:], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS,
        evidence=Evidence(labels),
    )  # fmt: skip
    rows = {name: row.measured for name, row in rows_of(report).items()}
    # Eight conversations of which none was missed: 1 − 0.025^(1/8).
    assert rows["conversation"].under.value == 0.0
    assert rows["conversation"].under.high == pytest.approx(0.369, abs=1e-3)
    assert (rows["conversation"].over.low, rows["conversation"].over.high) == (
        0.0,
        pytest.approx(0.369, abs=1e-3),
    )
    assert (rows["always reasoning"].under.high, rows["always fast"].under.low) == (0.0, 1.0)


def without_two_alike(path):
    """The log with a number in every message."""
    rows = pq.read_table(log(path)).to_pylist()
    texts = [f"{row['user_message']} {number}" for number, row in enumerate(rows)]
    return write_turns(
        path, [row | {"user_message": text} for row, text in zip(rows, texts, strict=True)]
    )


def trained(folder, turns):
    """A router, and beside it the data set that its manifest names."""
    data, router = folder / "data", write_router(folder / "router", "conversation")
    build_from_turns(turns, data, architecture="conversation", catalog=CATALOG, size=60)
    made_from = Manifest.of("train", {"dataset": data}, {}).to_json({})
    (router / "manifest.json").write_text(json.dumps(made_from))
    return router, data


def labels_of_second_turns(path, conversations):
    rows = [
        {
            "conversation_id": f"c{number:03}", "turn_index": 2, "p_reasoning": float(number % 2),
            "confidence": 0.9, "evidence": [],
        }
        for number in range(conversations)
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, LABELS), path)
    return path


def test_evidence_in_conversations_that_trained_the_router_is_left_out_and_counted(tmp_path):
    turns = without_two_alike(tmp_path / "turns.parquet")
    router, data = trained(tmp_path, turns)
    labels = labels_of_second_turns(tmp_path / "labels.parquet", 40)
    seen = {
        name
        for split in ("train", "validation")
        for name in pq.read_table(data / f"{split}.parquet")["conversation_id"].to_pylist()
    }
    given = ["replay", str(router), str(turns), "--labels", str(labels), *FLAGS]
    shown = CliRunner().invoke(turnout, [*given, "-o", str(tmp_path / "r")])
    assert f"Evidence of {len(seen)} turns is left out" in shown.output
    report = json.loads((tmp_path / "r" / "replay.json").read_text())
    assert (report["evident_turns"], report["evidence_left_out"]) == (40 - len(seen), len(seen))
    assert 0 < len(seen) < 40
    # Without the data set nobody knows which they are, and the page says so.
    data.rename(tmp_path / "elsewhere")
    shown = CliRunner().invoke(turnout, [*given, "-o", str(tmp_path / "r")])
    assert "Evidence may be of conversations that trained a router" in shown.output
    assert "its data set was not found" in (tmp_path / "r" / "replay.html").read_text()
    assert json.loads((tmp_path / "r" / "replay.json").read_text())["evident_turns"] == 40


def test_a_data_set_that_moved_together_with_its_router_is_found(tmp_path):
    (tmp_path / "before").mkdir()
    trained(tmp_path / "before", without_two_alike(tmp_path / "turns.parquet"))
    (tmp_path / "before").rename(tmp_path / "after")
    assert training_data(tmp_path / "after" / "router") == tmp_path / "after" / "data"
    (tmp_path / "after" / "data" / "README.md").write_text("changed")
    assert training_data(tmp_path / "after" / "router") is None


def test_two_routers_of_one_architecture_are_refused(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 2)
    with pytest.raises(SettingsError, match="a second session router"):
        replay(routers[:1] * 2, turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)


def test_scores_are_for_the_log_where_the_router_knows_its_share(tmp_path):
    turns = log(tmp_path / "turns.parquet", 2)
    router = write_router(tmp_path / "router", "conversation", priors=Priors(0.5, 0.1))
    report = replay([router], turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert report.population == "log"
    scores = pq.read_table(tmp_path / "r.conversation-scores.parquet")["p_reasoning"].to_pylist()
    assert scores[0] == pytest.approx(np.exp(-2) / 9 / (1 + np.exp(-2) / 9), rel=1e-5)


def test_the_command_recommends_and_names_the_next_one(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 6)
    given = [*map(str, routers), str(turns), "-o", str(tmp_path / "r"), *FLAGS]
    shown = CliRunner().invoke(turnout, ["replay", *given])
    assert shown.exit_code == 0, shown.output
    assert "at most 10% expected misses" in shown.output
    assert "turnout serve" in shown.output
    assert "That is not the true share of misses" in " ".join(shown.output.split())
    assert "router.toml; put them under [router]" in " ".join(shown.output.split())
    as_json = CliRunner().invoke(turnout, ["replay", *given, "--json"])
    assert json.loads(as_json.stdout)["turns"] == 18


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), "--reasoning-model: not given"),
        (("--reasoning-model", "acme-deep"), "no price is known for acme-deep"),
        ((*FLAGS, "--max-miss", "1.5"), "--max-miss: found 1.5"),
    ],
)
def test_bad_options_are_refused_with_what_to_do(routers, tmp_path, more, expected):
    turns = log(tmp_path / "turns.parquet", 2)
    given = [str(routers[1]), str(turns), "-o", str(tmp_path / "r"), *more]
    shown = CliRunner().invoke(turnout, ["replay", *given])
    assert isinstance(shown.exception, SettingsError)
    assert expected in str(shown.exception)


def test_of_a_long_log_equal_misses_are_those_of_a_sample_and_decisions_those_of_every_turn(
    routers, tmp_path, monkeypatch
):
    monkeypatch.setattr("turnout.replay.compare.SAMPLE_TURNS", 30)
    turns = log(tmp_path / "turns.parquet", 40)
    report = replay(routers, turns, tmp_path / "r", catalog=CATALOG, targets=TARGETS)
    assert (report.turns, report.comparison.sampled_turns) == (120, 30)
    decided = pq.read_table(tmp_path / "r.decisions.parquet")
    assert decided.num_rows == 120 * 4
    page = (tmp_path / "r" / "replay.html").read_text()
    assert "At most 10 % expected misses, on 30 turns" in page


def test_a_price_of_a_miss_decides_in_the_thresholds_place_and_is_not_handed_over(
    routers, tmp_path
):
    turns = log(tmp_path / "turns.parquet", 40)
    settings = tmp_path / "own.toml"
    settings.write_text("[router]\nmiss_usd = 0.000001\n")
    given = [*map(str, routers), str(turns), "-o", str(tmp_path / "r"), *FLAGS]
    shown = CliRunner().invoke(
        turnout, ["replay", *given, "-c", str(settings), "--max-miss", "0.5"]
    )
    assert shown.exit_code == 0, shown.output
    table = pq.read_table(tmp_path / "r.decisions.parquet").to_pylist()
    priced = [row for row in table if row["policy"] == "priced"]
    assert [row["miss_usd"] for row in priced] == pytest.approx([1e-6] * 120)
    assert {row["model_class"] for row in priced} == {"fast"}, "a miss costs next to nothing"
    own = RouterFolder.read(routers[1]).spec.threshold
    assert {row["threshold"] for row in priced} == {own}
    assert "miss_usd =" not in (tmp_path / "r" / "router.toml").read_text()


def test_reasoning_tokens_are_a_part_of_the_bill_and_of_no_other(routers, tmp_path):
    plain = log(tmp_path / "plain.parquet", 40)
    rows = pq.read_table(plain).to_pylist()
    thought = [row | {"reasoning_tokens": 200 if "opus" in row["model"] else None} for row in rows]
    thinking = write_turns(tmp_path / "thinking.parquet", thought)
    parts = [
        rows_of(replay(routers, turns, tmp_path / turns.stem, catalog=CATALOG, targets=TARGETS))[
            "always reasoning"
        ].measured.parts_usd
        for turns in (plain, thinking)
    ]
    assert parts[0]["reasoning"] == 0
    # Of 900 tokens of an answer 200 are of reasoning; a million cost 25 USD.
    assert parts[1]["reasoning"] == pytest.approx(1000 * 200 * 25e-6)
    assert sum(parts[0].values()) == pytest.approx(sum(parts[1].values()))


def test_where_fast_is_the_dearer_model_the_verdict_is_not_to_route(routers, tmp_path):
    turns = log(tmp_path / "turns.parquet", 40)
    swapped = {"reasoning": TARGETS["fast"], "fast": TARGETS["reasoning"]}
    report = replay(routers, turns, tmp_path / "r", catalog=CATALOG, targets=swapped, max_miss=0.5)
    assert report.comparison.recommendation.verdict == "do not route"
    assert "<b>Do not route.</b>" in (tmp_path / "r" / "replay.html").read_text()


def test_a_data_set_that_cannot_be_read_is_named(routers, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.parquet").write_text("no Parquet")
    evidence = Evidence(
        truth=write_truth(tmp_path / "truth.parquet", 4), datasets=[tmp_path / "data"]
    )
    with pytest.raises(ArtifactError, match=r"data/test\.parquet: not readable as a split"):
        replay(
            routers, log(tmp_path / "t.parquet", 4), tmp_path / "r", catalog=CATALOG,
            targets=TARGETS, evidence=evidence,
        )  # fmt: skip
