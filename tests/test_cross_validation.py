"""Cross-validation: every row is judged by a router that did not see its group."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout
from tests.cli.command import run
from tests.training.conftest import rows, write_base, write_dataset, write_split
from turnout.cross_validation import cross_validate, folds_of, train_on_all
from turnout.errors import RecordError
from turnout.evaluation.page import render
from turnout.training import Recipe

pytestmark = pytest.mark.slow

WORDS = Recipe(model="words")


def table_of(groups, labels):
    return pa.table({"cv_group": groups, "label": pa.array(labels, pa.int8())})


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A data set of twelve groups and its cross-validation in three folds."""
    folder = tmp_path_factory.mktemp("folds")
    dataset = write_dataset(folder / "data", "conversation")
    for seed, (name, n) in enumerate({"train": 160, "validation": 60, "test": 20}.items()):
        made = rows(n, seed, "conversation")
        for number, row in enumerate(made):
            row["cv_group"] = f"database {number // 2 % 12}"
        write_split(dataset, name, made)
    tables = [
        pq.read_table(dataset / f"{name}.parquet") for name in ("train", "validation", "test")
    ]
    truth = pa.concat_tables(tables).select(["conversation_id", "turn_index", "label"])
    pq.write_table(truth, folder / "truth.parquet")
    base = write_base(folder / "base")
    steps = []
    report = cross_validate(
        dataset,
        folder / "report",
        folds=3,
        base=base,
        recipe=WORDS,
        truth=folder / "truth.parquet",
        on_progress=lambda *step: steps.append(step[0]),
    )
    return dataset, base, report, steps


def test_every_row_is_judged_once_by_a_router_of_other_rows_and_by_a_simulated_truth_too(judged):
    _, _, report, steps = judged
    (router,) = report.content["routers"]
    by_truth, result = router["results"]
    assert (by_truth["reference"], by_truth["rows"]) == ("simulated truth", 240)
    assert result["rows"] == router["rows"]["test"] == 240
    assert sum(fold["rows"]["test"] for fold in router["folds"]) == 240
    auroc = result["methods"][0]["metrics"]["auroc"]
    assert 0.9 < auroc["low"] <= auroc["value"]
    assert {"random", "TF-IDF + linear, with context"} < {m["name"] for m in result["methods"]}
    assert router["base"] == "3 × linear model on words"
    fewest = min(fold["rows"]["train"] for fold in router["folds"])
    assert router["few_labels"].startswith(f"{fewest} labelled training rows: below about 1,000")
    assert any(step.startswith("fold 3 of 3: ") for step in steps)


def test_a_second_run_is_up_to_date_and_nothing_is_left_beside_the_report(judged):
    dataset, base, report, _ = judged
    out = dataset.with_name("report")
    truth = dataset.with_name("truth.parquet")
    again = cross_validate(dataset, out, folds=3, base=base, recipe=WORDS, truth=truth)
    assert (again.fresh, again.content) == (False, report.content)
    assert {path.name for path in out.parent.iterdir()} == {"base", "data", "report", truth.name}
    assert (out / "report.html").stat().st_size > 50_000


def test_groups_lie_in_one_part_of_a_fold_and_every_part_has_both_labels():
    draw = np.random.default_rng(0)
    groups = [f"g{group}" for group in draw.integers(0, 20, 300)]
    labels = draw.integers(0, 2, 300)
    plan = folds_of(table_of(groups, labels), 5, 0, where="data")
    held = np.concatenate([fold.test for fold in plan])
    assert sorted(held.tolist()) == list(range(300))
    for fold in plan:
        parts = [{groups[row] for row in part} for part in fold]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
        assert all(set(labels[part]) == {0, 1} for part in fold[:2])


@pytest.mark.parametrize(
    ("groups", "labels", "said"),
    [
        pytest.param(["one"] * 40, [0, 1] * 20, "1 groups in 40 rows", id="one-group"),
        pytest.param(list("abcdefgh"), [1] * 7 + [0], "1 rows with label 0", id="one-label"),
        pytest.param(
            list("aaabbbcccddd"), [0] * 6 + [1] * 6, "leaves no groups with both", id="pure-groups"
        ),
    ],
)
def test_what_cannot_be_folded_is_refused_with_what_to_do(groups, labels, said):
    with pytest.raises(RecordError, match=said):
        folds_of(table_of(groups, labels), 4, 0, where="data")


def test_the_router_to_serve_is_trained_on_all_rows_in_whole_groups(judged, tmp_path):
    dataset, base, _, _ = judged
    report = train_on_all(dataset, tmp_path / "router", base=base, recipe=WORDS)
    assert report.rows["train"] + report.rows["validation"] == 240
    assert 15 <= report.rows["validation"] <= 60
    assert turnout.load(tmp_path / "router").decide("hi").model_class in ("reasoning", "fast")
    again = train_on_all(dataset, tmp_path / "router", base=base, recipe=WORDS)
    assert not again.fresh


def test_a_column_without_a_value_is_no_group(judged, tmp_path):
    dataset = judged[0]
    with pytest.raises(RecordError, match="user_id: none of 240 rows has one"):
        cross_validate(dataset, tmp_path / "report", group_by="user_id", recipe=WORDS)


def test_a_conversation_in_two_groups_is_refused(tmp_path):
    dataset = write_dataset(tmp_path / "data")
    made = rows(160, 0)
    for number, row in enumerate(made):
        row |= {"conversation_id": f"c{number // 2}", "group": f"g{number % 8}"}
    write_split(dataset, "train", made)
    with pytest.raises(RecordError, match="conversation c0 lies in the groups g0 and g1"):
        cross_validate(dataset, tmp_path / "report", group_by="group", recipe=WORDS)


def test_the_page_says_how_each_fold_chose_encoder_or_words(judged):
    (router,) = judged[2].content["routers"]
    choices = [f"AUROC encoder 0.7, words 0.{8 + number}" for number in range(2)]
    router = router | {"folds": [{"choice": choice} for choice in choices]}
    page = render({"routers": [router]})
    assert all(f"fold {number}: {choice}" in page for number, choice in enumerate(choices, 1))


def test_the_command_shows_the_pooled_result_and_then_trains_the_router_to_serve(judged):
    dataset, base, _, _ = judged
    typed = ["evaluate", dataset, "-o", "cli", "--folds", "2", "--base", base, "--model", "words"]
    typed += ["--group-by", "conversation_id"]
    shown = run(*typed, cwd=dataset.parent)
    assert "2 folds by conversation_id, measured against" in shown.stdout
    typed_next = " --group-by=conversation_id --base=\\S+ --model=words -o cli --router router\n"
    assert re.search(f"Next: turnout evaluate {dataset} --folds=2{typed_next}", shown.stderr)
    trained = run(*typed, "--router", "router", cwd=dataset.parent)
    assert "up to date" in trained.stderr
    assert "turnout serve router" in trained.stderr
    assert turnout.load(dataset.with_name("router")).decide("hi").reason
