"""The out-of-fold TF-IDF teacher."""

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
from turnout.training.fitting import teacher_of
from turnout.training.loop import FINAL_TEACHER_WEIGHT, SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.samples import MIN_ROWS_TO_SHUFFLE, read_dataset
from turnout.training.tfidf_teacher import (
    MIN_ROWS,
    STEP,
    TeacherTargets,
    _ngrams,
    out_of_fold_targets,
)

pytestmark = pytest.mark.slow  # many seconds in all


def samples_of(inputs, targets, conversations=None, weights=None):
    n = len(inputs)
    targets = np.asarray(targets, np.float32)
    return Samples(
        inputs=inputs,
        conversation_ids=conversations or [f"c{row}" for row in range(n)],
        turn_indices=np.ones(n, np.int32),
        groups=[None] * n,
        cv_groups=[None] * n,
        labels=(targets < 0.5).astype(np.int8),
        targets=targets,
        weights=np.ones(n, np.float32) if weights is None else np.float32(weights),
    )


def rule(n, seed=0):
    """Messages of hard and of easy words, and which are hard."""
    made = rows(n, seed)
    inputs = [ModelInput(row["message"]) for row in made]
    return inputs, np.asarray([row["label"] == 0 for row in made])


def test_the_teacher_outvotes_labels_of_which_two_in_five_are_wrong():
    inputs, hard = rule(1000)
    wrong = np.random.default_rng(0).random(1000) < 0.4
    predictions, weight = out_of_fold_targets(samples_of(inputs, hard ^ wrong), 0, silent)
    assert predictions.dtype == np.float32
    assert predictions.min() >= 0
    assert predictions.max() <= 1
    assert roc_auc_score(hard, predictions) > 0.9
    assert weight > 0.25
    assert roc_auc_score(hard, hard ^ wrong) < 0.65


def test_the_teacher_has_no_weight_where_tfidf_explains_the_labels():
    inputs, hard = rule(400)
    assert out_of_fold_targets(samples_of(inputs, hard), 0, silent).weight == 0


def test_the_less_tfidf_explains_the_more_weight_the_teacher_has():
    inputs, hard = rule(1000)
    shares = [
        out_of_fold_targets(samples_of(inputs, hard ^ wrong), 0, silent).weight
        for wrong in (np.random.default_rng(0).random(1000) < rate for rate in (0.38, 0.41, 0.44))
    ]
    assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_a_teacher_that_explains_nothing_has_full_weight_and_predicts_the_mean():
    draw = np.random.default_rng(0)
    inputs, _ = rule(400)
    predictions, weight = out_of_fold_targets(samples_of(inputs, draw.random(400) < 0.5), 0, silent)
    assert weight > 0.9
    assert np.abs(predictions - 0.5).mean() < 0.15


def test_no_row_is_predicted_from_its_own_target():
    # Every message has a word of its own, so that whoever saw a row could tell its target.
    draw = np.random.default_rng(0)
    inputs = [ModelInput(f"word{row}") for row in range(300)]
    targets = draw.random(300) < 0.5
    assert (
        roc_auc_score(
            targets, out_of_fold_targets(samples_of(inputs, targets), 0, silent).predictions
        )
        < 0.6
    )


def test_no_row_is_predicted_from_another_turn_of_its_conversation():
    draw = np.random.default_rng(0)
    conversations = [f"c{row // 2}" for row in range(400)]
    inputs = [ModelInput(f"word{row // 2}") for row in range(400)]
    targets = np.repeat(draw.random(200) < 0.5, 2)
    predictions, _ = out_of_fold_targets(samples_of(inputs, targets, conversations), 0, silent)
    assert roc_auc_score(targets, predictions) < 0.6


def test_words_of_previous_turns_count():
    draw = np.random.default_rng(0)
    hard = draw.random(400) < 0.5
    inputs = [
        ModelInput("go on", f"turn 2\n{draw.choice(HARD if needs else EASY)}") for needs in hard
    ]
    predictions, _ = out_of_fold_targets(samples_of(inputs, hard), 0, silent)
    assert roc_auc_score(hard, predictions) > 0.95


def test_rows_without_weight_do_not_count():
    inputs, hard = rule(800)
    misleading = np.arange(800) % 3 != 0
    known = samples_of(inputs, np.where(misleading, ~hard, hard), weights=~misleading)
    predictions, _ = out_of_fold_targets(known, 0, silent)
    assert roc_auc_score(hard, predictions) > 0.9


@pytest.mark.parametrize("text", ["", "!?", "\u200b"])
def test_messages_without_words_get_the_mean(text):
    targets = np.arange(40) % 4 == 0
    predictions, _ = out_of_fold_targets(samples_of([ModelInput(text)] * 40, targets), 0, silent)
    assert predictions == pytest.approx(0.25, abs=0.1)


def test_a_single_conversation_keeps_its_targets():
    inputs, hard = rule(20)
    predictions, _ = out_of_fold_targets(samples_of(inputs, hard, ["c"] * 20), 0, silent)
    assert (predictions == hard).all()


def test_the_same_seed_gives_the_same_and_another_seed_other_folds():
    inputs, hard = rule(200)
    first, again, other = (
        out_of_fold_targets(samples_of(inputs, hard), seed, silent).predictions
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_progress_ends_where_it_said_it_would():
    inputs, hard = rule(40)
    seen = []
    out_of_fold_targets(samples_of(inputs, hard), 0, lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert {total for _, _, total in seen} == {len(seen) - 1}


def test_the_weight_of_the_teacher_falls_from_step_to_step():
    n, aims = 40, []
    samples = samples_of([ModelInput("x")] * n, np.ones(n))
    margin = torch.nn.Parameter(torch.zeros(1))

    def logits(shown):
        return torch.stack([margin.expand(len(shown)), -margin.expand(len(shown))], 1)

    teacher = TeacherTargets(np.zeros(n, np.float32), weight=0.8)
    view = SplitView(samples, np.ones(n, np.int64), logits, teacher)
    held = SplitView(samples_of([ModelInput("x")] * 2, [0, 1]), np.ones(2, np.int64), logits)
    model = torch.nn.ParameterList([margin])

    # At two logits of nought the slope of cross-entropy is one less twice the target.
    margin.register_hook(lambda slope: aims.append(float(1 - slope[0]) / 2))
    fit(model, adamw(model, 1e-12), view, held, Recipe(epochs=1, batch_size=1))
    assert aims[0] == pytest.approx(1 - 0.8, abs=1e-4)
    assert aims[n // 2] == pytest.approx(1 - 0.8 * (1 + FINAL_TEACHER_WEIGHT) / 2, abs=0.02)
    assert aims[-1] == pytest.approx(1 - 0.8 * FINAL_TEACHER_WEIGHT, abs=0.02)
    assert (samples.targets == 1).all(), "the rows keep their targets"


def coins(n, architecture="session"):
    """Rows whose label has nothing to do with their words."""
    draw = random.Random(0)
    labels = [draw.randrange(2) for _ in range(n)]
    return [
        row | {"label": label, "target": 1.0 - label}
        for row, label in zip(rows(n, 0, architecture), labels, strict=True)
    ]


def test_a_run_on_wrong_labels_says_so_in_its_report_and_on_its_card(base, tmp_path):
    folder = write_dataset(tmp_path / "dataset", "conversation")
    write_split(folder, "train", coins(MIN_ROWS_TO_SHUFFLE, "conversation"))
    recipe = Recipe(epochs=1, batch_size=64, model="encoder")
    report = train(folder, tmp_path / "router", base=base, recipe=recipe, max_tokens=48)
    assert report.shuffled_rows > 0
    assert report.teacher_weight > 0.5
    said = f"a TF-IDF teacher made up {report.teacher_weight:.0%} of the targets at first"
    card = (report.router / "README.md").read_text()
    assert said in card
    assert f"{report.shuffled_rows:,} first messages were shown again after" in card


def test_a_card_without_a_teacher_says_nothing_of_one(trained):
    assert trained.report.teacher_weight == 0
    assert "TF-IDF" not in (trained.report.router / "README.md").read_text()


@pytest.mark.parametrize(
    ("rows", "source", "taught"),
    [
        pytest.param(MIN_ROWS, "labels", True, id="labels"),
        pytest.param(MIN_ROWS - 1, "labels", False, id="too-few-rows"),
        pytest.param(MIN_ROWS, "outcomes", False, id="measured-outcomes"),
    ],
)
def test_only_many_labels_have_a_teacher(dataset, rows, source, taught):
    write_split(dataset, "train", coins(rows))
    about = dataset / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"source": source}))
    steps = set()
    teacher = teacher_of(read_dataset(dataset, 0), 0, lambda step, *_: steps.add(step))
    assert (teacher is not None) == (STEP in steps) == taught


@pytest.mark.parametrize(
    ("hard", "easy", "filler"),
    [
        pytest.param("证明", "谢谢", "这个代码不变量文件一二三四五六七八九十", id="chinese"),
        pytest.param("พิสูจน์", "ขอบคุณ", "กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ", id="thai"),
        pytest.param("🤯", "👍", "🍎🍐🍊🍋🍌🍉🍇🍓🫐🍈🍒🍑🥭🍍🥥🥝", id="emoji"),
        pytest.param(" x ", " y ", " a b c d e f g h ", id="single-letters"),
    ],
)
def test_texts_without_words_as_english_has_them_are_learnt_too(hard, easy, filler):
    draw = random.Random(0)
    needs = np.arange(400) % 2 == 0

    def text(key):
        letters = draw.choices(filler.split() if " " in filler else filler, k=8)
        letters.insert(draw.randrange(9), key)
        return (" " if " " in filler else "").join(letters)

    inputs = [ModelInput(text(hard if hard_row else easy)) for hard_row in needs]
    predictions, weight = out_of_fold_targets(samples_of(inputs, needs), 0, silent)
    assert roc_auc_score(needs, predictions) > 0.95
    assert weight == 0


def test_characters_of_english_texts_do_not_count():
    assert _ngrams("Prove it, please: a + b") == ["prove", "it", "please", "prove it", "it please"]
