"""Scores for the balanced data set or the log: other numbers, the same decisions."""

import shutil
from dataclasses import replace

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

PRIORS = Priors(balanced=0.5, log=0.2)
WORDS = st.lists(st.sampled_from([*HARD, *EASY, "the"]), min_size=1, max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_router(tmp_path_factory.mktemp("routers") / "router", priors=PRIORS)


@pytest.fixture(scope="module")
def read(folder):
    return RouterFolder.read(folder)


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


@pytest.mark.slow
@given(st.lists(WORDS, min_size=1, max_size=8), st.data(), st.sampled_from(["log", "balanced"]))
def test_batch_single_and_threshold_compare_the_same_numbers(read, texts, data, population):
    batch = read.scorer(population=population).score([ModelInput(text) for text in texts])
    assert batch.dtype == np.float32
    threshold = float(data.draw(st.sampled_from(list(batch))))
    router = Router(read, threshold=threshold, population=population)
    decisions = [router.decide(text) for text in texts]
    assert [decision.p_reasoning for decision in decisions] == batch.tolist()
    sent = [decision.model_class == "reasoning" for decision in decisions]
    assert sent == (batch >= threshold).tolist()


@pytest.mark.slow
@given(texts=st.lists(WORDS, min_size=1, max_size=8), data=st.data())
def test_the_population_that_is_shown_decides_nothing(read, texts, data):
    chosen_for = data.draw(st.sampled_from(["log", "balanced"]))
    scores = read.scorer(population=chosen_for).score([ModelInput(text) for text in texts])
    threshold = float(data.draw(st.sampled_from(list(scores))))
    spec = replace(read.spec, threshold=threshold, threshold_population=chosen_for)
    classes = [
        [router.decide(text).model_class for text in texts]
        for router in (
            Router(replace(read, spec=spec), scorer=read.scorer(), population=shown)
            for shown in ("log", "balanced")
        )
    ]
    assert classes[0] == classes[1]


def test_a_threshold_is_stored_with_its_population(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "router")
    set_threshold(tmp_path / "router", 0.3, "by hand", "log")
    router = turnout.load(tmp_path / "router", "balanced")
    assert router.threshold == pytest.approx(PRIORS.converted(0.3, "log", "balanced"))


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


def test_a_population_of_another_name_is_refused():
    with pytest.raises(SettingsError, match="population: found 'traffic'; expected balanced"):
        Priors(0.5, 0.2).shift("traffic")
