"""A chosen threshold keeps what it promises."""

import numpy as np
import pytest

from tests.evaluation.test_evaluate import write_data
from tests.tiny_router import write_router
from turnout.errors import RecordError, SettingsError
from turnout.evaluation.threshold import choose_threshold, threshold_for_miss, threshold_for_share
from turnout.manifest import Manifest, staged_output, up_to_date
from turnout.routing import Router, RouterFolder


@pytest.mark.parametrize("n", [80, 300])
def test_the_miss_rate_exceeds_its_bound_no_more_often_than_promised(n):
    draw = np.random.default_rng(0)
    over = 0
    for _ in range(2000):
        # Scores are uniform: the true miss rate of a threshold is the threshold itself.
        over += threshold_for_miss(draw.random(n), 0.05, 0.95, where="here") > 0.05
    assert over / 2000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_the_threshold_is_no_lower_than_it_must_be():
    draw = np.random.default_rng(1)
    chosen = [threshold_for_miss(draw.random(1000), 0.05, 0.95, where="here") for _ in range(200)]
    assert 0.03 < np.mean(chosen) < 0.05


def test_too_few_rows_for_a_promise_are_refused_with_how_many_it_takes():
    with pytest.raises(RecordError, match=r"58 independent .* expected at least 59"):
        threshold_for_miss(np.linspace(0, 1, 58), 0.05, 0.95, where="here")
    threshold_for_miss(np.linspace(0, 1, 59), 0.05, 0.95, where="here")


@pytest.mark.parametrize("wanted", [0.01, 0.3, 0.5, 0.99])
def test_the_wanted_share_goes_to_reasoning(wanted):
    scores = np.random.default_rng(2).random(500)
    found = (scores >= threshold_for_share(scores, wanted)).mean()
    assert wanted <= found <= wanted + 1 / 500


def test_the_choice_is_written_and_decides(tmp_path):
    router, data = write_router(tmp_path / "router"), write_data(tmp_path / "data")
    report = choose_threshold(router, data, wanted_share=0.99)
    folder = RouterFolder.read(router)
    assert folder.spec.threshold == report.value < report.before == 0.5
    assert folder.spec.threshold_origin == "sends 99% to reasoning on the test rows of data"
    assert report.share.value >= 0.99
    assert Router(folder).decide("hello").model_class == "reasoning"


def test_a_router_with_a_chosen_threshold_is_still_up_to_date(tmp_path):
    manifest = Manifest("train", {}, {})
    with staged_output(tmp_path / "router", manifest) as partial:
        write_router(partial)
    choose_threshold(tmp_path / "router", write_data(tmp_path / "data"), wanted_share=0.3)
    assert up_to_date(tmp_path / "router", manifest)


def test_turns_of_one_conversation_do_not_count_twice(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    data = write_data(tmp_path / "data", "conversation", test_rows=100)
    # 50 rows need reasoning; a bound of 0.06 takes 49 independent ones.
    choose_threshold(router, data, max_miss=0.06)
    alone = write_data(tmp_path / "alone", "conversation", test_rows=90)
    with pytest.raises(RecordError, match="45 independent test rows"):
        choose_threshold(router, alone, max_miss=0.06)


@pytest.mark.parametrize(
    "goals", [{}, {"wanted_share": 0.3, "max_miss": 0.1}, {"wanted_share": 1.2}, {"max_miss": 0.0}]
)
def test_a_goal_that_makes_no_sense_is_refused(tmp_path, goals):
    with pytest.raises(SettingsError, match="expected"):
        choose_threshold(tmp_path, tmp_path, **goals)
