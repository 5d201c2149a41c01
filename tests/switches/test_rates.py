"""Shares with intervals that know what belongs together."""

from hypothesis import given
from hypothesis import strategies as st

from turnout.switches.rates import share


def deviation(conversations):
    count, turns = (sum(column) for column in zip(*conversations, strict=True))
    return sum((y - count / turns * n) ** 2 for y, n in conversations)


CONVERSATIONS = st.lists(
    st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1
)


@given(CONVERSATIONS)
def test_an_interval_holds_its_share_and_stays_in_zero_to_one(conversations):
    count, turns = (sum(column) for column in zip(*conversations, strict=True))
    estimate = share(count, turns, deviation(conversations))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.count == count
    assert estimate.low < estimate.high


def test_turns_of_few_conversations_say_less_than_as_many_of_many():
    # 20 of 100 turns: one conversation that always switches, or one turn in five of each.
    together = share(20, 100, deviation([(20, 20), *[(0, 20)] * 4]))
    apart = share(20, 100, deviation([(4, 20)] * 5))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_no_switch_in_many_turns_is_still_no_certainty():
    assert 0 < share(0, 300, 0.0).high < 0.02
    assert share(0, 0, 0.0).high == 1
