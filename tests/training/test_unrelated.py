"""First messages shown again after another conversation."""

import json

import pyarrow.parquet as pq

from tests.training.conftest import write_dataset
from turnout.records import Turn
from turnout.samples import DatasetFolder
from turnout.training.unrelated import UNRELATED_SHARE, after_unrelated_turns


def test_a_first_message_takes_the_place_of_another_conversations_message(tmp_path):
    found = DatasetFolder.read(write_dataset(tmp_path / "dataset", "conversation"))
    train = found.split("train")
    shown = after_unrelated_turns(found, train, seed=0)

    assert len(shown) > 0.9 * UNRELATED_SHARE * len(train)
    first = {
        row.message: (label, owner)
        for row, label, owner, index in zip(
            train.inputs, train.labels, train.conversation_ids, train.turn_indices, strict=True
        )
        if index == 1
    }
    contexts = {
        row.context: owner for row, owner in zip(train.inputs, train.conversation_ids, strict=True)
    }
    for row, label, owner in zip(shown.inputs, shown.labels, shown.conversation_ids, strict=True):
        assert (label, owner) == first[row.message]
        assert contexts[row.context] != owner


def test_previous_turns_are_shown_in_their_order(tmp_path):
    folder = write_dataset(tmp_path / "dataset", "conversation")
    path = folder / "train.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["turn_index"] > 1:
            row["previous"] = [{"user_message": "newer"}, {"user_message": "older"}]
    pq.write_table(pq.read_table(path).from_pylist(rows, pq.read_schema(path)), path)
    found = DatasetFolder.read(folder)

    shown = after_unrelated_turns(found, found.split("train"), seed=0)
    assert {row.context for row in shown.inputs} == {
        found.formatter.format([Turn("older"), Turn("newer"), Turn("x")], 2).context
    }


def test_another_seed_pairs_others(tmp_path):
    found = DatasetFolder.read(write_dataset(tmp_path / "dataset", "conversation"))
    one, again, other = (
        after_unrelated_turns(found, found.split("train"), seed).inputs for seed in (0, 0, 1)
    )
    assert one == again != other


def test_a_session_data_set_has_no_history_to_show(tmp_path):
    found = DatasetFolder.read(write_dataset(tmp_path / "dataset", "session"))
    assert after_unrelated_turns(found, found.split("train"), seed=0) is None


def test_a_data_set_that_keeps_no_previous_turns_trains_as_it_is(tmp_path):
    folder = write_dataset(tmp_path / "dataset", "conversation")
    path = folder / "train.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["previous"]), path)
    found = DatasetFolder.read(folder)
    assert after_unrelated_turns(found, found.split("train"), seed=0) is None


def test_the_card_tells_how_many_rows_were_added(trained):
    architecture = json.loads((trained.dataset / "dataset.json").read_text())["architecture"]
    card = (trained.report.router / "README.md").read_text()
    assert (trained.report.unrelated_rows > 0) == (architecture == "conversation")
    assert ("after turns of another conversation" in card) == (architecture == "conversation")
