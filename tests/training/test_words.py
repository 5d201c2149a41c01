"""What words tell of rows that a linear model has not seen."""

import json
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.training.conftest import EASY, HARD, rows, write_dataset, write_split
from turnout.progress import silent
from turnout.records import ModelInput
from turnout.samples import Samples
from turnout.training import Recipe, train
from turnout.training.loop import WORDS_LEFT, SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.words import MIN_ROWS, Words, told_by_words


def samples_of(inputs, targets, conversations=None, weights=None):
    n = len(inputs)
    targets = np.asarray(targets, np.float32)
    return Samples(
        inputs=inputs,
        conversation_ids=conversations or [f"c{row}" for row in range(n)],
        turn_indices=np.ones(n, np.int32),
        groups=[None] * n,
        labels=(targets < 0.5).astype(np.int8),
        targets=targets,
        weights=np.ones(n, np.float32) if weights is None else np.float32(weights),
    )


def rule(n, seed=0):
    """Messages of hard and of easy words, and which are hard."""
    made = rows(n, seed)
    inputs = [ModelInput(row["message"]) for row in made]
    return inputs, np.asarray([row["label"] == 0 for row in made])


def test_words_outvote_labels_of_which_two_in_five_are_wrong():
    inputs, hard = rule(1000)
    wrong = np.random.default_rng(0).random(1000) < 0.4
    told, share = told_by_words(samples_of(inputs, hard ^ wrong), 0, silent)
    assert told.dtype == np.float32
    assert told.min() >= 0
    assert told.max() <= 1
    assert roc_auc_score(hard, told) > 0.9
    assert share > 0.25
    assert roc_auc_score(hard, hard ^ wrong) < 0.65


def test_rows_do_not_aim_at_what_words_tell_where_words_explain_the_labels():
    inputs, hard = rule(400)
    assert told_by_words(samples_of(inputs, hard), 0, silent).share == 0


def test_the_less_words_explain_the_more_rows_aim_at_them():
    inputs, hard = rule(1000)
    shares = [
        told_by_words(samples_of(inputs, hard ^ wrong), 0, silent).share
        for wrong in (np.random.default_rng(0).random(1000) < rate for rate in (0.38, 0.41, 0.44))
    ]
    assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_words_that_explain_nothing_are_aimed_at_wholly_and_tell_the_mean():
    draw = np.random.default_rng(0)
    inputs, _ = rule(400)
    told, share = told_by_words(samples_of(inputs, draw.random(400) < 0.5), 0, silent)
    assert share > 0.9
    assert np.abs(told - 0.5).mean() < 0.15


def test_no_row_tells_words_its_own_target():
    # Every message has a word of its own, so that whoever saw a row could tell its target.
    draw = np.random.default_rng(0)
    inputs = [ModelInput(f"word{row}") for row in range(300)]
    targets = draw.random(300) < 0.5
    assert roc_auc_score(targets, told_by_words(samples_of(inputs, targets), 0, silent).told) < 0.6


def test_no_row_tells_words_the_target_of_another_turn_of_its_conversation():
    draw = np.random.default_rng(0)
    conversations = [f"c{row // 2}" for row in range(400)]
    inputs = [ModelInput(f"word{row // 2}") for row in range(400)]
    targets = np.repeat(draw.random(200) < 0.5, 2)
    told, _ = told_by_words(samples_of(inputs, targets, conversations), 0, silent)
    assert roc_auc_score(targets, told) < 0.6


def test_words_of_previous_turns_count():
    draw = np.random.default_rng(0)
    hard = draw.random(400) < 0.5
    inputs = [
        ModelInput("go on", f"turn 2\n{draw.choice(HARD if needs else EASY)}") for needs in hard
    ]
    told, _ = told_by_words(samples_of(inputs, hard), 0, silent)
    assert roc_auc_score(hard, told) > 0.95


def test_rows_without_weight_teach_words_nothing():
    inputs, hard = rule(800)
    misleading = np.arange(800) % 3 != 0
    known = samples_of(inputs, np.where(misleading, ~hard, hard), weights=~misleading)
    told, _ = told_by_words(known, 0, silent)
    assert roc_auc_score(hard, told) > 0.9


@pytest.mark.parametrize("text", ["", "!?", "\u200b"])
def test_messages_without_words_get_the_mean(text):
    targets = np.arange(40) % 4 == 0
    told, _ = told_by_words(samples_of([ModelInput(text)] * 40, targets), 0, silent)
    assert told == pytest.approx(0.25, abs=0.1)


def test_a_single_conversation_keeps_its_targets():
    inputs, hard = rule(20)
    told, _ = told_by_words(samples_of(inputs, hard, ["c"] * 20), 0, silent)
    assert (told == hard).all()


def test_the_same_seed_gives_the_same_and_another_seed_other_folds():
    inputs, hard = rule(200)
    one, again, other = (
        told_by_words(samples_of(inputs, hard), seed, silent).told for seed in (0, 0, 1)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_progress_ends_where_it_said_it_would():
    inputs, hard = rule(40)
    seen = []
    told_by_words(samples_of(inputs, hard), 0, lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert {total for _, _, total in seen} == {len(seen) - 1}


def test_rows_aim_at_words_by_their_share_first_and_by_less_from_step_to_step():
    n, aims = 40, []
    samples = samples_of([ModelInput("x")] * n, np.ones(n))
    margin = torch.nn.Parameter(torch.zeros(1))

    def logits(shown):
        return torch.stack([margin.expand(len(shown)), -margin.expand(len(shown))], 1)

    words = Words(np.zeros(n, np.float32), share=0.8)
    view = SplitView(samples, np.ones(n, np.int64), logits, words)
    held = SplitView(samples_of([ModelInput("x")] * 2, [0, 1]), np.ones(2, np.int64), logits)
    model = torch.nn.ParameterList([margin])

    # At two logits of nought the slope of cross-entropy is one less twice the target.
    margin.register_hook(lambda slope: aims.append(float(1 - slope[0]) / 2))
    fit(model, adamw(model, 1e-12), view, held, Recipe(epochs=1, batch_size=1))
    assert aims[0] == pytest.approx(1 - 0.8, abs=1e-4)
    assert aims[n // 2] == pytest.approx(1 - 0.8 * (1 + WORDS_LEFT) / 2, abs=0.02)
    assert aims[-1] == pytest.approx(1 - 0.8 * WORDS_LEFT, abs=0.02)
    assert (samples.targets == 1).all(), "the rows keep their targets"


def coins(n, architecture="session"):
    """Rows whose label has nothing to do with their words."""
    draw = random.Random(0)
    labels = [draw.randrange(2) for _ in range(n)]
    return [
        row | {"label": label, "target": 1.0 - label}
        for row, label in zip(rows(n, 0, architecture), labels, strict=True)
    ]


def train_on(folder, base, *, on_progress=silent):
    recipe = Recipe(epochs=1, batch_size=64)
    out = folder.with_name("router")
    return train(folder, out, base=base, recipe=recipe, max_tokens=48, on_progress=on_progress)


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_a_run_on_wrong_labels_says_so_in_its_report_and_on_its_card(architecture, base, tmp_path):
    folder = write_dataset(tmp_path / "dataset", architecture)
    write_split(folder, "train", coins(MIN_ROWS, architecture))
    report = train_on(folder, base)
    assert (report.unrelated_rows > 0) == (architecture == "conversation")
    assert report.words_share > 0.5
    said = f"{report.words_share:.0%} is at first what words of other conversations tell"
    assert said in (report.router / "README.md").read_text()


def test_a_run_on_labels_that_words_explain_says_nothing_of_words(dataset, base):
    write_split(dataset, "train", rows(MIN_ROWS, 0))
    steps = set()
    report = train_on(dataset, base, on_progress=lambda step, *_: steps.add(step))
    assert "words" in steps
    assert report.words_share == 0
    assert "explain little" not in (report.router / "README.md").read_text()


def test_fewer_rows_aim_at_their_labels_as_words_tell_too_little_of_them(dataset, base):
    write_split(dataset, "train", coins(MIN_ROWS - 1))
    assert train_on(dataset, base).words_share == 0


def test_measured_targets_are_aimed_at_as_they_are(dataset, base):
    write_split(dataset, "train", coins(MIN_ROWS))
    about = dataset / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"source": "outcomes"}))
    assert train_on(dataset, base).words_share == 0
