"""Two sets of conversations are told apart where they differ, and only there."""

import numpy as np
import pytest

from turnout.stats.histograms import Posterior, difference, histogram, holm, posterior

CONVERSATIONS = 200


def flat(rows):
    return Posterior(0.5, np.full(rows, 0.5), np.zeros(rows))


def drawn(draw, shift=0.0, conversations=CONVERSATIONS, alike=1.0):
    """Bins of turns: those of one conversation are alike."""
    turns = draw.geometric(0.3, conversations)
    clusters = np.repeat(np.arange(conversations), turns)
    own = np.repeat(draw.normal(shift, alike, conversations), turns)
    values = own + draw.normal(0, 1, len(own))
    return np.searchsorted([-1.2, -0.4, 0.4, 1.2], values), clusters


def counted(bins, clusters, k=5):
    return histogram(bins, k, clusters, np.ones(len(bins)), flat(len(bins)))


@pytest.mark.slow
def test_unchanged_conversations_differ_at_the_level_of_the_test():
    draw = np.random.default_rng(3)
    p = np.array(
        [difference(counted(*drawn(draw)), counted(*drawn(draw))).p_value for _ in range(600)]
    )
    # 0.05 ± three standard deviations of 600 draws.
    assert 0.023 < (p < 0.05).mean() < 0.077
    # As if turns were independent, a third of unchanged logs would be an alarm.
    alone = []
    for _ in range(200):
        parts = [drawn(draw)[0] for _ in range(2)]
        alone.append(difference(*(counted(b, np.arange(len(b))) for b in parts)).p_value)
    assert (np.array(alone) < 0.05).mean() > 0.15


def test_a_shift_is_found_and_its_distance_lies_in_the_interval():
    draw = np.random.default_rng(4)
    change = difference(counted(*drawn(draw)), counted(*drawn(draw, shift=1.0)))
    many = [counted(*drawn(draw, shift, 40_000)).shares for shift in (0.0, 1.0)]
    true = 0.5 * np.abs(many[0] - many[1]).sum()
    assert change.p_value < 1e-6
    assert change.low < true < change.high


def test_sides_that_share_no_bin_differ():
    reference = counted(np.zeros(60, int), np.arange(60), 2)
    new = counted(np.ones(60, int), np.arange(60), 2)
    assert difference(reference, new).p_value < 1e-6
    assert difference(reference, new).distance == 1.0
    assert difference(reference, reference).p_value == 1.0


def test_another_share_of_reasoning_is_no_other_difference():
    draw = np.random.default_rng(5)

    def traffic(share, rows=4000):
        needs = draw.random(rows) < share
        margin = draw.normal(np.where(needs, 1.0, -1.0), 1.0)
        bins = (draw.random(rows) < np.where(needs, 0.8, 0.2)).astype(int)
        # The score of a router that sees both, and whose log had a share of 0.3.
        evidence = 2 * margin + np.log(4) * (2 * bins - 1)
        scores = 1 / (1 + np.exp(-evidence - np.log(0.3 / 0.7)))
        estimated = posterior(scores, 0.3, np.ones(rows))
        return histogram(bins, 2, np.arange(rows), np.ones(rows), estimated)

    reference, new = traffic(0.3), traffic(0.55)
    assert abs(new.prior - 0.55) < 0.03
    assert difference(reference, new).p_value < 1e-6
    explained = difference(reference, new, at_new_prior=True)
    assert explained.distance < 0.02
    assert explained.p_value > 0.05


def test_holm_multiplies_by_how_many_are_left():
    assert holm([0.01, 0.5, 0.02]) == pytest.approx([0.03, 0.5, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
