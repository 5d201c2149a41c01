"""A data set from measured outcomes: the target is the gap, and nothing is thrown away."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.sets import dataset_from_outcomes, rows_of
from turnout.dataset import build_from_outcomes
from turnout.errors import RecordError, SettingsError


def outcomes(tmp_path, rows):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def measured(n=200):
    return [
        {
            "prompt": f"question {number}",
            "reasoning_score": 0.9,
            "fast_score": 0.9 if number % 4 else 0.1,
            "group": f"g{number % 2}",
        }
        for number in range(n)
    ]


def test_the_target_of_measured_outcomes_is_the_gap(tmp_path):
    data = dataset_from_outcomes(outcomes(tmp_path, measured()))
    rows = rows_of(data)
    assert len(rows) == 200, "nothing is thrown away to balance"
    for row in rows:
        hard = int(row["message"].split()[1]) % 4 == 0
        assert row["label"] == (0 if hard else 1)
        assert row["target"] == pytest.approx(0.9 if hard else 0.5)
    assert data.description["source"] == "outcomes"


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl.gz"])
def test_outcomes_of_any_table_give_the_same_data_set(tmp_path, name):
    rows = [
        row | {"target": None, "weight": 0.5 + number % 3}
        for number, row in enumerate(measured(80))
    ]
    for number, row in enumerate(rows):
        if number % 3 == 0:
            row |= {"reasoning_score": None, "fast_score": None, "target": number / 80}
        if number % 5 == 0:
            row |= {"group": None, "prompt": f'{row["prompt"]}, "quoted",\non two lines'}
    data = dataset_from_outcomes(outcomes(tmp_path, rows))
    if name.endswith(".csv"):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        with gzip.open(tmp_path / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    assert dataset_from_outcomes(tmp_path / name).tables == data.tables


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("p,0.9,high", r"p\.csv:3: fast_score is 'high'; expected a number in \[0, 1\]"),
        ("p,,0.5", r"p\.csv:3: reasoning_score is None"),
        ("p,1", r"p\.csv:3: 2 fields; expected 3"),
    ],
)
def test_a_csv_row_that_is_no_outcome_is_refused_with_its_line(tmp_path, line, said):
    header = "prompt,reasoning_score,fast_score"
    (tmp_path / "p.csv").write_text(f"{header}\nq,0.9,0.1\n{line}\n")
    with pytest.raises(RecordError, match=said):
        dataset_from_outcomes(tmp_path / "p.csv")


def test_text_that_no_table_can_hold_is_mended_in_outcomes(tmp_path):
    rows = [*measured(80), measured(1)[0] | {"prompt": "half \ud83d and\0nothing", "group": 7}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = dataset_from_outcomes(tmp_path / "p.jsonl")
    by_message = {r["message"]: r for r in rows_of(data)}
    assert by_message["half ? andnothing"]["group"] == "7"


def test_a_number_beyond_all_floats_is_refused(tmp_path):
    row = measured(1)[0] | {"fast_score": 10**400}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    with pytest.raises(RecordError, match=r"p\.jsonl:1: fast_score is 1000.*; expected a number"):
        dataset_from_outcomes(tmp_path / "p.jsonl")


def test_a_map_of_no_field_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="--map: found promt; expected one of prompt, "):
        dataset_from_outcomes(outcomes(tmp_path, measured()), columns={"promt": "q"})


def test_the_steps_of_a_build_from_outcomes_are_told(tmp_path):
    calls = []
    source = outcomes(tmp_path, measured())
    build_from_outcomes(source, tmp_path / "data", on_progress=lambda *what: calls.append(what))
    steps = ("1 of 3: read outcomes", "2 of 3: compare rows", "3 of 3: write")
    assert calls == [what for step in steps for what in ((step, 0, None), (step, 1, 1))]


def test_measured_rows_weigh_the_same_by_default(tmp_path):
    data = dataset_from_outcomes(outcomes(tmp_path, measured()))
    assert {r["weight"] for r in rows_of(data)} == {1.0}


def test_a_prompt_that_nobody_solves_carries_no_label(tmp_path):
    rows = [*measured(), {"prompt": "p", "reasoning_score": 0.1, "fast_score": 0.1, "group": "g0"}]
    data = dataset_from_outcomes(outcomes(tmp_path, rows))
    rows = rows_of(data)
    assert next(r for r in rows if r["message"] == "p")["label"] is None


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan"), None])
def test_a_score_outside_its_range_is_refused_with_its_row(tmp_path, bad):
    rows = measured(20)
    rows[6]["fast_score"] = bad
    with pytest.raises(
        RecordError, match=r"row 7: fast_score is .*; expected a number in \[0, 1\]"
    ):
        dataset_from_outcomes(outcomes(tmp_path, rows))


def test_a_row_may_state_its_target_in_place_of_scores(tmp_path):
    stated = [{"prompt": f"stated {number}", "target": 0.7, "group": "g2"} for number in range(50)]
    scored = [r | {"target": None} for r in measured()]
    data = dataset_from_outcomes(outcomes(tmp_path, [*scored, *stated]))
    by_message = {r["message"]: r for r in rows_of(data)}
    assert data.description["stated_targets"] == 50
    row = by_message["stated 7"]
    assert row["target"] == pytest.approx(0.7)
    assert row["label"] is None
    assert row["evidence"] == ["stated_target"]
    assert by_message["question 4"]["target"] == pytest.approx(0.9), "no target: the gap"


def test_a_stated_target_goes_before_the_gap_and_leaves_the_label(tmp_path):
    rows = [r | {"target": 0.25} for r in measured()]
    data = dataset_from_outcomes(outcomes(tmp_path, rows))
    rows = rows_of(data)
    assert {r["target"] for r in rows} == {0.25}
    assert {r["label"] for r in rows} == {0, 1}


def test_weights_of_the_rows_are_kept_as_they_are(tmp_path):
    rows = [r | {"weight": 0.5 + number % 3} for number, r in enumerate(measured())]
    data = dataset_from_outcomes(outcomes(tmp_path, rows))
    for row in rows_of(data):
        assert row["weight"] == 0.5 + int(row["message"].split()[1]) % 3


@pytest.mark.parametrize(
    "change, said",
    [
        pytest.param({"target": 1.2}, r"target is 1.2; expected a number in \[0, 1\]", id="range"),
        pytest.param(
            {"reasoning_score": None, "fast_score": None, "target": None},
            "reasoning_score is None",
            id="neither",
        ),
        pytest.param({"weight": -1.0}, "weight is -1.0; expected a number in", id="negative"),
        pytest.param({"weight": 3e38}, r"weight is 3e\+38; expected .*\[0, 1,000,000\]", id="huge"),
        pytest.param({"weight": float("nan")}, "weight is nan", id="nan"),
        pytest.param({"weight": float("inf")}, "weight is inf", id="infinite"),
    ],
)
def test_a_stated_number_out_of_range_is_refused_with_its_row(tmp_path, change, said):
    rows = [r | {"target": 0.5, "weight": 1.0} for r in measured(20)]
    rows[6] |= change
    with pytest.raises(RecordError, match=f"row 7: {said}"):
        dataset_from_outcomes(outcomes(tmp_path, rows))


def test_columns_may_have_other_names(tmp_path):
    rows = [{"q": r["prompt"], "r": r["reasoning_score"], "f": r["fast_score"]} for r in measured()]
    columns = {"prompt": "q", "reasoning_score": "r", "fast_score": "f"}
    data = dataset_from_outcomes(outcomes(tmp_path, rows), columns=columns)
    assert data.description["rows"] == 200


def test_a_missing_outcome_column_is_named(tmp_path):
    with pytest.raises(RecordError, match="no column reasoning_score, fast_score; found prompt"):
        dataset_from_outcomes(outcomes(tmp_path, [{"prompt": "x"}]))


def test_a_damaged_table_of_outcomes_is_refused(tmp_path):
    source = outcomes(tmp_path, measured())
    whole = bytearray(source.read_bytes())
    whole[4:400] = bytes(396)
    source.write_bytes(whole)
    with pytest.raises(RecordError, match=r"p\.parquet: not readable"):
        dataset_from_outcomes(source)


def test_a_margin_out_of_range_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^margin: found 0"):
        dataset_from_outcomes(outcomes(tmp_path, measured()), margin=0)


def test_outcomes_of_one_label_are_refused_with_what_to_do_about_outcomes(tmp_path):
    rows = [row | {"fast_score": 0.9} for row in measured()]
    with pytest.raises(RecordError, match=r"0 reasoning, 200 fast .* or another margin"):
        dataset_from_outcomes(outcomes(tmp_path, rows))
