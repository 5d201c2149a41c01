"""An evaluation from folders to report: what it compares, what it finds, what it refuses."""

import json
import random
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_router import EASY, HARD, write_router
from turnout.errors import ArtifactError, RecordError, SettingsError
from turnout.evaluation.batch import score_file
from turnout.evaluation.stage import evaluate
from turnout.records import Turn
from turnout.routing import Formatter
from turnout.samples import FORMAT_VERSION
from turnout.schema import SAMPLES, TRUTH


def sample(split, at, architecture, draw, group=None):
    hard = at % 2 == 0
    word = draw.choice(HARD if hard else EASY)
    filler = " ".join(draw.choices(["the", "a", "of", "my", "code"], k=draw.randint(0, 6)))
    message = f"{word} {filler} {split}{at}"
    turns = [Turn(message)]
    if architecture == "conversation" and at % 3 == 0:
        turns.append(Turn(f"go on {split}{at}"))
    shown = Formatter(architecture).format(turns)
    return {
        "sample_id": f"{split}{at}",
        "conversation_id": f"{split}{at // 2 if architecture == 'conversation' else at}",
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
        "group": group and f"{group}{at % 4 // 2}",
    }


def write_data(folder, architecture="session", source="turns", test_rows=120, **told):
    folder.mkdir()
    draw = random.Random(0)
    group = "bench" if source == "outcomes" else None
    for split, n in {"train": 200, "validation": 80, "test": test_rows}.items():
        rows = [sample(split, at, architecture, draw, group) for at in range(n)]
        pq.write_table(pa.Table.from_pylist(rows, SAMPLES), folder / f"{split}.parquet")
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "formatter": Formatter(architecture).to_json(),
        "source": source,
        **told,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    pairs = [
        (write_router(folder / f"{name}-router", name), write_data(folder / f"{name}-data", name))
        for name in ("session", "conversation")
    ]
    return evaluate(pairs, folder / "report").content, folder / "report"


def methods(content, router, judgement=0):
    found = content["routers"][router]["judgements"][judgement]["methods"]
    return {method["name"]: method for method in found}


def test_a_router_that_knows_the_rule_is_ahead_of_length_and_random(report):
    found = methods(report[0], 0)
    assert found["this router"]["metrics"]["auroc"]["value"] > 0.95
    for name in ("random", "length"):
        assert found[name]["lead"]["low"] > 0.2
    assert {"nearest neighbours", "TF-IDF + linear"} < set(found)


def test_every_estimate_has_an_interval_around_it(report):
    for router in (0, 1):
        for method in methods(report[0], router).values():
            for estimate in method["metrics"].values():
                assert estimate["low"] <= estimate["value"] + 0.1
                assert estimate["low"] <= estimate["high"]


def test_a_conversation_router_is_compared_with_what_the_last_message_alone_gives(report):
    found = methods(report[0], 1)
    assert found["this router, last message only"]["lead"]["value"] > 0.05
    assert {"TF-IDF + linear (last message)", "TF-IDF + linear, with context"} < set(found)
    context = {f["code"]: f for f in report[0]["routers"][1]["findings"]}["E006"]
    assert context["outcome"] == "pass"


def test_parts_are_by_turn_index_and_thin_ones_are_not_judged(report):
    parts = report[0]["routers"][1]["judgements"][0]["parts"]
    assert [part["name"] for part in parts] == ["1", "2"]
    assert all(part["router"] is not None for part in parts)


def test_calibration_is_told_for_all_rows_and_for_every_part_that_is_judged(report):
    content, _ = report
    for router in content["routers"]:
        for judgement in router["judgements"]:
            judged = [part for part in judgement["parts"] if part["router"]]
            for found in [judgement["calibration"], *(part["calibration"] for part in judged)]:
                assert 0 <= found["debiased"]["low"] <= found["debiased"]["high"] <= 1
                assert found["chance"] > 0
            assert sum(part["calibration"]["rows"] for part in judged) <= judgement["rows"]


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


def test_a_data_set_without_previous_turns_has_no_ablation_and_no_probes(tmp_path):
    data = write_data(tmp_path / "data", "conversation")
    table = pq.read_table(data / "test.parquet").drop_columns(["previous"])
    pq.write_table(table, data / "test.parquet")
    router = write_router(tmp_path / "router", "conversation")
    content = evaluate([(router, data)], tmp_path / "report").content["routers"][0]
    assert content["context"] is None
    outcomes = {f["code"]: f["outcome"] for f in content["findings"]}
    assert {outcomes[code] for code in ("E009", "E010", "E011")} == {"not applicable"}


def test_what_the_budget_cut_is_counted(tmp_path):
    data = write_data(tmp_path / "data", "conversation")
    router = write_router(tmp_path / "router", "conversation", max_tokens=8)
    content = evaluate([(router, data)], tmp_path / "report").content["routers"][0]
    rows = pq.read_table(data / "test.parquet").to_pylist()
    words = [len(re.findall(r"\w+|[^\w\s]+", row["message"])) for row in rows]
    context = [len(re.findall(r"\w+|[^\w\s]+", row["context"])) for row in rows]
    room = [8 - (3 if c else 2) for c in context]
    cut = [w + c > r for w, c, r in zip(words, context, room, strict=True)]
    assert content["cuts"]["rows_share"] == pytest.approx(np.mean(cut))
    assert content["cuts"]["messages_share"] == pytest.approx(np.mean([w > 6 for w in words]))
    fits = {f["code"]: f for f in content["findings"]}["E008"]
    assert fits["outcome"] == "issue"


def test_the_page_is_whole_and_needs_no_network(report):
    page = (report[1] / "report.html").read_text()
    assert "Judged by the log&#39;s labels" in page
    assert page.count("<svg") >= 6
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two charts share an id"


def test_text_from_the_log_cannot_become_markup(tmp_path):
    data = write_data(tmp_path / "data")
    rows = pq.read_table(data / "test.parquet").to_pylist()
    rows[1]["message"] = "prove <script>alert(1)</script>"
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES), data / "test.parquet")
    evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;script&gt;alert" in page
    assert "<script" not in page


def test_no_example_quotes_the_log_when_none_is_wanted(tmp_path):
    data = write_data(tmp_path / "data")
    evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report", examples=0)
    for name in ("report.html", "report.json"):
        assert "test1" not in (tmp_path / "report" / name).read_text()


def test_the_truth_judges_first_where_it_is_given(tmp_path):
    data = write_data(tmp_path / "data")
    rows = pq.read_table(data / "test.parquet").to_pylist()
    # The truth is often not what the labels say: a router right by these is wrong by that.
    truth = [
        {
            "conversation_id": row["conversation_id"],
            "turn_index": row["turn_index"],
            "label": row["label"] if at % 3 else 1 - row["label"],
            "difficulty": 0.5,
            "kind": "request",
        }
        for at, row in enumerate(rows)
    ]
    file = tmp_path / "truth.jsonl"
    file.write_text("\n".join(map(json.dumps, truth)))
    router = write_router(tmp_path / "router")
    content = evaluate([(router, data)], tmp_path / "report", truth=file).content
    by_truth, by_label = content["routers"][0]["judgements"]
    assert (by_truth["judge"], by_label["judge"]) == ("simulated truth", "the log's labels")
    assert by_label["methods"][0]["metrics"]["auroc"]["value"] > 0.95
    assert by_truth["methods"][0]["metrics"]["auroc"]["value"] < 0.8


def test_measured_gaps_are_judged_by_the_gap_recovered(tmp_path):
    data = write_data(tmp_path / "data", source="outcomes")
    content = evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report").content
    judgement = content["routers"][0]["judgements"][0]
    found = {m["name"]: m["metrics"]["apgr"]["value"] for m in judgement["methods"]}
    assert judgement["main_metric"] == "apgr"
    assert found["oracle (knows the gap)"] >= found["this router"] > found["length"]
    assert "group mean (is told the group)" in found
    assert judgement["within_groups"]["groups"] == 2


def test_a_stated_target_is_no_gap_to_be_judged_by(tmp_path):
    data = write_data(tmp_path / "data", source="outcomes", stated_targets=3)
    content = evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report").content
    judgement = content["routers"][0]["judgements"][0]
    assert (judgement["judge"], judgement["main_metric"]) == ("measured outcomes", "auroc")


def test_a_second_run_is_up_to_date(tmp_path):
    pair = (write_router(tmp_path / "router"), write_data(tmp_path / "data"))
    assert evaluate([pair], tmp_path / "report").fresh
    again = evaluate([pair], tmp_path / "report")
    assert not again.fresh
    assert again.content["routers"][0]["name"] == "router"


def test_shared_conversations_are_found(tmp_path):
    data = write_data(tmp_path / "data")
    rows = pq.read_table(data / "train.parquet").to_pylist()[:10]
    test = pq.read_table(data / "test.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist(test + rows, SAMPLES), data / "test.parquet")
    content = evaluate([(write_router(tmp_path / "router"), data)], tmp_path / "report").content
    leak = {f["code"]: f for f in content["routers"][0]["findings"]}["E005"]
    assert leak["outcome"] == "issue"
    assert leak["sentence"].startswith("10 conversations and 10 texts")


@pytest.mark.parametrize(("stage", "outcome"), [("train", "issue"), ("pull", "not applicable")])
def test_a_router_that_came_from_elsewhere_is_not_said_to_be_trained_on_other_rows(
    tmp_path, stage, outcome
):
    router, data = write_router(tmp_path / "router"), write_data(tmp_path / "data")
    (router / "manifest.json").write_text(
        json.dumps({"stage": stage, "inputs": {"dataset": [{"path": "there", "sha256": "00"}]}})
    )
    content = evaluate([(router, data)], tmp_path / "report").content
    findings = {finding["code"]: finding for finding in content["routers"][0]["findings"]}
    assert findings["E007"]["outcome"] == outcome


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
    with pytest.raises(RecordError, match="the truth knows 0 of 120 test rows"):
        evaluate([pair], tmp_path / "report", truth=tmp_path / "truth.parquet")


def test_nothing_to_evaluate_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="expected at least one router"):
        evaluate([], tmp_path / "report")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_scores_are_one_a_row_in_the_files_order(tmp_path, suffix):
    texts = [f"{(HARD + EASY)[n % 8]} {'x ' * (n % 5)}\nline two" for n in range(50)]
    file = tmp_path / f"texts{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), file)
    elif suffix == ".csv":
        lines = [f'{n},"{text}"' for n, text in enumerate(texts)]
        file.write_text("n,text\n" + "\n".join(lines))
    else:
        file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    router = write_router(tmp_path / "router")
    report = score_file(router, file, tmp_path / "scores.parquet", text_column="text")
    scores = pq.read_table(tmp_path / "scores.parquet")["p_reasoning"].to_numpy()
    assert (report.rows, len(scores)) == (50, 50)
    # Margins of the tiny router: −1, +3 for a hard word, −1 for an easy one.
    np.testing.assert_allclose(
        scores, [1 / (1 + np.exp(-2 if n % 8 < 4 else 2)) for n in range(50)], atol=1e-6
    )


def test_a_row_without_text_has_no_score(tmp_path):
    pq.write_table(pa.table({"text": ["hello", None]}), tmp_path / "t.parquet")
    router = write_router(tmp_path / "router")
    report = score_file(router, tmp_path / "t.parquet", tmp_path / "s.parquet", text_column="text")
    assert report.without_text == 1
    assert pq.read_table(tmp_path / "s.parquet")["p_reasoning"].to_pylist()[1] is None


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_table_in_another_encoding_is_refused(tmp_path, name):
    text = "text\ncafé\n" if name == "t.csv" else '{"text": "café"}\n'
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    router = write_router(tmp_path / "router")
    with pytest.raises(RecordError, match="expected a whole file in UTF-8"):
        score_file(router, tmp_path / name, tmp_path / "s.parquet", text_column="text")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('n,text\n1,hello\n2,"half\n3,lost\n', ":3: not CSV"),
        ("n,text\n1,hello\n2\n", ":3: 1 fields; expected 2"),
    ],
)
def test_half_a_table_gets_no_scores(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    router = write_router(tmp_path / "router")
    with pytest.raises(RecordError, match=told):
        score_file(router, tmp_path / "t.csv", tmp_path / "s.parquet", text_column="text")
    assert not (tmp_path / "s.parquet").exists()


def test_an_unknown_text_column_is_refused_with_what_there_is(tmp_path):
    pq.write_table(pa.table({"prompt": ["hello"]}), tmp_path / "t.parquet")
    with pytest.raises(RecordError, match="no column text; found prompt"):
        score_file(
            write_router(tmp_path / "r"), tmp_path / "t.parquet", tmp_path / "s", text_column="text"
        )
