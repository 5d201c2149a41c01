"""A linear model on words: fitted, exported, and chosen where it is better than the encoder."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from tokenizers import processors

import turnout
from tests.training.conftest import (
    EASY,
    FILLER,
    HARD,
    QUICK,
    rows,
    word_pieces,
    write_dataset,
    write_split,
)
from turnout.evaluation.stage import evaluate
from turnout.manifest import read_manifest
from turnout.records import ModelInput, Turn
from turnout.routing import Formatter, RouterFolder
from turnout.routing.encoding import InputEncoder
from turnout.routing.reference import read_reference
from turnout.samples import FEW_LABELS, DatasetFolder, Samples
from turnout.stats.bootstrap import Estimate
from turnout.training import train
from turnout.training.choice import ModelChoice, choose_model
from turnout.training.encoder import load_base
from turnout.training.linear import HEADER, PREVIOUS_TURNS, LinearFeatures, fit_linear
from turnout.training.linear_router import fit_words, refit_words, write_words_graph
from turnout.training.samples import read_dataset
from turnout.training.topics import topics_of

pytestmark = pytest.mark.slow

WORDS = [*HARD, *EASY, *FILLER]
SILENT = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module", params=["session", "conversation"])
def words(request, tmp_path_factory):
    """A linear model on the words of a data set."""
    folder = write_dataset(tmp_path_factory.mktemp("linear") / "data", request.param)
    return fit_words(read_dataset(folder, 0), word_pieces(), 0, SILENT)


def long_conversations(n):
    """Rows whose need the first of nine turns says."""
    formatter, made = Formatter("conversation"), rows(n, 0)
    for number, row in enumerate(made):
        first = "prove" if number % 2 == 0 else "hello"
        turns = [Turn(first), *[Turn("now please")] * 8]
        shown = formatter.format(turns)
        assert first not in shown.context
        row |= {"message": shown.message, "context": shown.context, "turn_index": len(turns)}
        row["previous"] = [{"user_message": turn.user_message} for turn in turns[-2::-1]]
    return made


def samples_of(labels, cv_groups=None):
    n = len(labels)
    labels = np.asarray(labels, np.int8)
    return Samples(
        inputs=[ModelInput("x")] * n,
        conversation_ids=[f"c{row}" for row in range(n)],
        turn_indices=np.ones(n, np.int32),
        groups=[None] * n,
        labels=labels,
        targets=np.float32(labels == 0),
        weights=np.ones(n, np.float32),
        cv_groups=cv_groups or [None] * n,
    )


def test_the_model_is_scikit_learns_logistic_regression_on_tfidf():
    texts = [row["message"] for row in rows(120, 3)]
    samples = samples_of([row["label"] for row in rows(120, 3)])
    reader = InputEncoder(word_pieces(), 64)
    tokens = [reader.encode(ModelInput(text)) for text in texts]
    model = fit_linear(tokens, None, samples, 0, SILENT)
    vectorizer = TfidfVectorizer(
        analyzer=lambda ids: [*map(str, ids), *map(str, pairwise(ids))], sublinear_tf=True, min_df=2
    )
    columns = vectorizer.fit_transform([row.ids for row in tokens])
    theirs = LogisticRegression(C=model.penalty, max_iter=1000).fit(columns, samples.labels == 0)
    np.testing.assert_allclose(model.margins(tokens), theirs.decision_function(columns), atol=2e-3)


def test_the_graph_gives_scikit_learns_scores(words, tmp_path):
    check = write_words_graph(words, tmp_path)
    assert check.float_rows == len(words.dataset.validation)
    assert check.float_difference < 1e-5
    assert check.auroc_float > 0.9


def test_the_model_that_serves_is_fitted_on_validation_rows_too(tmp_path):
    folder = write_dataset(tmp_path / "data", "session")
    dataset = read_dataset(folder, 0)
    before = fit_words(dataset, load_base(None, 0).tokenizer, 0, SILENT)
    served = refit_words(before, 0, SILENT)
    assert served.model.rows == len(dataset.train) + len(dataset.validation)
    assert served.model.penalty == before.model.penalty
    assert served.model.scales == before.model.scales
    assert served.calibration.n == served.model.rows
    report = train(folder, tmp_path / "router", recipe=replace(QUICK, model="words"))
    scores = RouterFolder.read(tmp_path / "router").scorer().score(dataset.validation.inputs)
    np.testing.assert_allclose(scores, served.validation_scores(), atol=1e-5)
    # Of the model that was not fitted on them.
    check = write_words_graph(before, tmp_path)
    assert report.export.auroc_float == check.auroc_float


def test_message_and_context_are_told_apart_whatever_types_the_tokenizer_gives(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path / "data", "conversation"), 0)
    one_type = word_pieces()
    one_type.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    words = fit_words(dataset, one_type, 0, SILENT)
    assert {1} < {kind for row in words.validation for kind in row.type_ids}
    assert [part.field for part in words.model.features.fields] == [0, 1, 2]
    assert write_words_graph(words, tmp_path).float_difference < 1e-5
    assert 1 not in one_type.encode("a", "a").type_ids


def test_it_reads_more_previous_turns_than_the_data_set_shows_an_encoder(tmp_path, base):
    folder = write_dataset(tmp_path / "data", "conversation")
    for name in ("train", "validation", "test"):
        write_split(folder, name, long_conversations(60))
    report = train(folder, tmp_path / "r", base=base, recipe=replace(QUICK, model="words"))
    assert report.export.auroc_float == 1.0
    router = turnout.load(tmp_path / "r")
    first_says = {first: [first, *["now please"] * 8] for first in ("prove", "hello")}
    hard, easy = (
        router.decide([Turn(text) for text in texts]).p_reasoning for texts in first_says.values()
    )
    assert hard > easy + 0.2, "the turn that differs is the ninth from the last"
    evaluated = evaluate([(tmp_path / "r", folder)], tmp_path / "e").content["routers"][0]
    scores = evaluated["results"][0]["methods"][0]["metrics"]["auroc"]
    assert scores["value"] == 1.0, "evaluated on what it reads, not on what the data set shows"


def test_of_an_earlier_data_set_without_previous_turns_it_reads_what_that_shows(tmp_path):
    folder = write_dataset(tmp_path / "data", "conversation")
    for name in ("train", "validation"):
        path = folder / f"{name}.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["previous"]), path)
    dataset = read_dataset(folder, 0)
    assert fit_words(dataset, word_pieces(), 0, SILENT).dataset.formatter == dataset.formatter


def test_the_header_is_a_field_of_its_own(words):
    vocabulary = words.tokenizer.get_vocab()
    fields = {part.field: part for part in words.model.features.fields}
    if words.dataset.formatter.architecture == "session":
        assert list(fields) == [0]
        return
    turn, separator = vocabulary["turn"], vocabulary["|"]
    assert turn in fields[HEADER].unigrams
    assert turn not in fields[PREVIOUS_TURNS].unigrams
    assert separator in fields[PREVIOUS_TURNS].unigrams
    assert separator not in fields[HEADER].unigrams


def test_rows_without_a_known_word_get_the_score_of_no_words(words, tmp_path):
    write_words_graph(words, tmp_path)
    unknown = InputEncoder(words.tokenizer, 64).encode(ModelInput("¶ ¶"))
    assert np.isfinite(words.model.margins([unknown])).all()


def test_the_penalty_is_chosen_on_topics_that_it_was_not_fitted_on():
    reader = InputEncoder(word_pieces(), 64)
    # Every topic has a word of its own, which tells the label inside the topic and nowhere else,
    # and a word that tells it in three topics of four.
    names = ["prove", "derive", "refactor", "deadlock", "hello", "thanks", "rename", "define"]
    labels = [number % 2 for number in range(8)]
    hints = ["user", "turn", "user", "turn", "user", "turn", "turn", "user"]
    texts = [f"{name} {name} {hint}" for name, hint in zip(names, hints, strict=True)]
    tokens = [reader.encode(ModelInput(text)) for text in texts for _ in range(20)]
    samples = samples_of([label for label in labels for _ in range(20)])
    ids = [f"{name} {number}" for name in names for number in range(20)]
    apart = fit_linear(tokens, None, replace(samples, conversation_ids=ids), 0, SILENT)
    by_topic = [name for name in names for _ in range(20)]
    together = fit_linear(tokens, None, replace(samples, conversation_ids=by_topic), 0, SILENT)
    assert apart.penalty == together.penalty


@pytest.mark.parametrize(("decides", "scale"), [("message", 0.5), ("context", 1.0)])
def test_the_context_counts_for_little_where_the_message_alone_decides(decides, scale):
    reader, draw = InputEncoder(word_pieces(), 64), np.random.default_rng(1)
    hard = draw.integers(2, size=80)
    tokens = []
    for is_hard in hard:
        said, noise = draw.choice(HARD if is_hard else EASY), " ".join(draw.choice(WORDS, 8))
        message, previous = (said, noise) if decides == "message" else (noise, said)
        tokens.append(reader.encode(ModelInput(message, f"turn two | {previous}")))
    samples = samples_of(1 - (hard ^ (draw.random(80) < 0.2)))
    model = fit_linear(tokens, word_pieces().token_to_id("|"), samples, 0, SILENT)
    assert model.scales.previous_turns == scale
    of_column = model.features.column_scales(model.scales)
    columns = model.features.columns(tokens).multiply(of_column).tocsr()
    theirs = LogisticRegression(C=model.penalty, max_iter=1000).fit(columns, samples.labels == 0)
    np.testing.assert_allclose(model.margins(tokens), theirs.decision_function(columns), atol=2e-3)


def test_conversations_of_one_topic_stay_together():
    reader = InputEncoder(word_pieces(), 64)
    names = ["prove", "hello"] * 20
    tokens = [reader.encode(ModelInput(f"{name} please")) for name in names]
    columns = LinearFeatures(tokens, None).columns(tokens)
    topics = topics_of(columns, [str(number // 2) for number in range(40)], 0)
    # A conversation has both words here, so that all conversations are alike.
    assert set(topics.tolist()) == {0}
    apart = topics_of(columns, [str(number) for number in range(40)], 0)
    assert len(set(apart.tolist())) == 2
    assert all((apart[n] == apart[0]) == (names[n] == "prove") for n in range(40))


def test_held_out_margins_do_not_know_the_labels_of_their_cluster():
    reader = InputEncoder(word_pieces(), 64)
    names = ["prove", "derive", "hello", "thanks"]
    tokens = [reader.encode(ModelInput(f"{name} please")) for name in names for _ in range(10)]
    samples = samples_of(
        [number % 2 for number in range(4) for _ in range(10)],
        cv_groups=[name for name in names for _ in range(10)],
    )
    samples = replace(samples, weights=np.float32([0, *[1] * 39]))
    model = fit_linear(tokens, None, samples, 0, SILENT)
    assert np.isnan(model.held_out_margins).tolist() == [True, *[False] * 39]
    agreement = model.held_out_margins[1:] * np.where(samples.labels[1:] == 0, 1, -1)
    assert (agreement < 0.01).all(), "of an own word that no other cluster has, nothing is known"


def test_training_rows_held_out_in_turn_calibrate_beside_validation(words):
    rows = words.dataset.train.followed_by(words.dataset.validation)
    assert words.calibration.n == rows.labelled.sum()


def test_weights_count_and_rows_of_weight_nothing_do_not():
    reader = InputEncoder(word_pieces(), 64)
    tokens = [reader.encode(ModelInput("prove this now"))] * 40
    samples = samples_of([0, 1] * 20)
    heavy = replace(samples, weights=np.float32([3, 1] * 20))
    assert fit_linear(tokens, None, heavy, 0, SILENT).margins(tokens[:1])[0] > 0.5
    ignored = replace(samples, weights=np.float32([1, 0] * 19 + [1, 0.01]))
    model = fit_linear(tokens, None, ignored, 0, SILENT)
    assert model.rows == 21


def test_a_target_between_the_labels_is_the_share_that_is_learnt():
    reader = InputEncoder(word_pieces(), 64)
    tokens = [reader.encode(ModelInput("prove this now"))] * 40
    samples = replace(samples_of([0] * 40), targets=np.full(40, 0.7, np.float32))
    margin = fit_linear(tokens, None, samples, 0, SILENT).margins(tokens[:1])[0]
    assert 1 / (1 + np.exp(-margin)) == pytest.approx(0.7, abs=0.01)


def test_it_becomes_a_router_folder_that_decides(tmp_path, base):
    dataset = write_dataset(tmp_path / "data", "conversation")
    report = train(dataset, tmp_path / "r", base=base, recipe=replace(QUICK, model="words"))
    folder = RouterFolder.read(report.router)
    assert set(folder.files) == {"model.onnx", "tokenizer.json", "README.md", "reference.json"}
    assert folder.spec.max_tokens == 4096
    router = turnout.load(report.router)
    assert router.decide("prove the invariant").p_reasoning > 0.7
    assert router.decide("hello thanks").p_reasoning < 0.3
    talk = [turnout.Turn("prove the invariant"), turnout.Turn("now please")]
    assert router.decide(talk).p_reasoning > 0.6
    card = (report.router / "README.md").read_text()
    assert "linear model on words, no BERT" in card
    assert "`transformers` cannot load it" in card
    again = train(dataset, tmp_path / "r", base=base, recipe=replace(QUICK, model="words"))
    assert (again.fresh, again.to_json()) == (False, report.to_json())


def test_it_serves_where_it_is_better_than_the_encoder(tmp_path, base):
    dataset = write_dataset(tmp_path / "data")
    untaught = replace(QUICK, learning_rate=1e-9, model="auto")
    report = train(dataset, tmp_path / "r", base=base, recipe=untaught, max_tokens=48)
    assert report.model == report.choice.served == "words"
    assert report.choice.lead.high < 0
    trained_on = RouterFolder.read(report.router).spec.trained_on
    assert trained_on["base"] == "linear model on words"
    assert trained_on["choice"] == report.choice.text
    assert report.choice.text in (report.router / "README.md").read_text()
    assert read_manifest(report.router)["counts"]["choice"]["served"] == "words"


@pytest.mark.parametrize(
    ("encoder", "words", "served"),
    [
        pytest.param(0.3, 0.3, "encoder", id="tie"),
        pytest.param(0.2, 0.4, "encoder", id="encoder-better"),
        pytest.param(0.4, 0.2, "words", id="words-better"),
    ],
)
def test_the_better_model_on_validation_serves_and_at_a_tie_the_encoder(encoder, words, served):
    labels = np.arange(200) % 2
    noise = np.random.default_rng(0).normal(size=200)
    scores = {share: (labels == 0) * 1.0 + 3 * share * noise for share in (0.2, 0.3, 0.4)}
    choice = choose_model(FEW_LABELS, samples_of(labels), scores[encoder], scores[words], 0)
    assert choice.served == served
    assert choice.judged
    assert f"the {'encoder' if served == 'encoder' else 'linear model on words'} serves" in (
        choice.text
    )


@pytest.mark.parametrize(
    ("trained", "noise", "served"),
    [
        pytest.param(FEW_LABELS - 1, 0.3, "words", id="few-labels-within-chance"),
        pytest.param(FEW_LABELS - 1, 0.1, "encoder", id="few-labels-beyond-chance"),
        pytest.param(FEW_LABELS, 0.3, "encoder", id="enough-labels"),
    ],
)
def test_with_few_labels_the_encoder_serves_only_where_it_is_ahead_beyond_chance(
    trained, noise, served
):
    labels = np.arange(200) % 2
    draw = np.random.default_rng(0)
    encoder, words = ((labels == 0) + 3 * n * draw.normal(size=200) for n in (noise, 0.4))
    choice = choose_model(trained, samples_of(labels), encoder, words, 0)
    assert choice.lead.value > 0
    assert choice.served == served
    few = "within chance, and 999 labelled training rows are few for an encoder; the linear"
    assert (few in choice.text) == (served == "words")


def test_too_few_rows_to_judge_are_said():
    labels = [0] * 9 + [1] * 50
    choice = choose_model(FEW_LABELS, samples_of(labels), np.arange(59.0)[::-1], np.arange(59.0), 0)
    assert choice.served == "words"
    assert "9 rows of a label are too few to judge" in choice.text


def test_a_difference_within_chance_is_said():
    even = Estimate(0.7, 0.6, 0.8)
    choice = ModelChoice("encoder", FEW_LABELS, 100, 50, even, even, Estimate(0.01, -0.05, 0.07))
    assert choice.text.endswith("on 100 validation rows: within chance; the encoder serves")
    assert ModelChoice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


def test_a_cluster_is_the_group_that_folds_hold_together_or_the_conversation(tmp_path):
    folder = write_dataset(tmp_path / "data")
    made = rows(40, 0)
    for row in made[:20]:
        row["cv_group"] = "one database"
    write_split(folder, "train", made)
    samples = DatasetFolder.read(folder).split("train")
    assert samples.clusters_of([0, 19, 20]) == ["one database", "one database", "c0-20"]


def test_the_folder_keeps_what_the_traffic_looked_like_and_no_word_of_it(tmp_path, base):
    dataset = write_dataset(tmp_path / "data")
    report = train(dataset, tmp_path / "r", base=base, recipe=replace(QUICK, model="words"))
    reference = read_reference(report.router)
    assert (reference.source, reference.rows, reference.population) == (
        "validation",
        60,
        "balanced",
    )
    for quantity in reference.quantities.values():
        assert quantity.histogram.shares.sum() == pytest.approx(1.0, abs=1e-4)
    stored = (report.router / "reference.json").read_text()
    assert not [word for word in (*HARD, *EASY) if word in stored]
    assert "reference.json" in RouterFolder.read(report.router).files
