"""What holds of policies in every situation, whatever prices, caches and scores are."""

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.routing.policies import (
    BoundaryPolicy,
    CachedPrompt,
    ConversationPolicy,
    FixedPolicy,
    Price,
    PricedPolicy,
    Session,
    SessionPolicy,
    Situation,
    Target,
    TurnsLeft,
)
from turnout.routing.policies.costs import TurnCosts

pytestmark = pytest.mark.slow  # a hundred situations for each

LOCKS = ("tool_loop", "helper", "thinking", "stored_chain", "person")
SCORES = st.floats(0, 1)
TOKENS = st.integers(0, 1_000_000)


def log_odds(probability):
    return math.log(probability) - math.log1p(-probability)


@st.composite
def targets(draw, shared=0.0):
    """A dear model and a cheap one; cached input costs less than other input."""

    def prices(most):
        plain = draw(st.floats(0.01, most))
        return Price(
            plain,
            draw(st.floats(0.0, 5 * most)),
            draw(st.none() | st.floats(0.0, plain)),
            draw(st.none() | st.floats(plain, 2 * plain)),
        )

    fast, reasoning = prices(3.0), prices(20.0)
    return {
        "reasoning": Target("deep", reasoning, draw(st.floats(0, 8_000)), shared),
        "fast": Target("quick", fast, draw(st.floats(0, 2_000)), shared),
    }


@st.composite
def situations(draw, on=("fast", "reasoning"), shared=0.0, scores=SCORES, first=True):
    """A turn of a conversation that is on a class, or its first turn."""
    session = None
    if not first or draw(st.booleans()):
        caches = {
            name: CachedPrompt(draw(TOKENS), draw(st.floats(0, 900)))
            for name in ("fast", "reasoning")
            if draw(st.booleans())
        }
        session = Session(
            draw(st.sampled_from(on)), 1, draw(st.floats(0, 900)), "fast", caches,
            spent_usd=draw(st.floats(0, 5)),
        )  # fmt: skip
    return Situation(
        turn_index=1 if session is None else draw(st.integers(2, 40)),
        score=draw(scores),
        threshold=draw(st.floats(0.05, 0.95)),
        population="log",
        session=session,
        now_s=draw(st.floats(900, 2_000)),
        compacted=session is not None and draw(st.booleans()),
        prompt_tokens=draw(TOKENS),
        targets=draw(targets(shared)),
    )


DIALS = st.builds(
    PricedPolicy,
    miss_usd=st.none() | st.floats(0, 5),
    hysteresis=st.floats(0, 2),
    turns_left=st.floats(1, 20).map(lambda left: TurnsLeft((left,))),
    score_shift=st.floats(-3, 3),
    max_switching_share=st.none() | st.floats(0, 1),
    max_switching_usd=st.none() | st.floats(0, 1),
)
POLICIES = DIALS | st.sampled_from(
    [
        SessionPolicy(),
        ConversationPolicy(),
        BoundaryPolicy(),
        FixedPolicy("fast"),
        FixedPolicy("reasoning"),
    ]
)


@given(situations(first=False), POLICIES, st.sampled_from(LOCKS))
def test_no_policy_leaves_a_lock_or_scores_under_one(asked, policy, lock):
    def refuse_to_score():
        raise AssertionError("scored")

    choice = policy.choose(replace(asked, score=refuse_to_score, locks=(lock,)))
    assert choice.model_class == asked.session.model_class
    assert (choice.lock, choice.code, choice.score, choice.margin) == (lock, "locked", None, None)


@given(situations(), POLICIES)
def test_every_choice_says_why_in_words_and_in_fields(asked, policy):
    choice = policy.choose(asked)
    assert choice.reason
    assert (choice.policy, choice.population, choice.threshold) == (
        policy.name,
        "log",
        asked.threshold,
    )
    assert choice.target == asked.targets[choice.model_class].name
    costs = TurnCosts.of(asked)
    for name in ("stay_usd", "switch_usd", "switching_usd"):
        assert getattr(choice, name) == getattr(costs, name)
    assert choice.switching_usd >= -1e-12
    if choice.score is not None:
        assert choice.margin == asked.score - asked.threshold
        assert choice.conversation_class == asked.class_by_score
    if asked.session is not None:
        assert choice.session_class == "fast"
    # A score stands in the words wherever one decided.
    if choice.code in ("scored", "worth_it", "upgrade_too_dear", "near_threshold"):
        assert f"{asked.score:.3f}" in choice.reason


@given(situations(), POLICIES)
def test_a_situation_is_scored_at_most_once_and_always_chosen_alike(asked, policy):
    calls = []

    def score():
        calls.append(None)
        return asked.score

    once = policy.choose(replace(asked, score=score))
    assert len(calls) <= 1
    again = policy.choose(asked)
    assert all(getattr(once, f.name) == getattr(again, f.name) for f in fields(once))


@given(situations(), SCORES)
def test_by_default_a_score_well_above_the_threshold_is_never_refused(asked, score):
    if not 0 < score < 1 or log_odds(score) < log_odds(asked.threshold) + 1:
        score = 1 - 1e-9
    assert PricedPolicy().choose(replace(asked, score=score)).model_class == "reasoning"


@given(situations(on=("fast",)), DIALS)
def test_an_upgrade_is_refused_only_where_it_costs_more_than_the_miss_it_avoids(asked, policy):
    if asked.class_by_score == "fast":
        return
    policy = replace(policy, max_switching_share=None, max_switching_usd=None)
    choice = policy.choose(asked)
    costs = TurnCosts.of(asked)
    cost_usd = costs.extra_usd + costs.switching_usd / policy.turns_left.from_turn(1)
    worth_usd = policy.probability(asked.score) * choice.miss_usd
    if choice.model_class == "fast":
        assert choice.code == "upgrade_too_dear"
        assert cost_usd > worth_usd
        assert f"{cost_usd:.4f} USD more" in choice.reason
        assert f"worth {worth_usd:.4f} USD" in choice.reason
    elif policy.miss_usd is not None:
        assert cost_usd <= worth_usd + 1e-9


@given(situations(on=("reasoning",), first=False), DIALS)
def test_a_downgrade_needs_a_score_clearly_below_and_an_expected_saving(asked, policy):
    choice = policy.choose(asked)
    if choice.model_class == "reasoning":
        return
    costs = TurnCosts.of(asked)
    risked_usd = policy.probability(asked.score) * choice.miss_usd
    assert asked.score < asked.threshold
    if asked.score > 0:
        assert log_odds(asked.score) < log_odds(asked.threshold) - policy.hysteresis + 1e-9
    assert costs.extra_usd > risked_usd
    assert costs.extra_usd - risked_usd >= costs.switching_usd / policy.turns_left.from_turn(1)


@given(
    st.lists(st.tuples(SCORES, st.integers(0, 200_000), st.floats(0, 400)), max_size=12),
    targets(),
    DIALS,
)
def test_switching_stays_within_its_budget_through_a_whole_conversation(turns, priced, policy):
    session, now_s = None, 0.0
    for index, (score, prompt, wait_s) in enumerate(turns, 1):
        now_s += wait_s
        choice = policy.choose(
            Situation(
                turn_index=index, score=score, threshold=0.5, session=session, now_s=now_s,
                prompt_tokens=prompt, targets=priced,
            )
        )  # fmt: skip
        to = choice.model_class
        switched = session is not None and session.model_class != to
        usd = choice.switch_usd if switched or (session is None and to == "reasoning") else None
        base = session or Session.begun("c", to, index, now_s)
        session = base.with_choice(to, index, now_s).with_served(
            to,
            CachedPrompt(prompt, now_s),
            cost_usd=choice.stay_usd if usd is None else usd,
            switching_usd=choice.switching_usd if switched else 0.0,
        )
        if switched and choice.switching_usd > 0:
            if policy.max_switching_usd is not None:
                assert session.switching_usd <= policy.max_switching_usd + 1e-12
            if policy.max_switching_share is not None:
                most_usd = policy.max_switching_share * session.spent_usd
                assert session.switching_usd <= most_usd + 1e-12


@given(situations(first=False, shared=1.0), POLICIES)
def test_another_effort_that_reads_the_whole_cache_switches_for_free(asked, policy):
    assert policy.choose(asked).switching_usd == pytest.approx(0.0, abs=1e-12)


@given(situations(first=False), st.floats(0, 1))
def test_what_an_effort_shares_of_the_cache_lowers_its_loss(asked, share):
    def loss(shared):
        named = {n: replace(t, shared_cache=shared) for n, t in asked.targets.items()}
        return PricedPolicy().choose(replace(asked, targets=named)).switching_usd

    assert loss(1.0) - 1e-9 <= loss(share) <= loss(0.0) + 1e-9


@given(situations(first=False))
def test_the_boundary_policy_leaves_no_cache_that_still_holds_the_conversation(asked):
    choice = BoundaryPolicy().choose(asked)
    if choice.model_class != asked.session.model_class and not asked.compacted:
        assert asked.warm_tokens(asked.session.model_class) == 0


def test_the_calls_of_a_tool_loop_keep_the_cache_warm_for_the_boundary_policy():
    session = Session("fast", 1, 0.0, "fast", {"fast": CachedPrompt(9_000, used_at_s=900.0)})
    asked = Situation(turn_index=2, score=0.9, threshold=0.5, session=session, now_s=1_000.0)
    assert BoundaryPolicy(300).choose(asked).code == "cache_warm"


def test_a_budget_refuses_even_a_score_well_above_the_threshold():
    session = Session("fast", 1, 0.0, "fast", {"fast": CachedPrompt(40_000, 0.0)})
    priced = {
        "reasoning": Target("deep", Price(5.0, 25.0, 0.5, 6.25), 1_000),
        "fast": Target("quick", Price(1.0, 5.0, 0.1, 1.25), 400),
    }
    asked = Situation(
        turn_index=2, score=0.99, threshold=0.5, session=session, now_s=10.0,
        prompt_tokens=41_000, targets=priced,
    )  # fmt: skip
    assert PricedPolicy().choose(asked).model_class == "reasoning"
    assert PricedPolicy(max_switching_usd=0.01).choose(asked).code == "over_budget"


def test_equal_prices_save_nothing_and_keep_reasoning():
    same = {name: Target(name, Price(1.0, 1.0), 100) for name in ("reasoning", "fast")}
    session = Session("reasoning", 1, 0.0, "reasoning")
    asked = Situation(
        turn_index=2, score=0.01, threshold=0.5, session=session, prompt_tokens=100, targets=same
    )
    choice = PricedPolicy().choose(asked)
    assert (choice.model_class, choice.code) == ("reasoning", "downgrade_too_dear")
    assert "fast costs no less" in choice.reason


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_what_is_no_score_is_refused(score):
    with pytest.raises(ValueError, match="expected a score in"):
        ConversationPolicy().choose(Situation(turn_index=1, score=score, threshold=0.5))


def test_a_score_shift_that_says_certain_is_no_error():
    assert PricedPolicy(score_shift=-1_000.0).probability(0.5) == pytest.approx(0.0)
    assert PricedPolicy(score_shift=1_000.0).probability(0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("turn_index", 0),
        ("turn_index", -3),
        ("threshold", 1.5),
        ("threshold", math.nan),
        ("prompt_tokens", None),
        ("prompt_tokens", -1),
        ("locks", ("sleepy",)),
        ("locks", "person"),
        ("kind", "sleepy"),
    ],
)
def test_a_situation_that_cannot_be_is_refused_by_the_name_of_its_field(field, value):
    given_fields = {"turn_index": 1, "score": 0.5, "threshold": 0.5} | {field: value}
    with pytest.raises(ValueError, match=f"^{field}: found"):
        Situation(**given_fields)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Target("a", Price(1.0, 1.0), output_tokens=-1),
        lambda: Target("a", Price(1.0, 1.0), cache_lifetime_s=-1),
        lambda: Target("a", Price(1.0, 1.0), shared_cache=1.5),
        lambda: FixedPolicy("slow"),
        lambda: PricedPolicy(miss_usd=math.inf),
        lambda: PricedPolicy(miss_usd=math.nan),
        lambda: PricedPolicy(score_shift=math.nan),
    ],
)
def test_numbers_and_names_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()


def test_a_share_of_the_spend_above_one_is_refused():
    with pytest.raises(ValueError, match=r"max_switching_share in \[0, 1\]"):
        PricedPolicy(max_switching_share=1.5)
