"""Ratios of sums over conversations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.stats.ratios import ratio

CONVERSATIONS = 20_000


def long_tailed(kind):
    """Numerators and denominators of conversations, of which a few are very long."""
    draw = np.random.default_rng(7)
    turns = np.ceil(draw.lognormal(0.7, 1.0, CONVERSATIONS))
    if kind == "share":
        return draw.binomial(turns.astype(int), draw.beta(0.3, 2.7, CONVERSATIONS)), turns
    usd = draw.gamma(1.0, 1.0, CONVERSATIONS) * turns
    return usd - (0.8 * turns if kind == "difference" else 0), turns


@pytest.mark.parametrize("kind", ["difference", "amount", "share"])
def test_an_interval_of_thirty_conversations_holds_the_truth_about_as_often_as_it_says(kind):
    numerators, denominators = long_tailed(kind)
    truth = numerators.sum() / denominators.sum()
    draw = np.random.default_rng(0)
    held = []
    for _ in range(500):
        chosen = draw.integers(0, CONVERSATIONS, 30)
        estimate = ratio(numerators[chosen], denominators[chosen], kind)
        held.append(estimate.low <= truth <= estimate.high)
    assert np.mean(held) > 0.9  # the linearised variance alone: 0.86 to 0.87


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=20),
    st.sampled_from(["amount", "share"]),
)
def test_an_interval_holds_its_value_and_stays_on_its_scale(pairs, kind):
    numerators, extra = np.array(pairs, float).T
    denominators = numerators + extra
    estimate = ratio(numerators, denominators, kind)
    if denominators.max() == denominators.sum():
        assert np.isnan(estimate.low)
    elif 0 < estimate.value < 1:
        most = 1 if kind == "share" else np.inf
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= most


def test_what_one_conversation_says_has_no_interval():
    estimate = ratio(np.array([3.0, 0.0]), np.array([4.0, 0.0]), "share")
    assert estimate.value == 0.75
    assert np.isnan(estimate.low)
    assert np.isnan(estimate.high)


def test_without_turns_there_is_no_ratio():
    assert np.isnan(ratio(np.zeros(3), np.zeros(3)).value)


def test_the_interval_of_equal_conversations_is_that_of_a_mean():
    values = np.random.default_rng(3).normal(2.0, 1.0, 25)
    estimate = ratio(values, np.ones(25))
    reach = 2.0639 * values.std(ddof=1) / 5  # Student's t with 24 degrees of freedom
    assert estimate.low == pytest.approx(values.mean() - reach, rel=1e-4)
    assert estimate.high == pytest.approx(values.mean() + reach, rel=1e-4)
