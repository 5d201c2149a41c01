"""`turnout drift`: unchanged traffic is left alone, changed traffic is named for what it is."""

import csv
import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.browser import opened
from tests.cli.command import run
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.errors import ArtifactError, RecordError
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.parquet import write_parquet
from turnout.progress import silent
from turnout.records import ModelInput, Turn
from turnout.replay.drift import drift, is_journal_without_text, is_turns_table
from turnout.replay.drift.compare import compare
from turnout.routing import Priors, RouterFolder
from turnout.routing.encoding import read_tokenizer
from turnout.routing.folder import DESCRIPTION_NAME, TOKENIZER_NAME, write_description
from turnout.routing.message_facts import message_facts, script_of
from turnout.routing.reference import REFERENCE_NAME, read_reference
from turnout.routing.served import Served
from turnout.routing.traffic_rows import TrafficRows
from turnout.samples import Samples, Traffic
from turnout.simulation import simulate
from turnout.training import Recipe, train
from turnout.training.reference import write_traffic_reference

pytestmark = pytest.mark.slow

CATALOG = load_catalog()
EASY = ("hello", "thanks", "rename", "spell")
HARD = ("prove", "derive", "refactor", "deadlock")
OTHERS = ("now", "please", "this", "file", "and", "then", "it")


def messages(draw, need=0.3, words=6.0):
    """One message: a hard or an easy word among others."""
    word = draw.choice(HARD if draw.random() < need else EASY)
    return " ".join([word, *draw.choice(OTHERS, draw.poisson(words) + 1)])


def conversations(seed, n=250, need=0.3, words=6.0, change=None):
    """Rows of the turns table, one to four turns a conversation."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        for index in range(1, draw.integers(1, 5) + 1):
            text = messages(draw, need, words)
            text = change(text, draw) if change else text
            rows.append(turn(f"s{seed}-{number:04}", index, text, "gpt-4o"))
    return rows


def of_rows(rows, formatter):
    """The rows that a router decides on, as its reference takes them."""
    counts, inputs, names = {}, [], []
    for row in rows:
        counts[row["conversation_id"]] = row["turn_index"]
    seen = []
    for row in rows:
        seen = [] if row["turn_index"] == 1 else seen
        seen.append(Turn(row["user_message"]))
        if formatter.architecture == "conversation" or row["turn_index"] == 1:
            inputs.append(formatter.format(seen, row["turn_index"]))
            names.append(row["conversation_id"])
    turn_counts = np.array([counts[name] for name in names], float)
    return Traffic(inputs, names, turn_counts, np.ones(len(names)), "traffic")


def train_rows(seed=9, n=300):
    draw = np.random.default_rng(seed)
    return Samples(
        inputs=[ModelInput(messages(draw)) for _ in range(n)],
        conversation_ids=[f"t{number}" for number in range(n)],
        turn_indices=np.ones(n, np.int32),
        groups=[None] * n,
        labels=np.zeros(n, np.int8),
        targets=np.zeros(n, np.float32),
        weights=np.ones(n, np.float32),
        cv_groups=[None] * n,
    )


def with_reference(folder, architecture="session", rows=None):
    """A tiny router that knows its traffic."""
    write_router(folder, architecture, priors=Priors(0.5, 0.3))
    spec = RouterFolder.read(folder).spec
    traffic = of_rows(rows or conversations(1, 400), spec.formatter)
    write_traffic_reference(folder, spec, "int8", traffic, train_rows(), silent)
    write_description(folder, spec)
    return folder


def facts_of(router, rows, reference):
    """Rows of the turns table as they are compared."""
    folder = RouterFolder.read(router)
    traffic = of_rows(rows, folder.spec.formatter)
    scores = folder.scorer(population="log", threads=1).score(traffic.inputs)
    _, codes = np.unique(traffic.conversation_ids, return_inverse=True)
    texts = [row.message for row in traffic.inputs]
    facts = message_facts(texts, read_tokenizer(router / TOKENIZER_NAME), reference.words)
    return TrafficRows(
        codes, traffic.turn_counts, scores.astype(float), facts, np.ones(len(texts)), 0.3
    )


@pytest.fixture(scope="module")
def routers(tmp_path_factory):
    root = tmp_path_factory.mktemp("drift")
    return {name: with_reference(root / name, name) for name in ("session", "conversation")}


def compared(router, tmp_path, rows, name="new"):
    turns = write_turns(tmp_path / f"{name}.parquet", rows)
    return drift(router, turns, tmp_path / name, catalog=CATALOG)


def verdict(router, rows):
    """The comparison alone, without a page."""
    reference = read_reference(router)
    threshold = RouterFolder.read(router).spec.threshold_for("log")
    return compare(reference, facts_of(router, rows, reference), threshold)


def moved(comparison):
    return {q.name for q in comparison.quantities if q.moved}


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_unchanged_traffic_is_left_alone(routers, tmp_path, architecture):
    report = compared(routers[architecture], tmp_path, conversations(2))
    assert report.architecture == architecture
    assert report.comparison.verdict == "leave"
    assert report.conversations == 250
    assert report.rows == 250 or architecture == "conversation"


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_longer_messages_ask_for_training(routers, architecture):
    judged = verdict(routers[architecture], conversations(3, words=11.0))
    assert judged.verdict == "retrain"
    assert "length" in moved(judged)
    assert any("Message length" in reason for reason in judged.because)


def test_another_script_is_named(routers):
    rows = conversations(4, change=lambda text, draw: "привет мир" if draw.random() < 0.4 else text)
    judged = verdict(routers["session"], rows)
    assert judged.verdict == "retrain"
    # Without a second script in the reference there is no bin to compare but the others'.
    (script,) = [q for q in judged.quantities if q.name == "script"]
    assert script.bins == ("LATIN", "other")
    assert script.seen[1] == pytest.approx(0.4, abs=0.1)


def test_another_share_of_reasoning_asks_for_another_threshold_alone(routers):
    judged = verdict(routers["conversation"], conversations(5, 400, need=0.6))
    assert judged.verdict == "recalibrate"
    assert judged.share_now.low > judged.share_before.high
    assert "decision" in moved(judged)
    assert not [q.name for q in judged.quantities if q.needs_training]


def test_other_scores_of_the_same_messages_are_not_called_another_share(routers):
    reference = read_reference(routers["session"])
    rows = facts_of(routers["session"], conversations(2, 400), reference)
    # A quarter of either kind scored in the middle: no other share, but less sure.
    for kind in (rows.scores > 0.5, rows.scores < 0.2):
        rows.scores[np.flatnonzero(kind)[::4]] = 0.35
    comparison = compare(reference, rows, 0.3)
    assert comparison.verdict == "recalibrate"
    assert moved(comparison) <= {"score", "decision"}
    assert "the router scores them differently" in comparison.because[-1]


def test_few_messages_of_the_same_kind_are_no_alarm_and_what_is_not_seen_is_said(routers):
    judged = verdict(routers["session"], conversations(6, 32))
    assert judged.verdict == "leave"
    assert any("few conversations" in reason for reason in judged.because)


def test_a_small_difference_is_no_alarm_however_sure_it_is(routers):
    reference = read_reference(routers["session"])
    rows = facts_of(routers["session"], conversations(1, 400), reference)
    rows.facts.chars[:20] = 1.0  # one message in twenty
    judged = compare(as_if_of_millions(reference), many_times(rows, 50), 0.3)
    length = judged.quantities[0]
    assert length.p_value < 1e-6
    assert 0.03 < length.distance.value < 0.06
    assert judged.verdict == "leave"


def as_if_of_millions(reference):
    """The same shares, known without error."""
    known = {}
    for name, quantity in reference.quantities.items():
        counted = quantity.histogram
        sure = replace(counted, covariance=counted.covariance * 1e-9, clusters=10**7)
        known[name] = replace(quantity, histogram=sure)
    return replace(reference, quantities=known)


def many_times(rows, times):
    """Every conversation so often."""
    n = int(rows.conversations.max()) + 1
    facts = rows.facts
    return replace(
        rows,
        conversations=np.concatenate([rows.conversations + number * n for number in range(times)]),
        turn_counts=np.tile(rows.turn_counts, times),
        scores=np.tile(rows.scores, times),
        weights=np.tile(rows.weights, times),
        facts=replace(
            facts,
            chars=np.tile(facts.chars, times),
            piece_chars=np.tile(facts.piece_chars, times),
            surprise=np.tile(facts.surprise, times),
            kind=np.tile(facts.kind, times),
            script=facts.script * times,
        ),
    )


def test_tables_and_page_have_the_numbers_of_the_report(routers, tmp_path):
    report = compared(routers["session"], tmp_path, conversations(8))
    out = tmp_path / "new"
    with (out / "drift.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["quantity"] for row in rows] == [q.name for q in report.comparison.quantities]
    assert float(rows[0]["distance"]) == report.comparison.quantities[0].distance.value
    stored = json.loads((out / "drift.json").read_text())
    assert stored["comparison"]["verdict"] == "leave"
    page = (out / "drift.html").read_text()
    assert "Leave the router as it is." in page
    assert page.count("<svg") == len(rows)
    assert "<script" not in page


def test_a_rerun_reads_the_report_that_is_there(routers, tmp_path):
    first = compared(routers["session"], tmp_path, conversations(8))
    again = drift(routers["session"], tmp_path / "new.parquet", tmp_path / "new", catalog=CATALOG)
    assert first.fresh
    assert not again.fresh
    assert again.comparison == first.comparison


def test_a_long_log_is_sampled_and_said_so(routers, tmp_path, monkeypatch):
    monkeypatch.setattr("turnout.replay.drift.new_traffic.MOST_CONVERSATIONS", 100)
    report = compared(routers["conversation"], tmp_path, conversations(9))
    assert (report.conversations, report.sampled_from) == (100, 250)
    assert report.comparison.verdict == "leave"


def test_repeated_turns_of_a_long_log_are_named_with_the_log_and_not_with_its_sample(
    routers, tmp_path, monkeypatch
):
    monkeypatch.setattr("turnout.replay.drift.new_traffic.MOST_CONVERSATIONS", 100)
    rows = conversations(9)
    with pytest.raises(RecordError, match=r"/new\.parquet: 1 rows repeat"):
        compared(routers["conversation"], tmp_path, [*rows, rows[0]])


def test_a_router_without_a_reference_says_what_to_do(tmp_path):
    router = write_router(tmp_path / "router")
    turns = write_turns(tmp_path / "t.parquet", conversations(1, 40))
    with pytest.raises(ArtifactError, match=r"has no reference\.json.*train the router again"):
        drift(router, turns, tmp_path / "out", catalog=CATALOG)


def test_a_reference_that_was_changed_is_refused(tmp_path):
    router = with_reference(tmp_path / "router")
    path = router / REFERENCE_NAME
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    turns = write_turns(tmp_path / "t.parquet", conversations(1, 40))
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        drift(router, turns, tmp_path / "out", catalog=CATALOG)
    write_description(router, RouterFolder.read(write_router(tmp_path / "other")).spec)
    with pytest.raises(ArtifactError, match="reference version 2; expected 1"):
        drift(router, turns, tmp_path / "out", catalog=CATALOG)
    path.write_text('{"version": 1}')
    write_description(router, RouterFolder.read(tmp_path / "other").spec)
    with pytest.raises(ArtifactError, match="not in the form of a router's reference"):
        drift(router, turns, tmp_path / "out", catalog=CATALOG)


def test_too_little_traffic_is_refused_with_a_number(routers, tmp_path):
    with pytest.raises(RecordError, match=r"20 conversations .*at least 30"):
        compared(routers["session"], tmp_path, conversations(1, 20), "few")
    with pytest.raises(RecordError, match="no turn"):
        compared(routers["session"], tmp_path, [], "empty")
    later = [row for row in conversations(1, 60) if row["turn_index"] > 1]
    with pytest.raises(RecordError, match="none of which the router decides on"):
        compared(routers["session"], tmp_path, later, "later")
    small = with_reference(tmp_path / "router", rows=conversations(1, 20))
    with pytest.raises(RecordError, match="reference holds 20 conversations"):
        compared(small, tmp_path, conversations(1, 60), "small")


def journal(path, served_by, n=200, need=0.3, **more):
    """A gateway's journal without texts: what the router scored."""
    draw = np.random.default_rng(11)
    folder = RouterFolder.read(served_by)
    scorer = folder.scorer(population="log")
    path.mkdir()
    with (path / "journal-2026-05-04.jsonl").open("w") as stream:
        for number in range(n):
            seen = []
            for index in range(1, draw.integers(1, 5) + 1):
                seen.append(Turn(messages(draw, need)))
                score = scorer.score_one(folder.spec.formatter.format(seen))
                record = {
                    "request_id": f"r{number}-{index}",
                    "timestamp": dt.datetime(2026, 5, 4, tzinfo=dt.UTC),
                    "protocol": "chat",
                    "kind": "turn",
                    "conversation_id": f"j{number}",
                    "turn_index": index,
                    "requested_model": "turnout",
                    "model": "gpt-4o",
                    "model_class": "fast",
                    "target": "fast",
                    "chosen_by": "router",
                    "outcome": "success",
                    "p_reasoning": score,
                    "population": "log",
                    "threshold": 0.5,
                    "router": folder.digest,
                } | more
                stream.write(json.dumps(Served(**record).as_json()) + "\n")
    return path


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_a_journal_without_texts_is_compared_by_its_scores(routers, tmp_path, architecture):
    path = journal(tmp_path / "journal", routers[architecture])
    assert is_journal_without_text(path)
    report = drift(routers[architecture], path, tmp_path / "out", catalog=CATALOG)
    assert report.comparison.verdict == "leave"
    assert {q.name for q in report.comparison.quantities} == {"turns", "score", "decision"}
    assert len(report.comparison.untested) == 5
    assert any("keeps no text" in reason for reason in report.comparison.because)
    assert bool(report.left_out) == (architecture == "session")
    assert "Not tested: message length" in (tmp_path / "out" / "drift.html").read_text()


def test_a_journal_of_more_hard_messages_asks_for_another_threshold(routers, tmp_path):
    path = journal(tmp_path / "journal", routers["conversation"], n=400, need=0.6)
    report = drift(routers["conversation"], path, tmp_path / "out", catalog=CATALOG)
    assert report.comparison.verdict == "recalibrate"


def test_a_journal_of_another_router_is_refused(routers, tmp_path):
    path = journal(tmp_path / "journal", routers["session"], router="0" * 64)
    with pytest.raises(RecordError, match="no request with a score of the router"):
        drift(routers["session"], path, tmp_path / "out", catalog=CATALOG)


def test_a_journal_that_cannot_be_read_is_refused_with_the_place(routers, tmp_path):
    path = journal(tmp_path / "journal", routers["session"], n=2)
    (file,) = path.iterdir()
    lines = file.read_text()
    file.write_text(lines.replace('"served_version": 2', '"served_version": 9'))
    with pytest.raises(RecordError, match=r"journal: served_version: found 9; expected 2"):
        drift(routers["session"], path, tmp_path / "out", catalog=CATALOG)
    file.write_text(lines + "{cut")
    assert not is_journal_without_text(path)
    shown = run("drift", routers["session"], "absent.jsonl", "-o", "out", cwd=tmp_path, ok=False)
    assert shown.returncode == 3
    assert "absent.jsonl" in shown.stderr


def test_a_journal_with_texts_or_another_log_is_none_without_text(routers, tmp_path):
    path = journal(tmp_path / "journal", routers["session"], n=2, user_message="hello")
    assert not is_journal_without_text(path)
    log = tmp_path / "log.jsonl"
    log.write_text('{"conversation_id": "a"}\n')
    assert not is_journal_without_text(log)
    assert not is_turns_table(log)
    assert is_turns_table(write_turns(tmp_path / "t.parquet", conversations(1, 2)))


def test_the_command_says_what_to_do_and_fails_only_when_asked(routers, tmp_path):
    router = routers["conversation"]
    write_turns(tmp_path / "same.parquet", conversations(12))
    shown = run("drift", router, "same.parquet", "-o", "same", "--fail-on-drift", cwd=tmp_path)
    assert "Has the traffic changed? No" in shown.stdout
    assert "turnout serve" in shown.stderr
    write_turns(tmp_path / "longer.parquet", conversations(13, words=12.0))
    arguments = ("drift", router, "longer.parquet", "-o", "longer")
    shown = run(*arguments, cwd=tmp_path)
    assert "Train the router again" in shown.stdout
    assert "Next: turnout learn longer.parquet" in shown.stderr
    again = run(*arguments, "--fail-on-drift", "--json", cwd=tmp_path, ok=False)
    assert again.returncode == 10
    assert json.loads(again.stdout)["comparison"]["verdict"] == "retrain"
    assert "up to date" in again.stderr


def test_the_threshold_that_is_named_can_be_set_with_the_command_that_is_printed(tmp_path):
    router = with_reference(tmp_path / "router", "conversation")
    write_turns(tmp_path / "hard.parquet", conversations(14, 400, need=0.6))
    shown = run("drift", router, "hard.parquet", "-o", "out", cwd=tmp_path)
    assert "Recalibrate" in shown.stdout
    (printed,) = [line for line in shown.stderr.splitlines() if line.startswith("Next: ")]
    before = (router / DESCRIPTION_NAME).read_text()
    run(*printed.removeprefix("Next: turnout ").split(), cwd=tmp_path)
    assert (router / DESCRIPTION_NAME).read_text() != before
    # More messages need reasoning, so a lower score is as likely.
    stored = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert stored["same_threshold"] < stored["threshold"]


def test_a_raw_log_is_ingested_first(routers, tmp_path):
    names = ("conversation_id", "turn_index", "user_message", "model")
    rows = [{name: row[name] for name in names} for row in conversations(15)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = run("drift", routers["session"], "log.jsonl", "-o", "out", cwd=tmp_path)
    assert "leave the router as it is" in shown.stdout
    assert (tmp_path / "out.turns.parquet").exists()


def test_a_later_log_of_the_same_kind_is_left_alone_and_another_language_is_not(tmp_path):
    turns, later = tmp_path / "turns.parquet", tmp_path / "later.parquet"
    for seed, path in enumerate((turns, later), 3):
        log = tmp_path / f"log-{seed}"
        simulate(log, n_conversations=500, seed=seed)
        ingest([log / "turns.parquet"], path)
    labels = tmp_path / "labels.parquet"
    label_turns(turns, labels, CATALOG)
    build_from_turns(
        turns, tmp_path / "data", architecture="session", catalog=CATALOG, labels=labels
    )
    router = train(tmp_path / "data", tmp_path / "r", recipe=Recipe(model="words")).router
    assert read_reference(router).source == "traffic"
    assert drift(router, later, tmp_path / "same", catalog=CATALOG).comparison.verdict == "leave"
    table = pq.read_table(later)
    column = table.schema.get_field_index("user_message")
    other = pa.array([f"bitte erkläre mir die Rechnung Nummer {n}" for n in range(len(table))])
    write_parquet(table.set_column(column, "user_message", other), tmp_path / "german.parquet")
    report = drift(router, tmp_path / "german.parquet", tmp_path / "german", catalog=CATALOG)
    assert report.comparison.verdict == "retrain"
    assert {"surprise", "kind"} <= moved(report.comparison)


def test_unchanged_traffic_seldom_alarms(routers):
    """As often as a test at 5 % may, in 60 samples: 3, and three standard deviations more."""
    reference = read_reference(routers["conversation"])
    spec = RouterFolder.read(routers["conversation"]).spec
    alarms = 0
    for seed in range(100, 160):
        rows = facts_of(routers["conversation"], conversations(seed, 60), reference)
        alarms += compare(reference, rows, spec.threshold_for("log")).verdict != "leave"
    assert alarms <= 8


def test_the_script_of_a_message_is_that_of_most_letters():
    assert script_of("hello мир") == "LATIN"
    assert script_of("ok привет, мир") == "CYRILLIC"
    assert script_of("これはペンです") == "JAPANESE"
    assert script_of("12 + 3 = ?") == "no letters"


def test_the_page_opens_in_chromium_without_a_complaint_or_a_request(routers, tmp_path):
    compared(routers["session"], tmp_path, conversations(16, words=10.0))
    complaints, asked, drawn = opened(tmp_path / "new" / "drift.html", tmp_path)
    assert complaints == []
    assert asked == []
    assert "Has the traffic changed?" in drawn
