"""Walking a whole log in columns gives the choices that policies give turn by turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.catalog import Price
from turnout.replay.columns import TurnColumns
from turnout.replay.spend import spend_usd
from turnout.replay.walk import CODES, walk
from turnout.routing.policies import (
    BoundaryPolicy,
    CachedPrompt,
    ConversationPolicy,
    FixedPolicy,
    PricedPolicy,
    Session,
    SessionPolicy,
    Situation,
    Target,
    TurnsLeft,
)

pytestmark = pytest.mark.slow

TARGETS = {
    "reasoning": Target("deep", Price(5.0, 25.0, 0.5, 6.25), 1500, cache_lifetime_s=600),
    "fast": Target("quick", Price(1.0, 5.0, 0.1, 1.25), 400, shared_cache=0.25),
}
LEFT = TurnsLeft((4.0, 3.0, 2.0))
POLICIES = [
    SessionPolicy(),
    ConversationPolicy(),
    BoundaryPolicy(),
    FixedPolicy("fast"),
    PricedPolicy(turns_left=LEFT),
    PricedPolicy(miss_usd=0.05, turns_left=LEFT, hysteresis=0.2),
    PricedPolicy(miss_usd=0.3, score_shift=-1.0),
    PricedPolicy(miss_usd=0.2, max_switching_usd=0.1),
    PricedPolicy(max_switching_share=0.2),
]
CONVERSATIONS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([0.02, 0.2, 0.35, 0.45, 0.5, 0.55, 0.7, 0.95]),
            st.sampled_from([10.0, 299.0, 300.0, 450.0, 4000.0]),  # seconds since the turn before
            st.integers(100, 60_000),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=5,
)


def columns_of(conversations):
    turns = [turn for conversation in conversations for turn in conversation]
    sizes = [len(conversation) for conversation in conversations]
    n = len(turns)
    return TurnColumns(
        starts=np.r_[0, np.cumsum(sizes)],
        turn_index=np.concatenate([np.arange(1, size + 1) for size in sizes]).astype(np.int32),
        at_s=np.concatenate([np.cumsum([t[1] for t in c]) for c in conversations]),
        prompt_tokens=np.array([t[2] for t in turns], np.float32),
        output_tokens={k: np.full(n, v.output_tokens, np.float32) for k, v in TARGETS.items()},
        reasoning_tokens={
            "reasoning": np.full(n, 1000, np.float32),
            "fast": np.zeros(n, np.float32),
        },
    ), np.array([t[0] for t in turns], np.float32)


def walked_turn_by_turn(conversations, policy):
    """The choices, tokens read from a cache and USD, by the policy's own `choose`."""
    choices, cached, usd = [], [], []
    for conversation in conversations:
        session, now_s = None, 0.0
        for index, (score, wait_s, prompt) in enumerate(conversation, 1):
            now_s += wait_s
            situation = Situation(
                turn_index=index, score=float(np.float32(score)), threshold=0.5, session=session,
                now_s=now_s, prompt_tokens=prompt, targets=TARGETS,
            )  # fmt: skip
            choice = policy.choose(situation)
            chosen = choice.model_class
            target = TARGETS[chosen]
            read = situation.warm_tokens(chosen)
            cost_usd = target.turn_usd(prompt, read)
            switched = session is not None and session.model_class != chosen
            base = session or Session(chosen, 1, now_s)
            session = Session(
                chosen, index, now_s, None, base.caches, base.spent_usd, base.switching_usd
            ).with_served(
                chosen,
                CachedPrompt(prompt, now_s, target.cache_lifetime_s),
                cost_usd=cost_usd,
                switching_usd=choice.switching_usd or 0.0 if switched else 0.0,
            )
            choices.append(choice)
            cached.append(read)
            usd.append(cost_usd)
    return choices, cached, usd


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: f"{p.name}-{POLICIES.index(p)}")
@given(conversations=CONVERSATIONS)
def test_columns_give_what_the_policy_gives_turn_by_turn(policy, conversations):
    turns, scores = columns_of(conversations)
    walked = walk(turns, scores, 0.5, policy, TARGETS, with_reasons=True)
    choices, cached, usd = walked_turn_by_turn(conversations, policy)
    classes = ["reasoning" if reasoning else "fast" for reasoning in walked.on_reasoning]
    assert classes == [choice.model_class for choice in choices]
    assert walked.cached_tokens.tolist() == cached
    spent = spend_usd(turns, walked, TARGETS)
    assert sum(part.sum() for part in spent.values()) == pytest.approx(sum(usd))
    reasons = walked.reasons
    assert [CODES[code] for code in reasons.codes] == [choice.code for choice in choices]
    assert reasons.usd.tolist() == pytest.approx(usd)
    fields = ["stay_usd", "switch_usd", "switching_usd"]
    for field in [*fields, "miss_usd"] if policy.name == "priced" else fields:
        of_policy = [getattr(choice, field) for choice in choices]
        assert getattr(reasons, field).tolist() == pytest.approx(of_policy, abs=1e-6)


def test_a_switch_is_warm_where_it_leaves_a_cache_that_still_holds_the_conversation():
    turns, scores = columns_of([[(0.9, 0.0, 500), (0.1, 599.0, 600), (0.9, 300.0, 700)]])
    walked = walk(turns, scores, 0.5, ConversationPolicy(), TARGETS)
    assert walked.switched.tolist() == [False, True, True]
    assert walked.left_warm.tolist() == [False, True, False]


def test_a_policy_does_not_foresee_how_long_an_answer_will_be():
    turns, scores = columns_of([[(0.55, 0.0, 500)]])
    policy = PricedPolicy(miss_usd=0.07)
    before = walk(turns, scores, 0.5, policy, TARGETS, with_reasons=True)
    for tokens in turns.output_tokens.values():
        tokens[:] = 100_000
    after = walk(turns, scores, 0.5, policy, TARGETS, with_reasons=True)
    assert after.on_reasoning.tolist() == before.on_reasoning.tolist() == [True]
    assert after.reasons.switch_usd.tolist() == before.reasons.switch_usd.tolist()
    assert after.reasons.usd[0] > 50 * before.reasons.usd[0], "the bill is that of the answer"


def test_a_cache_is_cold_where_the_clock_was_set_back_by_more_than_its_lifetime():
    turns, scores = columns_of([[(0.9, 9000.0, 500), (0.1, -8000.0, 600)]])
    walked = walk(turns, scores, 0.5, BoundaryPolicy(), TARGETS)
    assert (walked.on_reasoning.tolist(), walked.cached_tokens.tolist()) == ([True, False], [0, 0])


def test_without_times_no_cache_goes_cold():
    turns, scores = columns_of([[(0.9, 0.0, 500), (0.1, 1e6, 600)]])
    turns.at_s[:] = np.nan
    walked = walk(turns, scores, 0.5, BoundaryPolicy(), TARGETS)
    assert walked.on_reasoning.tolist() == [True, True]
    assert walked.cached_tokens.tolist() == [0, 500]


def test_spend_is_split_by_what_is_billed():
    turns, scores = columns_of([[(0.9, 0.0, 1000), (0.9, 1.0, 3000)]])
    spent = spend_usd(turns, walk(turns, scores, 0.5, ConversationPolicy(), TARGETS), TARGETS)
    assert {part: usd[0] for part, usd in spent.items()} == pytest.approx(
        {
            "input": 0.0,
            "cache_read": 1000 * 0.5e-6,
            "cache_write": 3000 * 6.25e-6,
            "output": 2 * 500 * 25e-6,
            "reasoning": 2 * 1000 * 25e-6,
        }
    )
