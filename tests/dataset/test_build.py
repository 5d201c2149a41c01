"""A data set from turns or measured outcomes: balanced, split by conversation, no leak."""

import csv
import gzip
import json
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.dataset import build_from_outcomes, build_from_turns
from turnout.dataset.balancing import balanced
from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import Cell
from turnout.dataset.groups import split_of
from turnout.errors import RecordError, SettingsError
from turnout.manifest import MANIFEST_NAME
from turnout.records import Turn
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.samples import DatasetFolder

CATALOG = load_catalog()
MODELS = ("o3", "gpt-4o")


def conversations(n, turns=3):
    return [
        turn(f"c{at}", index, f"message {index} of {at}", MODELS[at % 2], assistant_message="ok")
        for at in range(n)
        for index in range(1, 1 + at % turns + 1)
    ]


def build(tmp_path, rows, architecture="session", out="data", **more):
    source = write_turns(tmp_path / f"{out}.parquet", rows)
    more = {"architecture": architecture, "catalog": CATALOG} | more
    return build_from_turns(source, tmp_path / out, **more)


def rows_of(folder):
    return {
        name: pq.read_table(folder / f"{name}.parquet").to_pylist()
        for name in ("train", "validation", "test")
    }


def test_a_session_data_set_has_one_row_a_conversation_the_first_message_alone(tmp_path):
    build(tmp_path, conversations(200))
    rows = [row for split in rows_of(tmp_path / "data").values() for row in split]
    ids = [row["conversation_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {(row["turn_index"], row["context"]) for row in rows} == {(1, "")}


def test_a_conversation_data_set_has_every_turn_with_its_index_and_previous_turns(tmp_path):
    build(tmp_path, conversations(200), "conversation")
    rows = [row for split in rows_of(tmp_path / "data").values() for row in split]
    third = next(row for row in rows if row["turn_index"] == 3)
    number = third["conversation_id"][1:]
    assert third["context"] == f"turn 3 | message 2 of {number} | message 1 of {number}"


def test_the_turns_before_a_sample_are_kept_newest_first_with_their_answers(tmp_path):
    rows = [
        turn(f"c{at}", index, f"message {index} of {at}", MODELS[at % 2], assistant_message="ok")
        for at in range(120)
        for index in range(1, MAX_STORED_TURNS + 3)
    ]
    build(tmp_path, rows, "conversation")
    split = DatasetFolder.read(tmp_path / "data").split("train")
    kept = DatasetFolder.read(tmp_path / "data").previous("train")
    for cid, index, previous in zip(split.conversation_ids, split.turn_indices, kept, strict=True):
        first = max(1, index - MAX_STORED_TURNS)
        assert previous == tuple(
            Turn(f"message {n} of {cid[1:]}", "ok") for n in range(index - 1, first - 1, -1)
        )


def test_a_data_set_that_kept_no_previous_turns_says_so(tmp_path):
    build(tmp_path, conversations(200), "conversation")
    file = tmp_path / "data" / "test.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["previous"]), file)
    data = DatasetFolder.read(tmp_path / "data")
    assert data.previous("test") is None
    assert len(data.split("test"))


def test_labels_follow_the_class_of_the_model(tmp_path):
    build(tmp_path, conversations(200))
    for row in rows_of(tmp_path / "data")["train"]:
        assert row["label"] == (0 if row["model"] == "o3" else 1)
        assert row["target"] == 1 - row["label"]


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_every_split_is_balanced(tmp_path, architecture):
    rows = conversations(300) + [turn(f"x{n}", 1, f"extra {n}", "o3") for n in range(100)]
    build(tmp_path, rows, architecture)
    for name, split in rows_of(tmp_path / "data").items():
        counts = Counter(row["label"] for row in split)
        assert counts[0] == counts[1] > 0, name


def test_training_rows_of_every_turn_count_are_balanced(tmp_path):
    rows = [
        turn(f"c{at}", index, f"m {index} {at}", MODELS[at % (2 if at % 3 else 4) == 0])
        for at in range(300)
        for index in range(1, 1 + (at % 3) * 4 + 1)
    ]
    build(tmp_path, rows, "conversation")
    by_stratum = Counter(
        (row["stratum"], row["label"]) for row in rows_of(tmp_path / "data")["train"]
    )
    for stratum in {s for s, _ in by_stratum}:
        assert by_stratum[stratum, 0] == by_stratum[stratum, 1]


def test_a_ratio_other_than_even_is_kept(tmp_path):
    build(tmp_path, conversations(400), ratio=(20, 80), size=200)
    counts = Counter(row["label"] for row in rows_of(tmp_path / "data")["train"])
    assert counts == {0: 32, 1: 128}


def test_no_conversation_and_no_text_stands_in_two_splits(tmp_path):
    rows = conversations(300)
    rows += [turn(f"same{n}", 1, "the same  words", MODELS[n % 2]) for n in range(40)]
    report = build(tmp_path, rows, "conversation")
    assert report.description["leaks"] == {"conversations": 0, "texts": 0, "users": 0}
    assert report.description["dropped"]["exact duplicate of another row"] == 39
    splits = rows_of(tmp_path / "data")
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not {r["conversation_id"] for r in splits[a]} & {
            r["conversation_id"] for r in splits[b]
        }


def test_the_same_input_gives_the_same_bytes_whatever_its_order(tmp_path):
    rows = conversations(150)
    for name, order in (("a", rows), ("b", rows[::-1])):
        build(tmp_path, order, "conversation", out=name)
    for split in ("train", "validation", "test"):
        first, second = ((tmp_path / n / f"{split}.parquet").read_bytes() for n in "ab")
        assert first == second


def test_another_seed_gives_another_choice(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        build(tmp_path, conversations(150), out=name, seed=seed)
    first, second = (rows_of(tmp_path / n)["test"] for n in "ab")
    assert first != second


def test_unknown_and_unnamed_models_are_counted_and_left_out(tmp_path):
    rows = conversations(100)
    rows += [turn("u", 1, "who knows", "mystery-9"), turn("v", 1, "who cares", "auto")]
    dropped = build(tmp_path, rows).description["dropped"]
    assert dropped["model not in the catalog"] == 1
    assert dropped["names no model"] == 1


def test_cancelled_turns_stay_and_empty_messages_go(tmp_path):
    rows = conversations(100)
    rows += [turn("e", 1, "   ", "o3"), turn("k", 1, "kept though cancelled", "o3")]
    rows[-1]["response_type"] = "cancelled"
    report = build(tmp_path, rows, size=1000)
    assert report.description["dropped"]["empty message"] == 1


def test_the_card_and_description_tell_the_composition(tmp_path):
    report = build(tmp_path, conversations(200))
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert described == report.description
    card = (tmp_path / "data" / "README.md").read_text()
    assert "Label **0 = reasoning**, **1 = fast**" in card
    drawings = re.findall(r"\]\((plots/[a-z]+\.svg)\)", card)
    assert len(drawings) == 5
    assert all((tmp_path / "data" / drawing).is_file() for drawing in drawings)
    assert "100,000 rows were asked for" in card


def test_a_second_run_is_up_to_date_until_the_catalog_changes(tmp_path):
    rows = conversations(100)
    assert build(tmp_path, rows).fresh
    assert not build(tmp_path, rows).fresh
    own = {"pattern": "o3", "provider": "me", "family": "o", "class": "fast"}
    mine = load_catalog({"model": [own], "unnamed": []})
    with pytest.raises(RecordError, match="0 reasoning, 100 fast"):
        build(tmp_path, rows, catalog=mine)
    assert (tmp_path / "data" / MANIFEST_NAME).is_file(), "the earlier output is lost"


def test_one_class_alone_is_refused(tmp_path):
    with pytest.raises(RecordError, match="expected both labels"):
        build(tmp_path, [turn(f"c{n}", 1, f"m{n}", "o3") for n in range(50)])
    assert not (tmp_path / "data").exists()


def test_outcomes_of_one_label_are_refused_with_what_to_do_about_outcomes(tmp_path):
    rows = [row | {"fast_score": 0.9} for row in measured()]
    with pytest.raises(RecordError, match=r"0 reasoning, 200 fast .* or another --margin"):
        build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")


def test_a_log_of_empty_messages_is_refused_with_what_was_left_out(tmp_path):
    with pytest.raises(RecordError, match="0 usable rows; left out: 50 empty message; exp"):
        build(tmp_path, [turn(f"c{n}", 1, " ", "o3") for n in range(50)])


def test_a_log_too_short_for_three_splits_is_refused(tmp_path):
    with pytest.raises(RecordError, match="leave nothing for"):
        build(tmp_path, conversations(4))


def test_a_table_that_is_not_turns_is_refused(tmp_path):
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=r"no column conversation_id.*turnout ingest"):
        build_from_turns(
            tmp_path / "p.parquet", tmp_path / "d", architecture="session", catalog=CATALOG
        )


@pytest.mark.parametrize(("ratio", "size"), [((0, 1), 10), ((1, 1), 1)])
def test_a_size_or_ratio_that_makes_no_sense_is_refused(tmp_path, ratio, size):
    with pytest.raises(SettingsError, match="expected a size of at least 2"):
        build(tmp_path, conversations(10), ratio=ratio, size=size)


def test_a_split_is_as_asked_for(tmp_path):
    build(tmp_path, conversations(900), split=(60, 10, 30), size=600)
    sizes = {name: len(rows) for name, rows in rows_of(tmp_path / "data").items()}
    assert sizes["train"] == 360
    assert sizes["validation"] <= 60 < 120 < sizes["test"] <= 180


@pytest.mark.parametrize("split", [(80, 20, 0), (1, 1)])
def test_a_split_without_all_three_parts_is_refused(tmp_path, split):
    with pytest.raises(SettingsError, match="expected three parts above zero"):
        build(tmp_path, conversations(10), split=split)


@given(st.text(max_size=20), st.integers(0, 99))
def test_a_conversation_always_falls_into_the_same_split(conversation_id, seed):
    shares = (0.8, 0.1, 0.1)
    first = split_of(conversation_id, seed, shares)
    assert first == split_of(conversation_id, seed, shares)


def candidates(cells):
    made = []
    for (stratum, label), n in cells.items():
        for at in range(n):
            key = f"{stratum}{label}{at:03}"
            values = {"stratum": stratum, "label": label, "message": key, "context": ""}
            made.append(Candidate(values, key, key, key, key, Cell(label, stratum, "")))
    return made


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1])), st.integers(0, 30), min_size=1
    ),
    st.integers(2, 60),
    st.sampled_from([(1, 1), (1, 4), (3, 2)]),
    st.booleans(),
)
def test_balancing_keeps_the_ratio_and_uses_no_row_twice(cells, size, ratio, inside):
    rows = candidates(cells)
    taken = balanced(rows, size, ratio, inside=inside)
    counts = Counter(c.cell.label for c in taken)
    assert len({c.order_key for c in taken}) == len(taken) <= size
    if len(taken) == size:
        assert abs(counts[0] * sum(ratio) - size * ratio[0]) <= sum(ratio) / 2
    else:
        assert counts[0] * ratio[1] == counts[1] * ratio[0]


@given(st.integers(2, 60), st.sampled_from([(1, 1), (1, 4), (3, 2)]), st.booleans())
def test_balancing_gives_every_row_of_the_size_where_there_are_enough(size, ratio, inside):
    rows = candidates({(stratum, label): 60 for stratum in "abc" for label in (0, 1)})
    assert len(balanced(rows, size, ratio, inside=inside)) == size


def outcomes(tmp_path, rows):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def measured(n=200):
    return [
        {
            "prompt": f"question {at}",
            "reasoning_score": 0.9,
            "fast_score": 0.9 if at % 4 else 0.1,
            "group": f"g{at % 2}",
        }
        for at in range(n)
    ]


def test_the_target_of_measured_outcomes_is_the_gap(tmp_path):
    build_from_outcomes(outcomes(tmp_path, measured()), tmp_path / "data")
    rows = [row for split in rows_of(tmp_path / "data").values() for row in split]
    assert len(rows) == 200, "nothing is thrown away to balance"
    for row in rows:
        hard = int(row["message"].split()[1]) % 4 == 0
        assert row["label"] == (0 if hard else 1)
        assert row["target"] == pytest.approx(0.9 if hard else 0.5)
    assert DatasetFolder.read(tmp_path / "data").measures_outcomes


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl.gz"])
def test_outcomes_of_any_table_give_the_same_data_set(tmp_path, name):
    rows = [row | {"target": None, "weight": 0.5 + at % 3} for at, row in enumerate(measured(80))]
    for at, row in enumerate(rows):
        if at % 3 == 0:
            row |= {"reasoning_score": None, "fast_score": None, "target": at / 80}
        if at % 5 == 0:
            row |= {"group": None, "prompt": f'{row["prompt"]}, "quoted",\non two lines'}
    build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")
    if name.endswith(".csv"):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        with gzip.open(tmp_path / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    build_from_outcomes(tmp_path / name, tmp_path / "again")
    assert rows_of(tmp_path / "again") == rows_of(tmp_path / "data")


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
        build_from_outcomes(tmp_path / "p.csv", tmp_path / "data")


def test_text_that_no_table_can_hold_is_mended_in_outcomes(tmp_path):
    rows = [*measured(80), measured(1)[0] | {"prompt": "half \ud83d and\0nothing", "group": 7}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_from_outcomes(tmp_path / "p.jsonl", tmp_path / "data")
    found = {r["message"]: r for split in rows_of(tmp_path / "data").values() for r in split}
    assert found["half ? andnothing"]["group"] == "7"


def test_a_number_beyond_all_floats_is_refused(tmp_path):
    row = measured(1)[0] | {"fast_score": 10**400}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    with pytest.raises(RecordError, match=r"p\.jsonl:1: fast_score is 1000.*; expected a number"):
        build_from_outcomes(tmp_path / "p.jsonl", tmp_path / "data")


def test_a_map_of_no_field_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="--map: found promt; expected one of prompt, "):
        build_from_outcomes(
            outcomes(tmp_path, measured()), tmp_path / "data", columns={"promt": "q"}
        )


def test_the_steps_of_a_build_from_outcomes_are_told(tmp_path):
    told = []
    source = outcomes(tmp_path, measured())
    build_from_outcomes(source, tmp_path / "data", on_progress=lambda *what: told.append(what))
    steps = ("1 of 3: read outcomes", "2 of 3: compare rows", "3 of 3: write")
    assert told == [what for step in steps for what in ((step, 0, None), (step, 1, 1))]


def test_measured_rows_weigh_the_same_by_default(tmp_path):
    build_from_outcomes(outcomes(tmp_path, measured()), tmp_path / "data")
    assert {r["weight"] for split in rows_of(tmp_path / "data").values() for r in split} == {1.0}


def test_a_prompt_that_nobody_solves_carries_no_label(tmp_path):
    rows = [*measured(), {"prompt": "p", "reasoning_score": 0.1, "fast_score": 0.1, "group": "g0"}]
    build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")
    found = [r for split in rows_of(tmp_path / "data").values() for r in split]
    assert next(r for r in found if r["message"] == "p")["label"] is None


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan"), None])
def test_a_score_outside_its_range_is_refused_with_its_row(tmp_path, bad):
    rows = measured(20)
    rows[6]["fast_score"] = bad
    with pytest.raises(
        RecordError, match=r"row 7: fast_score is .*; expected a number in \[0, 1\]"
    ):
        build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")


def test_a_row_may_state_its_target_in_place_of_scores(tmp_path):
    stated = [{"prompt": f"stated {at}", "target": 0.7, "group": "g2"} for at in range(50)]
    scored = [r | {"target": None} for r in measured()]
    build_from_outcomes(outcomes(tmp_path, [*scored, *stated]), tmp_path / "data")
    found = {r["message"]: r for split in rows_of(tmp_path / "data").values() for r in split}
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert description["stated_targets"] == 50
    told = found["stated 7"]
    assert told["target"] == pytest.approx(0.7)
    assert told["label"] is None
    assert told["evidence"] == ["stated_target"]
    assert found["question 4"]["target"] == pytest.approx(0.9), "no target: the gap"


def test_a_stated_target_goes_before_the_gap_and_leaves_the_label(tmp_path):
    rows = [r | {"target": 0.25} for r in measured()]
    build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")
    found = [r for split in rows_of(tmp_path / "data").values() for r in split]
    assert {r["target"] for r in found} == {0.25}
    assert {r["label"] for r in found} == {0, 1}


def test_weights_of_the_rows_are_kept_as_they_are(tmp_path):
    rows = [r | {"weight": 0.5 + at % 3} for at, r in enumerate(measured())]
    build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")
    for split in rows_of(tmp_path / "data").values():
        for row in split:
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
        build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data")


def test_columns_may_have_other_names(tmp_path):
    rows = [{"q": r["prompt"], "r": r["reasoning_score"], "f": r["fast_score"]} for r in measured()]
    columns = {"prompt": "q", "reasoning_score": "r", "fast_score": "f"}
    report = build_from_outcomes(outcomes(tmp_path, rows), tmp_path / "data", columns=columns)
    assert report.description["rows"] == 200


def test_a_missing_outcome_column_is_named(tmp_path):
    with pytest.raises(RecordError, match="no column reasoning_score, fast_score; found prompt"):
        build_from_outcomes(outcomes(tmp_path, [{"prompt": "x"}]), tmp_path / "data")


def test_a_damaged_table_of_outcomes_is_refused(tmp_path):
    source = outcomes(tmp_path, measured())
    whole = bytearray(source.read_bytes())
    whole[4:400] = bytes(396)
    source.write_bytes(whole)
    with pytest.raises(RecordError, match=r"p\.parquet: not readable"):
        build_from_outcomes(source, tmp_path / "data")


def test_a_margin_out_of_range_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="--margin: found 0"):
        build_from_outcomes(outcomes(tmp_path, measured()), tmp_path / "data", margin=0)
