"""The share of reasoning among messages of which only scores are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.stats.prior import estimated_prior


@pytest.mark.parametrize("share", [0.02, 0.22, 0.5, 0.9])
def test_the_share_of_unlabelled_messages_is_recovered_from_calibrated_scores(share):
    rng = np.random.default_rng(0)
    needs = rng.random(40_000) < share
    # Two unit normals two apart: at equal priors the log-odds are 2 x.
    scores = 1 / (1 + np.exp(-2 * rng.normal(np.where(needs, 1, -1))))
    estimate = estimated_prior(scores, 0.5)
    assert estimate.value == pytest.approx(share, abs=0.01)
    assert estimate.low < share < estimate.high


@given(st.lists(st.floats(1e-3, 0.999), min_size=1, max_size=50), st.floats(0.05, 0.95))
def test_the_estimate_is_the_likeliest_share(scores, trained):
    estimate = estimated_prior(np.array(scores), trained).value
    ratios = np.array(scores) / (1 - np.array(scores)) * (1 - trained) / trained

    def log_likelihood(share):
        return np.log(share * ratios + 1 - share).sum()

    assert 0 <= estimate <= 1
    assert log_likelihood(estimate) >= max(map(log_likelihood, np.linspace(0, 1, 21))) - 1e-3


def test_scores_that_say_nothing_leave_the_share_where_it_was_and_open():
    estimate = estimated_prior(np.full(10, 0.3), 0.3)
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(0.3), 0, 1)
