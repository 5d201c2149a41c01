"""A data set from conversations whose turns were measured."""

import csv
import json
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.sets import dataset_from_outcomes, rows_of, splits_of
from turnout.dataset.description import usage_sentence
from turnout.errors import RecordError
from turnout.records import Turn
from turnout.routing import Formatter

TOPICS = ("ports", "leases", "gears", "tides", "bonds", "moths", "looms", "kilns")


def conversation(number, turn_index):
    """The messages of a conversation up to one of its turns."""
    topic = TOPICS[number % len(TOPICS)]
    messages = [{"role": "system", "content": "You know everything."}]
    for index in range(1, turn_index + 1):
        messages += [
            {"role": "user", "content": f"question {index} about {topic} of case {number}"},
            {"role": "assistant", "content": f"answer {index} of case {number}"},
        ]
    return messages[:-1]


def measured_turns(conversations=60, turns=3, groups=12):
    return [
        {
            "conversation_id": f"case-{number}",
            "messages": conversation(number, index),
            "reasoning_score": 0.9,
            "fast_score": 0.2 if (number + index) % 3 else 0.8,
            "cv_group": f"fold-{number % groups}",
        }
        for number in range(conversations)
        for index in range(1, turns + 1)
    ]


def written(folder, rows):
    path = folder / "turns.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(folder, rows, architecture="conversation", **options):
    return dataset_from_outcomes(written(folder, rows), architecture=architecture, **options)


def test_every_measured_turn_is_a_row_read_as_a_server_would_read_it(tmp_path):
    source = measured_turns()
    data = build(tmp_path, source)
    rows = {(row["conversation_id"], row["turn_index"]): row for row in rows_of(data)}
    assert len(rows) == len(source)
    third = rows["case-7", 3]
    turns = [
        Turn(f"question {n} about kilns of case 7", f"answer {n} of case 7") for n in (1, 2, 3)
    ]
    shown = Formatter("conversation").format(turns)
    assert (third["message"], third["context"]) == (shown.message, shown.context)
    assert [turn["assistant_message"] for turn in third["previous"]] == [
        "answer 2 of case 7", "answer 1 of case 7",
    ]  # fmt: skip
    assert third["target"] == pytest.approx((0.9 - 0.2 + 1) / 2)
    assert third["label"] == 0
    assert (third["turn_count"], third["position"], third["cv_group"]) == (3, "late", "fold-7")


def test_a_session_router_learns_from_first_turns_and_the_others_are_counted(tmp_path):
    data = build(tmp_path, measured_turns(), "session")
    assert {(row["turn_index"], row["context"]) for row in rows_of(data)} == {(1, "")}
    assert data.description["rows"] == 60
    assert data.description["dropped"] == {"not the first turn of a conversation": 120}


def test_messages_may_be_json_text_in_a_csv_or_lists_in_parquet(tmp_path):
    rows = measured_turns(40)
    whole = build(tmp_path, rows)
    with (tmp_path / "turns.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"messages": json.dumps(row["messages"])} for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "turns.parquet")
    for name in ("turns.csv", "turns.parquet"):
        again = dataset_from_outcomes(tmp_path / name, architecture="conversation")
        assert again.tables == whole.tables, name


def test_no_conversation_and_no_cv_group_stands_in_two_splits(tmp_path):
    splits_by_group = defaultdict(set)
    for name, rows in splits_of(build(tmp_path, measured_turns())).items():
        assert {row["label"] for row in rows} == {0, 1}, name
        for row in rows:
            splits_by_group["conversation", row["conversation_id"]].add(name)
            splits_by_group["cv_group", row["cv_group"]].add(name)
    assert {len(names) for names in splits_by_group.values()} == {1}


def test_without_conversation_ids_turns_with_one_beginning_are_one_conversation(tmp_path):
    rows = [
        {name: value for name, value in row.items() if name not in ("conversation_id", "cv_group")}
        for row in measured_turns()
    ]
    data = build(tmp_path, rows)
    assert len({row["conversation_id"] for row in rows_of(data)}) == 60
    assert data.description["leaks"]["conversations"] == 0
    assert {row["turn_count"] for row in rows_of(data)} == {3}


def test_prompts_and_conversations_may_stand_in_one_file(tmp_path):
    prompts = [
        {"prompt": f"alone {n}", "reasoning_score": 0.9, "fast_score": 0.9} for n in range(20)
    ]
    data = build(tmp_path, [*measured_turns(), *prompts])
    alone = [row for row in rows_of(data) if row["message"].startswith("alone")]
    assert len(alone) == 20
    assert {row["context"] for row in alone} == {""}


def test_a_row_may_state_its_label_and_null_says_that_neither_was_shown(tmp_path):
    rows = measured_turns()
    for row, label in zip(rows, [0, "fast", None] * len(rows), strict=False):
        row["label"] = label
    labels = {
        (row["conversation_id"], row["turn_index"]): row["label"]
        for row in rows_of(build(tmp_path, rows))
    }
    assert [labels["case-0", index] for index in (1, 2, 3)] == [0, 1, None]


def test_a_turn_that_asks_with_an_image_alone_is_an_empty_message(tmp_path):
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    asked = measured_turns(1, 2)[1]
    asked |= {"conversation_id": "seen", "messages": [*conversation(0, 2), asked["messages"][2]]}
    rows = [*measured_turns(), asked | {"messages": [*asked["messages"], image]}]
    data = build(tmp_path, rows)
    assert data.description["dropped"] == {"empty message": 1}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        pytest.param(
            [{"role": "robot", "content": "x"}],
            r"messages\[0\].role: found 'robot'; expected one of system, ",
            id="role",
        ),
        pytest.param(
            [{"role": "assistant", "content": "x"}],
            "expected at least one message with the role user",
            id="nobody asks",
        ),
        pytest.param("not JSON", "expected a list of messages", id="text"),
        pytest.param("[1]", r"messages\[0\]: found int", id="no message"),
        pytest.param([], "expected at least one message with the role user", id="none"),
    ],
)
def test_messages_that_are_none_are_refused_with_their_row(tmp_path, messages, said):
    rows = measured_turns(20)
    rows[6]["messages"] = messages
    with pytest.raises(RecordError, match=rf"turns\.jsonl:7: .*{said}"):
        build(tmp_path, rows)


def test_of_measured_rows_too_it_is_said_how_many_are_used(tmp_path):
    described = build(tmp_path, measured_turns(), "session").description
    assert described["usage"] == {
        "turns": 180,
        "labelled": 60,
        "used": 60,
        "not_used": {},
        "not_taken": {"not the first turn of a conversation": 120},
    }
    assert usage_sentence(described) == "All 60 measured rows are used."


def test_a_few_large_groups_are_enough_for_three_splits(tmp_path):
    data = build(tmp_path, measured_turns(groups=3))
    groups = {name: {row["cv_group"] for row in rows} for name, rows in splits_of(data).items()}
    assert sorted(map(len, groups.values())) == [1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(
            measured_turns(1, 6), "They have one conversation, and each stays in one split",
            id="one conversation",
        ),
        pytest.param(
            measured_turns(groups=1),
            "They have one value of cv_group.* Use rows of more of them, or rename the column",
            id="one cv_group",
        ),
        pytest.param(
            [row | {"label": None} for row in measured_turns()],
            "0 reasoning, 0 fast among 180 usable rows; expected both labels",
            id="no label",
        ),
        pytest.param(
            [row | {"label": "fast"} for row in measured_turns()],
            "0 reasoning, .* Use rows of both labels: the table's own labels count",
            id="one label of its own",
        ),
        pytest.param(
            [
                row | {"label": 0 if row["conversation_id"] == "case-3" else 1}
                for row in measured_turns()
            ],
            "leave validation without reasoning, test without reasoning.* Rows with reasoning have "
            "one conversation, and each stays in one split",
            id="one label in one conversation",
        ),
    ],
)  # fmt: skip
def test_rows_that_cannot_give_three_splits_are_refused_with_what_to_do(tmp_path, rows, said):
    with pytest.raises(RecordError, match=said):
        build(tmp_path, rows)
