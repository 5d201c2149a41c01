"""An evaluation from folders to report: what it compares, what it finds, what it refuses."""

import json
import random
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from tests.tiny_router import EASY, HARD, write_router
from turnout.errors import ArtifactError, RecordError, SettingsError
from turnout.evaluation.baselines import Splits, baselines
from turnout.evaluation.stage import evaluate
from turnout.progress import silent
from turnout.records import ModelInput, Turn
from turnout.routing import Formatter, Priors, Router
from turnout.routing.folder import set_threshold
from turnout.samples import FORMAT_VERSION, Samples
from turnout.schema import SAMPLES, TRUTH

pytestmark = pytest.mark.slow


def sample(split, number, architecture, draw, group=None):
    hard = number % 2 == 0
    word = draw.choice(HARD if hard else EASY)
    filler = " ".join(draw.choices(["the", "a", "of", "my", "code"], k=draw.randint(0, 6)))
    message = f"{word} {filler} {split}{number}"
    turns = [Turn(message)]
    if architecture == "conversation" and number % 3 == 0:
        turns.append(Turn(f"go on {split}{number}"))
    shown = Formatter(architecture).format(turns)
    return {
        "sample_id": f"{split}{number}",
        "conversation_id": f"{split}{number // 2 if architecture == 'conversation' else number}",
        "turn_index": len(turns),
        "turn_count": len(turns),
        "stratum": "1",
        "message": shown.message,
        "context": shown.context,
        "previous": [{"user_message": m.user_message} for m in reversed(turns[:-1])],
        "label": 0 if hard else 1,
        "target": 0.9 if hard else 0.5,
        "weight": 1.0,
        "evidence": ["model_choice"],
        "group": group and f"{group}{number % 4 // 2}",
    }


def write_data(folder, architecture="session", source="turns", test_rows=120, **more):
    folder.mkdir()
    draw = random.Random(0)
    group = "bench" if source == "outcomes" else None
    for split, n in {"train": 200, "validation": 80, "test": test_rows}.items():
        rows = [sample(split, number, architecture, draw, group) for number in range(n)]
        pq.write_table(pa.Table.from_pylist(rows, SAMPLES), folder / f"{split}.parquet")
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "formatter": Formatter(architecture).to_json(),
        "source": source,
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def rewrite(data, split, change):
    """Change the rows of a split on disk."""
    rows = pq.read_table(data / f"{split}.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist(change(rows), SAMPLES), data / f"{split}.parquet")


def with_markup(rows):
    rows[1]["message"] = "prove <script>alert(1)</script>"
    return rows


def write_manifest(router, stage):
    (router / "manifest.json").write_text(json.dumps({"stage": stage, "inputs": {"there": "00"}}))
    return router


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A trained session router that knows its log, and a pulled conversation router."""
    folder = tmp_path_factory.mktemp("evaluation")
    session = write_router(folder / "session-router", "session", priors=Priors(0.5, 0.22))
    set_threshold(session, 0.3, "chosen by hand", "log")
    conversation = write_router(folder / "conversation-router", "conversation")
    data = write_data(folder / "session-data")
    rewrite(data, "test", with_markup)
    return [
        (write_manifest(session, "train"), data),
        (write_manifest(conversation, "pull"), write_data(folder / "conv-data", "conversation")),
    ]


@pytest.fixture(scope="module")
def report(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report"
    return evaluate(pairs, out).content, out


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """A small token budget, and a data set that leaks and keeps no previous turns."""
    folder = tmp_path_factory.mktemp("poor")
    data = write_data(folder / "data", "conversation")
    leaked = pq.read_table(data / "train.parquet").to_pylist()[:10]
    rewrite(data, "test", lambda rows: rows + leaked)
    table = pq.read_table(data / "test.parquet").drop_columns(["previous"])
    pq.write_table(table, data / "test.parquet")
    router = write_router(folder / "router", "conversation", max_tokens=8)
    content = evaluate([(router, data)], folder / "report", examples=0).content["routers"][0]
    return content, folder


def outcomes(content):
    return {f["code"]: f["outcome"] for f in content["findings"]}


def methods(content, router, result=0):
    listed = content["routers"][router]["results"][result]["methods"]
    return {method["name"]: method for method in listed}


def test_a_router_that_knows_the_rule_is_ahead_of_length_and_random(report):
    by_method = methods(report[0], 0)
    assert by_method["this router"]["metrics"]["auroc"]["value"] > 0.95
    for name in ("random", "length"):
        assert by_method[name]["lead"]["low"] > 0.2
    assert {"nearest neighbours", "TF-IDF + linear"} < set(by_method)


def test_every_estimate_has_an_interval_around_it(report):
    for router in (0, 1):
        for method in methods(report[0], router).values():
            for estimate in method["metrics"].values():
                assert estimate["low"] <= estimate["value"] + 0.1
                assert estimate["low"] <= estimate["high"]


def test_a_conversation_router_is_compared_with_what_the_last_message_alone_gives(report):
    by_method = methods(report[0], 1)
    assert by_method["this router, last message only"]["lead"]["value"] > 0.05
    assert {"TF-IDF + linear (last message)", "TF-IDF + linear, with context"} < set(by_method)
    context = {f["code"]: f for f in report[0]["routers"][1]["findings"]}["E006"]
    assert context["outcome"] == "pass"


def test_parts_are_by_turn_index_and_thin_ones_are_not_measured(report):
    parts = report[0]["routers"][1]["results"][0]["parts"]
    assert [part["name"] for part in parts] == ["1", "2"]
    assert all(part["router"] is not None for part in parts)


def test_calibration_is_told_for_all_rows_and_for_every_part_that_is_measured(report):
    content, _ = report
    for router in content["routers"]:
        for result in router["results"]:
            judged = [part for part in result["parts"] if part["router"]]
            for calibration in [result["calibration"], *(part["calibration"] for part in judged)]:
                assert 0 <= calibration["debiased"]["low"] <= calibration["debiased"]["high"] <= 1
                assert calibration["chance"] > 0
            assert sum(part["calibration"]["rows"] for part in judged) <= result["rows"]


def test_findings_are_complete_and_in_order(report):
    for router in report[0]["routers"]:
        assert [f["code"] for f in router["findings"]] == [f"E{n:03}" for n in range(1, 12)]


def test_a_conversation_router_is_measured_with_less_and_more_of_the_conversation(report):
    session, conversation = report[0]["routers"]
    assert session["context"] is None
    views = {view["name"]: view for view in conversation["context"]["views"]}
    assert list(views) == ["none", "1", "2", "3", "4 (as served)", "all (up to 16)"]
    served = methods(report[0], 1)["this router"]["metrics"]["auroc"]
    assert views["4 (as served)"]["auroc"] == served
    assert views["none"]["gain"] is None
    assert views["1"]["gain"]["low"] > 0
    assert [bucket["name"] for bucket in views["1"]["buckets"]] == ["1", "2"]
    first, second = (bucket["auroc"]["value"] for bucket in views["none"]["buckets"])
    assert first > 0.95
    assert second == 0.5, "without the turn before, a follow-up tells nothing"


def test_a_data_set_without_previous_turns_has_no_ablation_and_no_probes(poor):
    content, _ = poor
    assert content["context"] is None
    assert {outcomes(content)[code] for code in ("E009", "E010", "E011")} == {"not applicable"}


def test_what_the_budget_cut_is_counted(poor):
    content, folder = poor
    rows = pq.read_table(folder / "data" / "test.parquet").to_pylist()
    words = [len(re.findall(r"\w+|[^\w\s]+", row["message"])) for row in rows]
    context = [len(re.findall(r"\w+|[^\w\s]+", row["context"])) for row in rows]
    room = [8 - (3 if c else 2) for c in context]
    cut = [w + c > r for w, c, r in zip(words, context, room, strict=True)]
    assert content["truncation"]["rows_share"] == pytest.approx(np.mean(cut))
    assert content["truncation"]["messages_share"] == pytest.approx(np.mean([w > 6 for w in words]))
    assert outcomes(content)["E008"] == "issue"


def test_shared_conversations_are_found(poor):
    leak = {f["code"]: f for f in poor[0]["findings"]}["E005"]
    assert leak["outcome"] == "issue"
    assert leak["sentence"].startswith("5 conversations and 10 texts")


def test_no_example_quotes_the_log_when_none_is_wanted(poor):
    for name in ("report.html", "report.json"):
        assert "test1" not in (poor[1] / "report" / name).read_text()


def test_examples_are_mistakes_at_the_threshold(report):
    session = report[0]["routers"][0]
    assert session["examples"]["missed"] == []
    assert [row["message"] for row in session["examples"]["wasted"]] == [
        "prove <script>alert(1)</script>"
    ]


def test_scores_for_the_log_are_calibrated_on_rows_weighted_as_the_log(report):
    session, conversation = report[0]["routers"]
    log = session["results"][0]["log"]
    balanced = session["results"][0]["calibration"]
    # The tiny router's scores are 0.88 and 0.12 where all and none need reasoning.
    assert log["prior"] == 0.22
    assert log["share_at_threshold"]["value"] == pytest.approx(0.22, abs=0.02)
    assert log["mean_score"] < log["mean_balanced_score"]
    assert log["calibration"]["ece"]["value"] < balanced["ece"]["value"]
    assert log["calibration"]["ece"]["value"] < log["uncorrected"]
    assert conversation["results"][0]["log"] is None


def test_a_threshold_for_the_log_decides_as_it_is_served(report, pairs):
    stored = report[0]["routers"][0]
    assert stored["threshold"]["population"] == "log"
    served = Router.from_folder(pairs[0][0])
    rows = pq.read_table(pairs[0][1] / "test.parquet").to_pylist()
    sent = [served.decide(row["message"]).model_class == "reasoning" for row in rows]
    assert stored["results"][0]["share_at_threshold"]["value"] == pytest.approx(np.mean(sent))


def test_the_page_is_whole_and_needs_no_network(report):
    page = (report[1] / "report.html").read_text()
    assert "Measured against the log&#39;s labels" in page
    assert page.count("<svg") >= 6
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two charts share an id"


def test_text_from_the_log_cannot_become_markup(report):
    page = (report[1] / "report.html").read_text()
    assert "&lt;script&gt;alert" in page
    assert "<script" not in page


def test_the_truth_comes_first_where_it_is_given(tmp_path):
    data = write_data(tmp_path / "data")
    rows = pq.read_table(data / "test.parquet").to_pylist()
    # The truth is often not what the labels say: a router right by these is wrong by that.
    truth = [
        {
            "conversation_id": row["conversation_id"],
            "turn_index": row["turn_index"],
            "label": row["label"] if number % 3 else 1 - row["label"],
            "difficulty": 0.5,
            "kind": "request",
        }
        for number, row in enumerate(rows)
    ]
    file = tmp_path / "truth.jsonl"
    file.write_text("\n".join(map(json.dumps, truth)))
    router = write_router(tmp_path / "router")
    content = evaluate([(router, data)], tmp_path / "report", truth=file).content
    by_truth, by_label = content["routers"][0]["results"]
    assert (by_truth["reference"], by_label["reference"]) == ("simulated truth", "the log's labels")
    assert by_label["methods"][0]["metrics"]["auroc"]["value"] > 0.95
    assert by_truth["methods"][0]["metrics"]["auroc"]["value"] < 0.8


def test_a_measured_gap_is_recovered_and_a_stated_target_is_none(tmp_path):
    router = write_router(tmp_path / "router")
    measured = write_data(tmp_path / "measured", source="outcomes")
    stated = write_data(tmp_path / "stated", source="outcomes", stated_targets=3)
    content = evaluate([(router, measured), (router, stated)], tmp_path / "report").content
    gaps, targets = (router["results"][0] for router in content["routers"])
    apgr = {m["name"]: m["metrics"]["apgr"]["value"] for m in gaps["methods"]}
    assert gaps["main_metric"] == "apgr"
    assert apgr["oracle (knows the gap)"] >= apgr["this router"] > apgr["length"]
    assert "group mean (knows the group)" in apgr
    assert gaps["within_groups"]["groups"] == 2
    assert (targets["reference"], targets["main_metric"]) == ("measured outcomes", "auroc")


def test_a_second_run_is_up_to_date_and_one_with_swapped_data_sets_is_not(report, pairs):
    again = evaluate(pairs, report[1])
    assert not again.fresh
    assert again.content["routers"][0]["name"] == "session-router"
    (session, session_data), (conversation, conversation_data) = pairs
    with pytest.raises(ArtifactError, match=r"is a conversation data set; .* is a session router"):
        evaluate([(session, conversation_data), (conversation, session_data)], report[1])


def test_a_router_that_came_from_elsewhere_is_not_said_to_be_trained_on_other_rows(report):
    trained, pulled = report[0]["routers"]
    assert outcomes(trained)["E007"] == "issue"
    assert outcomes(pulled)["E007"] == "not applicable"


@pytest.mark.parametrize(
    ("hard", "easy"),
    [("証明してください", "こんにちは"), ("🧮📐", "👋"), ("x", "k")],
    ids=["no-spaces", "emoji", "single-characters"],
)
def test_messages_without_words_have_baselines(hard, easy):
    def rows(n):
        labels = np.arange(n) % 2
        return Samples(
            inputs=[
                ModelInput((easy if label else hard) + "。" * (number % 3))
                for number, label in enumerate(labels)
            ],
            conversation_ids=[str(number) for number in range(n)],
            turn_indices=np.ones(n, np.int32),
            groups=[None] * n,
            cv_groups=[None] * n,
            labels=labels.astype(np.int8),
            targets=(1 - labels).astype(np.float32),
            weights=np.ones(n, np.float32),
        )

    splits = Splits(rows(40), rows(20), predicts_gap=False)
    test = rows(20)
    scored = baselines(splits, test, with_context=False, on_progress=silent)
    for name, scores in scored.items():
        if not name.startswith(("random", "length")):
            assert roc_auc_score(test.labels == 0, scores) == 1.0, name


def test_a_router_of_the_other_architecture_is_refused(tmp_path):
    pair = (write_router(tmp_path / "r", "conversation"), write_data(tmp_path / "d", "session"))
    with pytest.raises(ArtifactError, match="Build a data set with --architecture conversation"):
        evaluate([pair], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_one_label_only_is_refused(tmp_path):
    data = write_data(tmp_path / "data")
    rows = pq.read_table(data / "test.parquet").to_pylist()[::2]
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES), data / "test.parquet")
    with pytest.raises(RecordError, match=r"with labels \[0\]; expected both labels"):
        evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report")


def test_a_truth_of_another_log_is_refused(tmp_path):
    pq.write_table(pa.Table.from_pylist([], TRUTH), tmp_path / "truth.parquet")
    pair = (write_router(tmp_path / "router"), write_data(tmp_path / "data"))
    with pytest.raises(RecordError, match="the truth has 0 of 120 test rows"):
        evaluate([pair], tmp_path / "report", truth=tmp_path / "truth.parquet")


def test_nothing_to_evaluate_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="expected at least one router"):
        evaluate([], tmp_path / "report")
