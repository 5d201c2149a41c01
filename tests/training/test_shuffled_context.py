"""First messages shown once more after another conversation's turns."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.training.conftest import rows, write_dataset, write_split
from turnout.records import ModelInput
from turnout.samples import DatasetFolder, Samples
from turnout.training.loop import SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.recipe import Recipe
from turnout.training.samples import MIN_ROWS_TO_SHUFFLE, read_dataset
from turnout.training.shuffled_context import SHUFFLED_SHARE, shuffled_context

pytestmark = pytest.mark.slow


def previous_turns(row):
    """The context after the header, which has the length of the message too."""
    return row.context.partition(" | ")[2]


def test_a_first_message_takes_the_place_of_another_conversations_message(tmp_path):
    dataset = DatasetFolder.read(write_dataset(tmp_path / "dataset", "conversation"))
    train = dataset.split("train")
    shown, messages = shuffled_context(dataset, train, seed=0)

    assert len(shown) > 0.9 * SHUFFLED_SHARE * len(train)
    first = {
        row.message: (label, owner)
        for row, label, owner, index in zip(
            train.inputs, train.labels, train.conversation_ids, train.turn_indices, strict=True
        )
        if index == 1
    }
    contexts = {
        previous_turns(row): owner
        for row, owner in zip(train.inputs, train.conversation_ids, strict=True)
    }
    for row, label, owner in zip(shown.inputs, shown.labels, shown.conversation_ids, strict=True):
        assert (label, owner) == first[row.message]
        assert contexts[previous_turns(row)] != owner
    assert (train.turn_indices[messages] == 1).all()
    assert [train.inputs[row].message for row in messages] == [row.message for row in shown.inputs]


def test_previous_turns_are_shown_in_their_order(tmp_path):
    folder = write_dataset(tmp_path / "dataset", "conversation")
    path = folder / "train.parquet"
    stored = pq.read_table(path).to_pylist()
    for row in stored:
        if row["turn_index"] > 1:
            row["previous"] = [{"user_message": "newer"}, {"user_message": "older"}]
    pq.write_table(pq.read_table(path).from_pylist(stored, pq.read_schema(path)), path)
    dataset = DatasetFolder.read(folder)

    shown, _ = shuffled_context(dataset, dataset.split("train"), seed=0)
    assert {previous_turns(row) for row in shown.inputs} == {"newer | older"}


def test_another_seed_pairs_others(tmp_path):
    dataset = DatasetFolder.read(write_dataset(tmp_path / "dataset", "conversation"))
    first, again, other = (
        shuffled_context(dataset, dataset.split("train"), seed).samples.inputs for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_session_data_set_has_no_history_to_show(tmp_path):
    dataset = DatasetFolder.read(write_dataset(tmp_path / "dataset", "session"))
    assert shuffled_context(dataset, dataset.split("train"), seed=0) is None


def test_a_data_set_that_keeps_no_previous_turns_trains_as_it_is(tmp_path):
    folder = write_dataset(tmp_path / "dataset", "conversation")
    path = folder / "train.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["previous"]), path)
    dataset = DatasetFolder.read(folder)
    assert shuffled_context(dataset, dataset.split("train"), seed=0) is None


def test_a_self_distilled_row_aims_half_at_its_label_and_half_at_the_score_of_the_message_alone():
    n = 400  # a message and, in the odd rows, the same after unrelated turns
    margins = torch.nn.Parameter(torch.tensor([4.0, 1.0]))
    model = torch.nn.ParameterList([margins])
    odd = np.arange(n) % 2
    samples = Samples(
        inputs=[ModelInput("x")] * n,
        conversation_ids=["c"] * n,
        turn_indices=np.ones(n, np.int32),
        groups=[None] * n,
        cv_groups=[None] * n,
        labels=odd.astype(np.int8),
        targets=np.float32(1 - odd),
        weights=np.float32(odd),  # the messages themselves are not learnt from
    )

    def logits(rows):
        half = margins[torch.from_numpy(odd[rows])] / 2
        return torch.stack([half, -half], 1)

    view = SplitView(samples, np.ones(n, np.int64), logits)
    recipe = Recipe(epochs=1, learning_rate=0.1, batch_size=4)
    sources = np.where(odd, 0, np.arange(n))
    fit(model, adamw(model, 0.1), replace(view, distilled_from=sources), view, recipe)

    alone, after = margins.detach()
    assert alone == 4.0, "the score aimed at is not moved towards the row"
    assert float(after.sigmoid()) == pytest.approx(0.5 * float(alone.sigmoid()), abs=0.02)


@pytest.mark.parametrize("architecture", ["session", "conversation"])
@pytest.mark.parametrize("missing", [0, 1])
def test_no_rows_are_added_to_few_rows_or_to_first_messages(tmp_path, architecture, missing):
    folder = write_dataset(tmp_path / "dataset", architecture)
    write_split(folder, "train", rows(MIN_ROWS_TO_SHUFFLE - missing, 0, architecture))
    added = read_dataset(folder, seed=0).shuffled is not None
    assert added == (architecture == "conversation" and not missing)
