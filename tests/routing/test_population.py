"""Scores for the balanced data set or the log: other numbers, the same decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnout
from tests.tiny_router import EASY, HARD, write_router
from turnout.errors import SettingsError
from turnout.records import ModelInput
from turnout.routing import Priors, Router, RouterFolder
from turnout.routing.folder import set_threshold
from turnout.routing.population import estimated_prior

PRIORS = Priors(balanced=0.5, log=0.2)
WORDS = st.lists(st.sampled_from([*HARD, *EASY, "the"]), min_size=1, max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_router(tmp_path_factory.mktemp("routers") / "router", priors=PRIORS)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A router folder of its own, whose threshold a test changes."""
    return write_router(tmp_path_factory.mktemp("routers") / "router", priors=PRIORS)


def test_a_score_for_the_log_has_the_odds_of_the_log(folder):
    balanced = turnout.load(folder, "balanced").decide("prove it").p_reasoning
    for_log = turnout.load(folder, "log").decide("prove it").p_reasoning
    odds = balanced / (1 - balanced) * (0.2 / 0.8)
    assert for_log == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_the_log_is_shown_where_its_share_is_known(folder, tmp_path):
    assert turnout.load(folder).decide("hello").population == "log"
    unknown = write_router(tmp_path / "router")
    assert turnout.load(unknown).decide("hello").population == "balanced"
    with pytest.raises(SettingsError, match="does not know the share of reasoning in a log"):
        turnout.load(unknown, "log")


def test_the_threshold_is_shown_for_the_population_of_the_score(folder):
    decision = turnout.load(folder).decide("prove it")
    assert decision.threshold == pytest.approx(0.2), "0.5 for balanced rows"
    assert decision.reason.endswith("is 0.649 ≥ threshold 0.200 (population: log)")


@given(st.lists(WORDS, min_size=1, max_size=8), st.data(), st.sampled_from(["log", "balanced"]))
def test_batch_single_and_threshold_compare_the_same_numbers(folder, texts, data, population):
    read = RouterFolder.read(folder)
    batch = read.scorer(population=population).score([ModelInput(text) for text in texts])
    assert batch.dtype == np.float32
    threshold = float(data.draw(st.sampled_from(list(batch))))
    router = Router(read, threshold=threshold, population=population)
    decisions = [router.decide(text) for text in texts]
    assert [decision.p_reasoning for decision in decisions] == batch.tolist()
    sent = [decision.model_class == "reasoning" for decision in decisions]
    assert sent == (batch >= threshold).tolist()


@given(texts=st.lists(WORDS, min_size=1, max_size=8), data=st.data())
def test_the_population_that_is_shown_decides_nothing(tuned, texts, data):
    read = RouterFolder.read(tuned)
    chosen_for = data.draw(st.sampled_from(["log", "balanced"]))
    scores = read.scorer(population=chosen_for).score([ModelInput(text) for text in texts])
    set_threshold(tuned, float(data.draw(st.sampled_from(list(scores)))), "drawn", chosen_for)
    classes = [
        [turnout.load(tuned, shown).decide(text).model_class for text in texts]
        for shown in ("log", "balanced")
    ]
    assert classes[0] == classes[1]


@given(
    st.floats(1e-6, 1 - 1e-6),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_a_threshold_converts_there_and_back(value, balanced, log):
    priors = Priors(balanced, log)
    there = priors.converted(value, "balanced", "log")
    assert priors.converted(there, "log", "balanced") == pytest.approx(value)
    assert priors.converted(balanced, "balanced", "log") == pytest.approx(log)


@pytest.mark.parametrize("share", [0.02, 0.22, 0.5, 0.9])
def test_the_share_of_unlabelled_messages_is_recovered_from_calibrated_scores(share):
    rng = np.random.default_rng(0)
    needs = rng.random(40_000) < share
    # Two unit normals two apart: at equal priors the log-odds are 2 x.
    scores = 1 / (1 + np.exp(-2 * rng.normal(np.where(needs, 1, -1))))
    assert estimated_prior(scores, 0.5) == pytest.approx(share, abs=0.01)


@given(st.lists(st.floats(1e-3, 0.999), min_size=1, max_size=50), st.floats(0.05, 0.95))
def test_the_estimate_is_the_likeliest_share(scores, trained):
    estimate = estimated_prior(np.array(scores), trained)
    ratios = np.array(scores) / (1 - np.array(scores)) * (1 - trained) / trained

    def log_likelihood(share):
        return np.log(share * ratios + 1 - share).sum()

    assert 0 <= estimate <= 1
    assert log_likelihood(estimate) >= max(map(log_likelihood, np.linspace(0, 1, 21))) - 1e-3


def test_scores_that_say_nothing_leave_the_share_as_it_was_trained():
    assert estimated_prior(np.full(10, 0.3), 0.3) == pytest.approx(0.3, abs=1e-6)
