"""A data set from turns: balanced, split by conversation, no leak."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.sets import CATALOG, build_folder, dataset, rows_of, splits_of
from tests.tables import turn
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.dataset.balancing import balanced
from turnout.dataset.candidates import Candidate
from turnout.dataset.card import card
from turnout.dataset.cells import Cell
from turnout.dataset.description import usage_sentence
from turnout.dataset.groups import split_of
from turnout.errors import RecordError, SettingsError
from turnout.manifest import MANIFEST_NAME
from turnout.records import Turn
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.samples import DatasetFolder
from turnout.schema import LABELS

pytestmark = pytest.mark.slow  # many seconds in all

MODELS = ("o3", "gpt-4o")


def turns_of(number, turns):
    return [
        turn(
            f"c{number}",
            index,
            f"message {index} of {number}",
            MODELS[number % 2],
            assistant_message="ok",
        )
        for index in range(1, turns + 1)
    ]


def conversations(n, turns=3):
    return [row for number in range(n) for row in turns_of(number, number % turns + 1)]


def build(tmp_path, rows, architecture="session", **options):
    return dataset(tmp_path, rows, architecture=architecture, **options)


@pytest.fixture(scope="module")
def session():
    with TemporaryDirectory() as folder:
        return build(Path(folder), conversations(200))


@pytest.fixture(scope="module")
def conversation():
    with TemporaryDirectory() as folder:
        return build(Path(folder), conversations(200), "conversation")


def test_a_session_data_set_has_one_row_a_conversation_the_first_message_alone(session):
    rows = rows_of(session)
    ids = [row["conversation_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {(row["turn_index"], row["context"]) for row in rows} == {(1, "")}


def test_a_conversation_data_set_has_every_turn_with_its_index_and_previous_turns(conversation):
    rows = rows_of(conversation)
    third = next(row for row in rows if row["turn_index"] == 3)
    number = third["conversation_id"][1:]
    assert third["context"] == (
        "turn three, history 30, answer 0, message 0"
        f" | message 2 of {number} | message 1 of {number}"
    )


@pytest.fixture(scope="module")
def long_conversations(tmp_path_factory):
    """The folder of a data set of conversations with more turns than are kept."""
    folder = tmp_path_factory.mktemp("long")
    rows = [row for number in range(40) for row in turns_of(number, MAX_STORED_TURNS + 2)]
    build_folder(folder, rows, "conversation")
    return folder / "data"


def test_the_turns_before_a_sample_are_kept_newest_first_with_their_answers(long_conversations):
    data = DatasetFolder.read(long_conversations)
    split, all_previous = data.split("train"), data.previous("train")
    assert max(split.turn_indices) > MAX_STORED_TURNS + 1
    for cid, index, previous in zip(
        split.conversation_ids, split.turn_indices, all_previous, strict=True
    ):
        first = max(1, index - MAX_STORED_TURNS)
        assert previous == tuple(
            Turn(f"message {n} of {cid[1:]}", "ok") for n in range(index - 1, first - 1, -1)
        )


def test_a_data_set_that_kept_no_previous_turns_says_so(tmp_path, long_conversations):
    shutil.copytree(long_conversations, tmp_path / "data")
    file = tmp_path / "data" / "test.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["previous"]), file)
    data = DatasetFolder.read(tmp_path / "data")
    assert data.previous("test") is None
    assert len(data.split("test"))


def test_labels_follow_the_class_of_the_model(session):
    for row in rows_of(session):
        assert row["label"] == (0 if row["model"] == "o3" else 1)
        assert row["target"] == 1 - row["label"]


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_every_split_is_balanced(tmp_path, architecture):
    rows = conversations(300) + [turn(f"x{n}", 1, f"extra {n}", "o3") for n in range(100)]
    data = build(tmp_path, rows, architecture, size=200)
    for name, split in splits_of(data).items():
        counts = Counter(row["label"] for row in split)
        assert counts[0] == counts[1] > 0, name


def test_training_rows_of_every_turn_count_are_balanced(tmp_path):
    rows = [
        turn(
            f"c{number}",
            index,
            f"m {index} {number}",
            MODELS[number % (2 if number % 3 else 4) == 0],
        )
        for number in range(300)
        for index in range(1, 1 + (number % 3) * 4 + 1)
    ]
    data = build(tmp_path, rows, "conversation", size=400)
    by_stratum = Counter((row["stratum"], row["label"]) for row in splits_of(data)["train"])
    for stratum in {s for s, _ in by_stratum}:
        assert by_stratum[stratum, 0] == by_stratum[stratum, 1]


def test_a_ratio_other_than_even_is_kept(tmp_path):
    data = build(tmp_path, conversations(400), ratio=(1, 4), size=200)
    counts = Counter(row["label"] for row in splits_of(data)["train"])
    assert counts == {0: 32, 1: 128}


def test_no_conversation_and_no_text_stands_in_two_splits(tmp_path):
    rows = conversations(300)
    rows += [turn(f"same{n}", 1, "the same  words", MODELS[n % 2]) for n in range(40)]
    data = build(tmp_path, rows, "conversation")
    assert data.description["leaks"] == {"conversations": 0, "texts": 0, "users": 0}
    assert data.description["dropped"]["exact duplicate of another row"] == 39
    splits = splits_of(data)
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not {r["conversation_id"] for r in splits[a]} & {
            r["conversation_id"] for r in splits[b]
        }


def test_the_same_input_gives_the_same_rows_whatever_its_order_and_another_seed_others(tmp_path):
    rows = conversations(150)
    first, second, other = (
        build(tmp_path, order, "conversation", seed=seed)
        for order, seed in ((rows, 0), (rows[::-1], 0), (rows, 1))
    )
    assert first == second
    assert first.tables != other.tables


def test_unknown_and_unnamed_models_are_counted_and_left_out(tmp_path):
    rows = conversations(100)
    rows += [turn("u", 1, "who knows", "mystery-9"), turn("v", 1, "who cares", "auto")]
    dropped = build(tmp_path, rows).description["dropped"]
    assert dropped["model not in the catalog"] == 1
    assert dropped["names no model that a person chose"] == 1


def test_cancelled_turns_stay_and_empty_messages_go(tmp_path):
    rows = conversations(100)
    rows += [turn("e", 1, "   ", "o3"), turn("k", 1, "kept though cancelled", "o3")]
    rows[-1]["response_type"] = "cancelled"
    data = build(tmp_path, rows, size=1000)
    assert data.description["dropped"]["empty message"] == 1


def test_the_card_and_description_tell_the_composition(tmp_path):
    report = build_folder(tmp_path, conversations(200))
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
    assert build_folder(tmp_path, rows).fresh
    assert not build_folder(tmp_path, rows).fresh
    own = {"pattern": "o3", "provider": "me", "family": "o", "class": "fast"}
    mine = load_catalog({"model": [own], "unnamed": []})
    with pytest.raises(RecordError, match="0 reasoning, 100 fast"):
        build_folder(tmp_path, rows, catalog=mine)
    assert (tmp_path / "data" / MANIFEST_NAME).is_file(), "the earlier output is lost"


@pytest.mark.parametrize("name", ["user_message=x", "turn_index=9", "reasoning_tokens=0"])
def test_a_folder_called_like_a_column_replaces_no_column(tmp_path, name):
    folder = tmp_path / name / "p_reasoning=0.25"
    folder.mkdir(parents=True)
    rows = conversations(100)
    labels = [
        {"conversation_id": row["conversation_id"], "turn_index": row["turn_index"],
         "p_reasoning": n % 2, "confidence": 1, "evidence": []}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    made = []
    for place in (tmp_path, folder):
        pq.write_table(pa.Table.from_pylist(labels, LABELS), place / "labels.parquet")
        made.append(build(place, rows, "conversation", labels=place / "labels.parquet"))
    assert made[0] == made[1]


def test_one_class_alone_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"expected both labels.*judge.*--outcomes.*--human"):
        build_folder(tmp_path, [turn(f"c{n}", 1, f"m{n}", "o3") for n in range(50)])
    assert not (tmp_path / "data").exists()


def test_a_log_of_empty_messages_is_refused_with_what_was_left_out(tmp_path):
    with pytest.raises(RecordError, match="0 usable rows; left out: 50 empty message; exp"):
        build(tmp_path, [turn(f"c{n}", 1, " ", "o3") for n in range(50)])


def test_a_log_too_short_for_three_splits_is_refused(tmp_path):
    with pytest.raises(RecordError, match="expected both labels in all three splits"):
        build(tmp_path, conversations(4))


def test_a_table_that_is_not_turns_is_refused(tmp_path):
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=r"no column conversation_id.*turnout ingest"):
        build_from_turns(
            tmp_path / "p.parquet", tmp_path / "d", architecture="session", catalog=CATALOG
        )


@pytest.mark.parametrize(("ratio", "size"), [((0, 1), 10), ((1, 1), 1)])
def test_a_size_or_ratio_that_makes_no_sense_is_refused(tmp_path, ratio, size):
    with pytest.raises(SettingsError, match="expected a whole size of at least 2"):
        build_folder(tmp_path, conversations(10), ratio=ratio, size=size)


def test_a_split_is_as_asked_for(tmp_path):
    data = build(tmp_path, conversations(900), shares=(0.6, 0.1, 0.3), size=600)
    sizes = {name: len(rows) for name, rows in splits_of(data).items()}
    assert sizes["train"] == 360
    assert sizes["validation"] <= 60 < 120 < sizes["test"] <= 180


@pytest.mark.parametrize("split", [(80, 20, 0), (1, 1)])
def test_a_split_without_all_three_parts_is_refused(tmp_path, split):
    with pytest.raises(SettingsError, match="expected three parts above zero"):
        build_folder(tmp_path, conversations(10), split=split)


def test_a_conversation_always_falls_into_the_same_split_and_each_split_has_its_share():
    shares = (0.7, 0.1, 0.2)
    splits = [split_of(f"c{n}", 5, shares) for n in range(4000)]
    assert splits == [split_of(f"c{n}", 5, shares) for n in range(4000)]
    for name, share in zip(("train", "validation", "test"), shares, strict=True):
        assert splits.count(name) / 4000 == pytest.approx(share, abs=0.03)
    assert splits != [split_of(f"c{n}", 6, shares) for n in range(4000)]


def candidates(cells):
    made = []
    for (stratum, label), n in cells.items():
        for number in range(n):
            key = f"{stratum}{label}{number:03}"
            values = {"stratum": stratum, "label": label, "message": key, "context": ""}
            made.append(Candidate(values, key, key, key, Cell(label, stratum, "")))
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


def test_the_header_leaves_answers_out_where_most_of_the_log_has_none(tmp_path):
    rows = [row | {"assistant_message": None} for row in conversations(200)]
    data = build(tmp_path, rows, "conversation")
    third = next(row for row in rows_of(data) if row["turn_index"] == 3)
    assert third["context"].startswith("turn three, history 30, message 0 | ")


def counted(usage):
    return usage["used"] + sum(usage["not_used"].values())


@pytest.mark.parametrize(
    ("size", "begins"),
    [
        pytest.param(1000, "100 of 101 labelled turns are used (99 %).", id="nearly all"),
        pytest.param(
            60,
            "60 of 101 labelled turns are used (59 %, as many as were asked for).",
            id="a small size",
        ),
    ],
)
def test_how_many_labelled_turns_are_used_is_said_with_every_reason(tmp_path, size, begins):
    rows = conversations(100)
    rows += [turn("u", 1, "who knows", "mystery-9"), turn("e", 1, " ", "o3")]
    described = build(tmp_path, rows, size=size).description
    usage = described["usage"]
    assert usage_sentence(described) == begins
    assert counted(usage) == usage["labelled"] == 101
    assert usage["labelled"] + sum(usage["not_taken"].values()) == usage["turns"] == len(rows)
    assert usage["not_used"]["empty message"] == 1
    later = sum(row["turn_index"] > 1 for row in rows)
    assert usage["not_taken"] == {
        "not the first turn of a conversation": later, "model not in the catalog": 1,
    }  # fmt: skip
    page = card(described)
    assert f"**{begins}**" in page
    assert "| not used | empty message | 1 |" in page
    assert f"| **all** |  | {len(rows):,} |" in page


def test_where_all_labelled_turns_are_used_that_is_said(tmp_path):
    described = build(tmp_path, conversations(100)).description
    assert usage_sentence(described) == "All 100 labelled turns are used."


def test_a_third_of_the_labels_lost_is_said_at_once():
    lost = {"exact duplicate of another row": 30, "beyond the size asked for": 10}
    described = {"source": "turns", "usage": {"used": 50, "labelled": 90, "not_used": lost}}
    assert usage_sentence(described) == "Only 50 of 90 labelled turns are used (55 %)."


def test_a_log_without_first_turns_says_that_a_session_router_needs_them(tmp_path):
    rows = [
        turn(f"c{number}", 2, f"and then {number}", "o3" if number % 2 else "gpt-4o")
        for number in range(20)
    ]
    with pytest.raises(RecordError, match="none of 20 turns is the first of its conversation"):
        build(tmp_path, rows)
