"""Calibration error with chance taken out: what it finds where the truth is known."""

import numpy as np
import pytest

from turnout.stats.bootstrap import Resampling
from turnout.stats.calibration import calibration, calibration_error, equal_mass_bins


def measured(seed, shift, n=600, copies=1):
    """Scores that are `shift` above the probability they stand for; rows in clusters of copies."""
    draw = np.random.default_rng(seed)
    true = np.repeat(draw.uniform(0.1, 0.8, n // copies), copies)
    needs = np.repeat(draw.random(n // copies) < true[::copies], copies)
    clusters = [str(row // copies) for row in range(n)]
    return calibration(true + shift, needs, Resampling(clusters, seed, 100), seed)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_holds_the_true_error(shift):
    errors = [measured(seed, shift).debiased for seed in range(20)]
    assert np.mean([error.low <= shift <= error.high for error in errors]) > 0.75
    squares = [error.value**2 for error in errors]
    assert abs(np.mean(squares) - shift**2) < 0.004


def test_chance_alone_gives_perfect_scores_an_error_that_is_taken_out():
    perfect = [measured(seed, 0.0) for seed in range(10)]
    assert np.mean([each.ece.value for each in perfect]) > 0.03
    assert np.mean([each.debiased.value for each in perfect]) < 0.02
    assert np.mean([each.ece.value <= each.chance for each in perfect]) > 0.75


def test_rows_of_one_conversation_do_not_pass_for_as_many_rows():
    alone = [measured(seed, 0.0).debiased for seed in range(10)]
    alike = [measured(seed, 0.0, copies=5).debiased for seed in range(10)]
    assert np.mean([each.high for each in alike]) > 1.5 * np.mean([each.high for each in alone])
    assert np.mean([each.low == 0.0 for each in alike]) > 0.75


def test_calibration_error_is_the_mean_gap_of_the_bins():
    scores = np.repeat([0.2, 0.6], 500)
    positive = np.r_[np.arange(500) < 100, np.arange(500) < 400]
    assert calibration_error(scores, positive) == pytest.approx((0 + 0.2) / 2)


def test_rows_count_by_their_weights():
    scores = np.repeat([0.2, 0.6], 500)
    positive = np.r_[np.arange(500) < 100, np.arange(500) < 400]
    weights = np.repeat([3.0, 1.0], 500)
    assert calibration_error(scores, positive, weights) == pytest.approx(0.2 / 4)
    ece = calibration(scores, positive, Resampling(range(1000)), 0, weights).ece
    assert ece.value == pytest.approx(0.2 / 4)


def test_a_perfect_score_stays_under_its_own_chance_error_nineteen_times_in_twenty():
    draw = np.random.default_rng(1)
    scores = draw.random(400)
    few = Resampling(range(400), resamplings=2)
    limit = calibration(scores, draw.random(400) < scores, few, 0).chance
    over = [calibration_error(scores, draw.random(400) < scores) > limit for _ in range(200)]
    assert 0.02 <= np.mean(over) <= 0.09


def test_bins_hold_every_row_once_and_never_part_equal_scores():
    scores = np.array([0.5] * 7 + [0.1, 0.9, 0.7])
    bins = equal_mass_bins(scores, 5)
    assert sorted(np.concatenate(bins).tolist()) == list(range(10))
    assert sum(0.5 in scores[b] for b in bins) == 1
