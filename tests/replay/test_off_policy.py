"""Estimates of another policy hold the truth as often as their intervals say."""

from dataclasses import replace

import numpy as np
import pytest

from turnout.errors import RecordError
from turnout.replay.off_policy import Logged, off_policy

SHARE = 0.2  # of turns that explore the other class


def drawn(seed, conversations=250):
    """Turns of conversations that differ in difficulty, served by a policy that explores.

    Returns:
        The log, what another policy chooses, and the outcome that it would have had on each turn.
    """
    draw = np.random.default_rng(seed)
    lengths = 1 + draw.geometric(0.4, conversations)
    conversation = np.repeat(np.arange(conversations), lengths)
    hard = draw.beta(1, 2, conversations)[conversation]
    score = np.clip(hard + draw.normal(0, 0.2, len(hard)), 0, 1)
    by_policy = score >= 0.5
    explored = draw.random(len(hard)) < SHARE
    reasoning = by_policy ^ explored
    propensity = np.where(explored, SHARE, 1 - SHARE)
    succeeds = {
        True: (draw.random(len(hard)) < 0.9).astype(float),
        False: (draw.random(len(hard)) < 0.95 - 0.7 * hard).astype(float),
    }
    outcome = np.where(reasoning, succeeds[True], succeeds[False])
    other = score >= 0.3
    truth = np.where(other, 0.9, 0.95 - 0.7 * hard)
    return Logged(reasoning, propensity, outcome, conversation), other, truth


def expected_truth():
    return float(np.mean([drawn(seed, 4000)[2].mean() for seed in range(1000, 1010)]))


@pytest.mark.parametrize("estimator", ["ips", "snips", "doubly_robust"])
def test_intervals_hold_the_truth_at_their_level(estimator):
    truth = expected_truth()
    inside = 0
    for seed in range(500):
        logged, other, _ = drawn(seed)
        estimate = getattr(off_policy(logged, other, kind="share"), estimator)
        inside += estimate.low <= truth <= estimate.high
    assert 0.93 <= inside / 500 <= 0.97


def rarely_failing(seed, mended):
    """As `drawn`, of 80 conversations; this share of the failures succeeds after all."""
    logged, other, truth = drawn(seed, 80)
    draw = np.random.default_rng(1_000_000 + seed)
    succeeds = (logged.outcome > 0) | (draw.random(len(other)) < mended)
    return replace(logged, outcome=succeeds.astype(float)), other, truth + (1 - truth) * mended


@pytest.mark.parametrize("mended", [0.8, 0.95, 0.99])
def test_estimates_of_shares_near_1_stay_below_it_and_hold_the_truth(mended):
    logs = [rarely_failing(seed, mended) for seed in range(200)]
    truth = np.mean([np.mean(truth) for _, _, truth in logs])
    results = [off_policy(logged, other, kind="share") for logged, other, _ in logs]
    for estimator in ("ips", "snips", "doubly_robust"):
        estimates = [getattr(each, estimator) for each in results]
        for estimate in estimates:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        held = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
        assert held >= 0.91  # 0.95, less three standard errors of two hundred logs


@pytest.mark.parametrize("estimator", ["ips", "snips", "doubly_robust"])
def test_estimates_of_costs_are_not_negative(estimator):
    for seed in range(100):
        logged, other, _ = drawn(seed, 60)
        dear = np.random.default_rng(seed).random(len(other)) < 0.01
        costs = replace(logged, outcome=np.where(dear, 100.0, 0.001))
        estimate = getattr(off_policy(costs, other, kind="amount"), estimator)
        assert 0 <= estimate.low <= estimate.value <= estimate.high


def test_weighting_changes_what_the_log_alone_would_say():
    logged, other, truth = drawn(3, 4000)
    estimate = off_policy(logged, other).snips
    assert abs(estimate.value - truth.mean()) < 0.02
    assert abs(logged.outcome.mean() - truth.mean()) > 0.03


def test_a_model_of_outcomes_makes_the_interval_narrower():
    logged, other, _ = drawn(4, 4000)
    estimates = off_policy(logged, other)
    assert (
        estimates.doubly_robust.high - estimates.doubly_robust.low
        < estimates.ips.high - estimates.ips.low
    )


@pytest.mark.parametrize("propensity", [0.0, 1.5, np.nan])
def test_a_propensity_that_is_none_is_refused(propensity):
    with pytest.raises(RecordError, match="propensity: found"):
        Logged(np.ones(1, bool), np.array([propensity]), np.ones(1), np.zeros(1, int))


def test_a_log_that_says_too_little_of_the_policy_is_refused():
    logged, _, _ = drawn(5, 20)
    with pytest.raises(RecordError, match="expected at least 50"):
        off_policy(logged, ~logged.reasoning)


def test_a_turn_without_an_outcome_is_refused():
    with pytest.raises(RecordError, match="outcome: found turns without one"):
        Logged(np.ones(1, bool), np.ones(1), np.array([np.nan]), np.zeros(1, int))


def test_a_better_guess_of_outcomes_narrows_the_doubly_robust_interval():
    logged, other, truth = drawn(6, 4000)
    plain = off_policy(logged, other).doubly_robust
    guesses = {"expected_reasoning": np.full(len(other), 0.9), "expected_fast": truth}
    guided = off_policy(logged, other, **guesses).doubly_robust
    assert guided.high - guided.low < plain.high - plain.low
