"""Metrics against scikit-learn, under any weights, and their intervals."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from turnout.stats import metrics
from turnout.stats.bootstrap import Resampling

rows = st.lists(
    st.tuples(st.sampled_from(np.linspace(0, 1, 9).tolist()), st.booleans(), st.integers(0, 3)),
    min_size=2,
    max_size=40,
)


def arrays(cases):
    scores, positive, weights = (np.asarray(column) for column in zip(*cases, strict=True))
    return scores.astype(float), positive.astype(bool), weights.astype(float)


@settings(max_examples=40)
@given(rows)
def test_ranking_metrics_are_those_of_scikit_learn(cases):
    scores, positive, weights = arrays(cases)
    assume(weights[positive].sum() > 0)
    assume(weights[~positive].sum() > 0)
    both = np.stack([weights, np.ones_like(weights)])
    assert metrics.auroc(scores, positive, both)[0] == pytest.approx(
        roc_auc_score(positive, scores, sample_weight=weights)
    )
    assert metrics.brier(scores, positive, both)[0] == pytest.approx(
        brier_score_loss(positive, scores, sample_weight=weights)
    )


def test_a_resampling_without_one_class_is_not_a_number():
    scores, positive = np.array([0.1, 0.9]), np.array([False, True])
    auroc = metrics.auroc(scores, positive, np.array([[1.0, 1.0], [1.0, 0.0]]))
    assert auroc[0] == 1
    assert np.isnan(auroc[1])


def test_a_random_order_recovers_half_of_the_gap_and_the_best_order_the_most():
    draw = np.random.default_rng(0)
    gap = draw.choice([-0.2, 0.0, 1.0], 4000, p=[0.2, 0.5, 0.3])
    weights = np.ones((1, 4000))
    assert metrics.apgr(draw.random(4000), gap, weights)[0] == pytest.approx(0.5, abs=0.03)
    best, worst = (metrics.apgr(sign * gap, gap, weights)[0] for sign in (1, -1))
    assert worst < 0.4 < 0.8 < best


def test_one_score_for_all_rows_is_a_random_order():
    gap = np.array([1.0, 0, 0, 0])
    assert metrics.apgr(np.zeros(4), gap, np.ones((1, 4)))[0] == pytest.approx(0.5)


def test_the_share_that_buys_a_part_of_the_gain_is_read_off_the_curve():
    scores, gain = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1.0, 1.0, 0.0, 0.0])
    curves = metrics.recovered(scores, gain, np.ones((1, 4)))
    assert metrics.share_for(curves, 0.5)[0] == pytest.approx(0.25)
    assert metrics.share_for(curves, 1.0)[0] == pytest.approx(0.5)


def test_share_and_recall_count_what_is_sent_to_reasoning():
    sent, positive = np.array([False, True, True]), np.array([True, True, False])
    assert metrics.share(sent, np.ones((1, 3)))[0] == pytest.approx(2 / 3)
    assert metrics.recall(sent, positive, np.ones((1, 3)))[0] == pytest.approx(0.5)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(3)
    held = 0
    for number in range(100):
        values = draw.normal(0.3, 1, 80)
        estimate = Resampling([str(n) for n in range(80)], seed=number, resamplings=200).estimate(
            lambda w, values=values: w @ values / w.sum(1)
        )
        held += estimate.low <= 0.3 <= estimate.high
    assert 0.88 <= held / 100 <= 0.99


def test_turns_of_one_conversation_widen_the_interval():
    draw = np.random.default_rng(4)
    of_conversation = np.repeat(draw.normal(0, 1, 30), 10)

    def mean(weights):
        return weights @ of_conversation / weights.sum(1)

    together = Resampling([str(n // 10) for n in range(300)]).estimate(mean)
    apart = Resampling([str(n) for n in range(300)]).estimate(mean)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_same_seed_gives_the_same_interval():
    def mean(weights):
        return weights @ np.arange(9.0) / weights.sum(1)

    first, again = (Resampling(list("abcdefghi"), seed=5).estimate(mean) for _ in range(2))
    assert first == again


def test_what_cannot_be_measured_has_no_interval():
    estimate = Resampling(["a", "b"]).estimate(lambda w: np.full(len(w), np.nan))
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
