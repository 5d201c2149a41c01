"""The bound on misses holds for messages, however long their conversations are."""

import numpy as np
import pytest

from turnout.errors import RecordError
from turnout.replay.miss_bound import threshold_for_miss

RUNS = 200


def singles(n):
    return [str(number) for number in range(n)]


def conversations(n, draw):
    """Conversations of heavy-tailed lengths; messages of one are alike, and long ones score low."""
    lengths = np.minimum(np.ceil(draw.pareto(1.5, n)), 200).astype(int)
    owner = np.repeat(np.arange(n), lengths)
    spread = draw.normal(0, np.sqrt(0.9), n)[owner] + draw.normal(0, np.sqrt(0.1), len(owner))
    return spread - 0.5 * np.log(lengths)[owner], owner


@pytest.mark.parametrize(("n", "max_miss"), [(80, 0.05), (400, 0.01), (300, 0.1), (60, 0.2)])
def test_the_miss_rate_exceeds_its_bound_no_more_often_than_promised(n, max_miss):
    draw = np.random.default_rng(0)
    # Scores are uniform: the true miss rate of a threshold is the threshold itself.
    over = [
        threshold_for_miss(draw.random(n), singles(n), max_miss, 0.95, where="here") > max_miss
        for _ in range(RUNS)
    ]
    assert np.mean(over) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / RUNS)


def test_the_bound_is_on_messages_where_a_few_conversations_have_most_of_them():
    draw = np.random.default_rng(0)
    everything = np.sort(conversations(300_000, draw)[0])
    over = []
    for _ in range(RUNS):
        scores, owner = conversations(400, draw)
        try:
            chosen = threshold_for_miss(scores, owner, 0.2, 0.95, where="here")
        except RecordError:
            over.append(False)
        else:
            over.append(np.searchsorted(everything, chosen) / len(everything) > 0.2)
    assert np.mean(over) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / RUNS)


def test_the_threshold_is_no_lower_than_it_must_be():
    draw = np.random.default_rng(1)
    chosen = [
        threshold_for_miss(draw.random(1000), singles(1000), 0.05, 0.95, where="here")
        for _ in range(100)
    ]
    assert 0.03 < np.mean(chosen) < 0.05


def test_too_few_messages_are_refused_with_the_bound_that_they_allow():
    rows = np.linspace(0, 1, 59)
    with pytest.raises(RecordError, match=r"58 independent .* at least 59.* Allow at least 0.051"):
        threshold_for_miss(rows[:58], singles(58), 0.05, 0.95, where="here")
    threshold_for_miss(rows[:58], singles(58), 0.051, 0.95, where="here")
    threshold_for_miss(rows, singles(59), 0.05, 0.95, where="here")
    with pytest.raises(RecordError, match="0 messages that need reasoning"):
        threshold_for_miss(rows[:0], [], 0.05, 0.95, where="here")


def test_messages_of_one_conversation_are_no_more_than_one():
    scores = np.linspace(0, 1, 300)
    with pytest.raises(RecordError, match="of 50 conversations, worth 50 independent"):
        threshold_for_miss(scores, singles(50) * 6, 0.05, 0.95, where="here")
