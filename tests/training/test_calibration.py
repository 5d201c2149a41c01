"""Calibration: scale and bias that make scores probabilities, each row counted by its weight."""

import numpy as np
import pytest
from scipy.special import expit

from turnout.stats.bootstrap import Resampling
from turnout.stats.calibration import calibration, calibration_error
from turnout.training.calibration import fit_calibration, refined_loss

pytestmark = pytest.mark.slow


def test_calibration_corrects_a_score_that_is_too_sure():
    draw = np.random.default_rng(0)
    honest = draw.normal(0, 1.5, 4000)
    outcomes = draw.random(4000) < expit(honest)
    fitted = fit_calibration(honest * 4 + 2, outcomes, np.ones(4000))
    assert fitted.method == "platt"
    assert fitted.scale == pytest.approx(0.25, rel=0.1)
    assert fitted.ece_after < 0.03 < 0.1 < fitted.ece_before


def test_rows_count_by_their_weight():
    # Two labels in five of the light rows are wrong, as those of people who choose by habit.
    draw = np.random.default_rng(0)
    margins = draw.normal(0, 2, 4000)
    needs = draw.random(4000) < expit(margins)
    light = draw.random(4000) < 0.5
    labels = needs ^ (light & (draw.random(4000) < 0.4))
    weights = np.where(light, 0.05, 1.0)
    weighted, unweighted = (fit_calibration(margins, labels, w) for w in (weights, np.ones(4000)))
    errors = [
        calibration_error(expit(c.scale * margins + c.bias), needs) for c in (weighted, unweighted)
    ]
    assert errors[0] < 0.03 < 0.08 < errors[1]


def test_a_row_of_weight_three_counts_as_three_rows():
    draw = np.random.default_rng(0)
    margins, weights = draw.normal(0, 2, 300), draw.integers(1, 4, 300)
    targets = draw.random(300)
    repeated = np.repeat(margins, weights), np.repeat(targets, weights)
    assert refined_loss(margins, targets, weights.astype(float)) == pytest.approx(
        refined_loss(*repeated, np.ones(weights.sum())), abs=1e-6
    )


def test_weights_of_any_unit_give_the_same_calibration():
    draw = np.random.default_rng(0)
    margins = draw.normal(0, 2, 300)
    needs, weights = draw.random(300) < expit(margins), draw.random(300)
    first, other = (fit_calibration(margins, needs, weights * unit) for unit in (1e-6, 1e6))
    assert first.scale == pytest.approx(other.scale)
    assert first.method == other.method


def test_few_effective_rows_do_not_pay_for_a_bias():
    # A thousand rows that lean to one side, of which two have nearly all the weight.
    margins = np.r_[0.5, -0.5, np.linspace(-1, 1, 998)]
    needs = np.r_[True, False, np.ones(998, bool)]
    needs[2] = False
    weights = np.r_[1.0, 1.0, np.full(998, 1e-6)]
    assert fit_calibration(margins, needs, np.ones(1000)).method == "platt"
    assert fit_calibration(margins, needs, weights).method == "temperature"


def test_perfectly_separated_rows_give_a_finite_scale():
    margins = np.r_[np.full(20, -5.0), np.full(20, 5.0)]
    fitted = fit_calibration(margins, margins > 0, np.ones(40))
    assert 0 < fitted.scale < 10


@pytest.mark.parametrize("margins", [np.linspace(3, -3, 40), np.zeros(40)])
def test_a_score_that_ranks_the_wrong_way_or_not_at_all_keeps_its_order(margins):
    fitted = fit_calibration(margins, np.arange(40) >= 20, np.ones(40))
    assert fitted.scale > 0
    assert expit(fitted.scale * margins + fitted.bias) == pytest.approx(0.5, abs=0.05)


def test_the_cards_calibration_error_is_that_of_the_evaluation_report():
    draw = np.random.default_rng(0)
    margins, weights = draw.normal(0, 2, 300), draw.random(300)
    outcomes = draw.random(300) < expit(margins / 2)
    fitted = fit_calibration(margins, outcomes, weights)
    scores = expit(fitted.scale * margins + fitted.bias)
    resampling = Resampling(range(300), resamplings=2)
    reported = calibration(scores, outcomes, resampling, 0, weights).ece.value
    assert fitted.ece_after == pytest.approx(reported)
