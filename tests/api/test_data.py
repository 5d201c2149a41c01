"""Tables in memory → data sets in memory."""

import doctest
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import turnout as tn
from turnout.api import data as api_data
from turnout.errors import RecordError, SettingsError
from turnout.samples import DatasetFolder

pytestmark = pytest.mark.slow

TOPICS = ("ports", "leases", "gears", "tides", "bonds", "moths", "looms", "kilns")


def scored(n=100):
    return pd.DataFrame(
        {
            "id": np.arange(n) + 1000,
            "prompt": [f"question {number} about {TOPICS[number % 8]}" for number in range(n)],
            "gpt5": 0.9,
            "mini": [0.2 if number % 3 == 0 else 0.8 for number in range(n)],
            "task": [TOPICS[number % 8] for number in range(n)],
        }
    )


def splits(data):
    return {"train": data.train, "validation": data.validation, "test": data.test}


def test_a_data_frame_of_scores_becomes_three_splits():
    data = tn.from_outcomes(scored(), text="prompt", strong="gpt5", weak="mini", group="task")
    assert repr(data) == "Data(session: 80 train, 10 validation, 10 test)"
    assert data.architecture == "session"
    samples = data.train.samples
    assert set(samples.labels) == {0, 1}
    assert set(samples.groups) == set(TOPICS)
    assert samples.targets == pytest.approx(np.where(samples.labels == 0, 0.85, 0.55), abs=1e-6)
    assert data.train.measured


@pytest.mark.parametrize("kind", ["polars", "arrow", "mapping"])
def test_every_kind_of_table_gives_the_same_data(kind):
    frame = scored()
    other = {
        "polars": lambda: pl.from_pandas(frame),
        "arrow": lambda: pa.Table.from_pandas(frame),
        "mapping": lambda: frame.to_dict("list"),
    }[kind]()
    options = {"strong": "gpt5", "weak": "mini", "group": "task", "seed": 3}
    first, again = (tn.from_outcomes(table, **options) for table in (frame, other))
    for name, split in splits(first).items():
        assert split.table.equals(splits(again)[name].table)


def test_every_sample_says_which_row_it_came_from():
    frame = scored()
    data = tn.from_outcomes(frame, strong="gpt5", weak="mini")
    rows = [row for split in splits(data).values() for row in split.rows]
    assert sorted(rows) == list(range(100))
    messages = [sample.message for sample in data.test.samples.inputs]
    assert list(frame["prompt"].iloc[data.test.rows]) == messages


def test_a_split_becomes_a_table_of_any_library():
    data = tn.from_outcomes(scored(), strong="gpt5", weak="mini")
    assert pl.DataFrame(data.test).height == len(data.test) == 10
    assert len(pd.DataFrame.from_arrow(data.test)) == 10
    assert pa.table(data.test).equals(data.test.table)


def test_rows_stay_in_a_split_of_ones_own_and_what_leaks_is_counted():
    frame = scored()
    frame["part"] = ["train", "train", "validation", "test"] * 25
    frame.loc[3, "prompt"] = frame.loc[0, "prompt"]
    data = tn.from_outcomes(frame, strong="gpt5", weak="mini", split="part")
    for name, split in splits(data).items():
        assert set(frame["part"].iloc[split.rows]) == {name}
    assert sum(map(len, splits(data).values())) == 100
    assert data.description["leaks"]["texts"] == 1


def test_a_split_of_another_name_is_refused_with_its_row():
    frame = scored()
    frame["part"] = "train"
    frame.loc[6, "part"] = "holdout"
    said = "the table: row 6: part is 'holdout'; expected train or validation or test"
    with pytest.raises(RecordError, match=said):
        tn.from_outcomes(frame, strong="gpt5", weak="mini", split="part")


@pytest.mark.parametrize("as_text", [False, True])
def test_conversations_give_a_conversation_data_set(as_text):
    rows = []
    for number in range(120):
        messages = [{"role": "user", "content": f"first {number} of {TOPICS[number % 8]}"}]
        messages += [
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": f"then {number}"},
        ]
        for end in (1, 3):
            asked = messages[:end]
            rows.append(
                {"said": json.dumps(asked) if as_text else asked, "s": 0.9, "w": number % 2}
            )
    data = tn.from_outcomes(pd.DataFrame(rows), messages="said", strong="s", weak="w")
    assert data.architecture == "conversation"
    assert sum(map(len, splits(data).values())) == 240
    second = next(n for n, index in enumerate(data.train.samples.turn_indices) if index == 2)
    assert data.train.samples.inputs[second].context
    assert data.train.previous[second][0].assistant_message == "ok"


def turns(conversations=120):
    return pd.DataFrame(
        [
            {"chat": f"c{n}", "asked": f"ask {number} of {n}", "model": ("o3", "gpt-4o")[n % 2],
             "need": None if n % 5 == 0 else n % 3 == 0}
            for n in range(conversations)
            for number in range(1, 3 + n % 2)
        ]
    )  # fmt: skip


def test_turns_give_a_data_set_by_the_class_of_their_models():
    frame = turns()
    data = tn.from_turns(frame, text="asked", conversation="chat", architecture="conversation")
    assert sum(map(len, splits(data).values())) == len(frame)
    for split in splits(data).values():
        chosen = frame.iloc[split.rows]
        assert list(chosen["asked"]) == [sample.message for sample in split.samples.inputs]
        assert list(np.where(chosen["model"] == "o3", 0, 1)) == list(split.samples.labels)
    assert not data.train.measured


def test_turns_stay_in_a_split_of_ones_own_and_what_leaks_is_counted():
    frame = turns()
    parts = ["train", "train", "validation", "test"]
    frame["part"] = [parts[int(chat[1:]) // 10 % 4] for chat in frame["chat"]]
    frame.loc[1, "part"] = "test"  # a second turn, apart from its conversation
    names = {"text": "asked", "conversation": "chat", "architecture": "conversation"}
    data = tn.from_turns(frame, **names, split="part")
    for name, split in splits(data).items():
        assert set(frame["part"].iloc[split.rows]) == {name}
    assert sum(map(len, splits(data).values())) == len(frame)
    assert data.description["leaks"]["conversations"] == 1


def test_a_turn_in_two_splits_of_ones_own_is_refused_with_its_row():
    frame = turns().assign(part="train", turn=1)
    frame.loc[1, "part"] = "test"
    with pytest.raises(RecordError, match="row 1: part is 'test'; expected train, as an earlier"):
        tn.from_turns(frame, text="asked", conversation="chat", turn="turn", split="part")


def test_a_data_set_in_memory_needs_no_drawing_library():
    code = (
        "import sys, turnout as tn\n"
        "sys.modules['matplotlib'] = None  # as where the extra `report` is not installed\n"
        "data = tn.from_outcomes({'prompt': [f'question {n}' for n in range(40)], "
        "'reasoning_score': [0.9] * 40, 'fast_score': [0.2, 0.9] * 20})\n"
        "print(data)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.startswith("Data(session: 32 train"), shown.stderr


def test_turns_may_have_labels_of_their_own_and_need_no_model():
    frame = turns().drop(columns="model")
    frame["need"] = frame["need"].map({True: "reasoning", False: "fast"})
    data = tn.from_turns(frame, text="asked", conversation="chat", label="need")
    known = frame[(~frame["chat"].duplicated()) & frame["need"].notna()]
    assert sum(map(len, splits(data).values())) == len(known)
    assert data.description["dropped"]["no evidence in the labels"] == 24


def test_two_labels_of_one_turn_are_refused_with_their_row():
    frame = pd.DataFrame({"chat": ["a", "a"], "asked": "why?", "place": 1, "need": [0, 1]})
    with pytest.raises(RecordError, match="row 1: need is 1; expected 0, as an earlier row"):
        tn.from_turns(frame, text="asked", conversation="chat", turn="place", label="need")


def test_each_row_may_be_a_conversation_of_its_own():
    frame = turns().drop(columns=["chat", "model"]).assign(need=[0, 1] * 150)
    frame["turn_index"] = 2  # says nothing of a row that is a conversation
    data = tn.from_turns(frame, text="asked", conversation=None, label="need")
    assert sum(map(len, splits(data).values())) == len(frame)


def test_a_name_in_a_column_with_gaps_is_the_whole_number_that_it_was():
    frame = scored().assign(part=[float(n % 9) if n > 3 else None for n in range(100)])
    data = tn.from_outcomes(frame, strong="gpt5", weak="mini", group="part")
    assert {str(n) for n in range(9)} | {None} == set(
        name for split in splits(data).values() for name in split.samples.groups
    )


def test_a_table_may_come_through_the_dataframe_interchange():
    class Foreign:
        def __dataframe__(self, *args, **kwargs):
            return pa.Table.from_pandas(scored()).__dataframe__(*args, **kwargs)

    assert len(tn.from_outcomes(Foreign(), strong="gpt5", weak="mini").train) == 80


def test_conversations_with_one_first_message_need_names_to_be_apart():
    rows = [
        {"said": [{"role": "user", "content": "hi"}, {"role": "user", "content": f"why {n}"}],
         "s": 0.9, "w": n % 2, "chat": n}
        for n in range(40)
    ]  # fmt: skip
    for row in rows:
        row["said"].insert(1, {"role": "assistant", "content": "hello"})
    names = {"messages": "said", "strong": "s", "weak": "w"}
    with pytest.raises(RecordError, match=r"They have one .* name conversations in a col"):
        tn.from_outcomes(pd.DataFrame(rows), **names)
    assert len(tn.from_outcomes(pd.DataFrame(rows), **names, conversation="chat").train) == 32


def test_saved_data_is_the_folder_that_train_reads(tmp_path):
    data = tn.from_outcomes(scored(), strong="gpt5", weak="mini")
    data.save(tmp_path / "data")
    folder = DatasetFolder.read(tmp_path / "data")
    assert folder.split("train").inputs == data.train.samples.inputs
    assert folder.priors == data.train.priors


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda: tn.from_outcomes([1, 2]),
            SettingsError,
            "df: found list; expected a pandas or polars",
        ),
        (
            lambda: tn.from_outcomes(scored(), strong="gpt6", weak="mini"),
            RecordError,
            "the table: no column gpt6; found id, prompt, gpt5, mini, task. Give the name of one",
        ),
        (
            lambda: tn.from_outcomes(scored(), strong="gpt5", weak="id"),
            RecordError,
            "the table: row 0: id is 1000; expected a number in",
        ),
        (
            lambda: tn.from_turns(turns(), text="asked", conversation="chat", label="model"),
            RecordError,
            "the table: row 0: model is 'o3'; expected 0 or reasoning",
        ),
        (
            lambda: tn.from_turns(turns().assign(model="o3"), text="asked", conversation="chat"),
            RecordError,
            "the table: 120 reasoning, 0 fast among 120 usable rows",
        ),
        (
            lambda: tn.from_turns(turns(), text="asked", conversation="chat", user="who"),
            RecordError,
            "no column who",
        ),
        (
            lambda: tn.from_outcomes(pl.DataFrame(scored()).lazy(), strong="gpt5", weak="mini"),
            SettingsError,
            r"df: found LazyFrame; expected a table. Call its collect\(\) first",
        ),
        (
            lambda: tn.from_outcomes(pd.concat([scored(), scored()[["mini"]]], axis=1)),
            SettingsError,
            "more than one column is named mini",
        ),
        (
            lambda: tn.from_outcomes(scored()["prompt"]),
            SettingsError,
            r"df: found Series; expected a table. Call its to_frame\(\) first",
        ),
        (
            lambda: tn.from_outcomes({"prompt": ["a"], "gpt5": [0.1, 0.2], "mini": [1]}),
            RecordError,
            "expected columns of one length",
        ),
        (
            lambda: tn.from_outcomes({"prompt": ["a"], "reasoning_score": [2**70]}),
            RecordError,
            "df: not readable as Arrow",
        ),
        (
            lambda: tn.from_turns(
                {"chat": [["a"]], "asked": ["b"], "model": ["o3"]},
                text="asked",
                conversation="chat",
            ),
            RecordError,
            r"row 0: chat is \['a'\]",
        ),
        (
            lambda: tn.from_outcomes(scored().iloc[:0], strong="gpt5", weak="mini"),
            RecordError,
            "the table: no rows",
        ),
        (
            lambda: tn.from_outcomes(scored(), strong="gpt5", weak=scored()["mini"]),
            SettingsError,
            "weak: found Series; expected the name of a column",
        ),
        (
            lambda: tn.from_outcomes(scored(), text=None),
            SettingsError,
            "text: found NoneType; expected the name of a column",
        ),
        (
            lambda: tn.from_outcomes(scored(), strong="gpt5", weak="mini", split=0.2),
            SettingsError,
            "found a split of 0.2; expected three parts",
        ),
        (
            lambda: tn.from_outcomes(scored(), strong="gpt5", weak="mini", margin="0.1"),
            SettingsError,
            "margin: found '0.1'",
        ),
        (
            lambda: tn.from_turns(turns(), text="asked", conversation="chat", ratio=(0.3, 0.7)),
            SettingsError,
            "ratio 0.3:0.7; expected a whole size of at least 2 and two whole parts",
        ),
        (
            lambda: tn.from_turns(turns(), text="asked", conversation="chat", labels="l.parquet"),
            SettingsError,
            "labels: found str; expected a pandas",
        ),
        (
            lambda: tn.from_turns(turns().drop(columns="model"), text="asked", conversation="chat"),
            RecordError,
            "no column model; .* or of known labels with label=",
        ),
        (
            lambda: tn.from_outcomes(
                scored().assign(part="train"), strong="gpt5", weak="mini", split="part"
            ),
            RecordError,
            "leave validation without reasoning.* Put rows of both labels into each split",
        ),
    ],
)
def test_what_is_no_data_is_refused_with_its_place(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_the_examples_of_the_docstrings_give_what_they_say():
    assert doctest.testmod(api_data).failed == 0
