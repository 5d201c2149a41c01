"""Policies: what each of them chooses in a situation, and what it says about it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from turnout.catalog import Price
from turnout.errors import SettingsError
from turnout.routing.policies import (
    POLICY_NAMES,
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
    policy_of,
)

TARGETS = {
    "reasoning": Target("deep", Price(5.0, 25.0, 0.5, 6.25), output_tokens=1_000),
    "fast": Target("quick", Price(1.0, 5.0, 0.1, 1.25), output_tokens=400),
}


def on(model_class, tokens=0, used_at_s=0.0, **more):
    """A conversation that is on a class, whose model has so many tokens in its cache."""
    caches = {model_class: CachedPrompt(tokens, used_at_s)} if tokens else {}
    return Session(model_class, 1, 0.0, model_class, caches, **more)


def situation(score, session=None, **more):
    given = {"turn_index": 1 if session is None else 5, "threshold": 0.5, "targets": TARGETS}
    return Situation(score=score, session=session, **(given | more))


def refuse_to_score():
    raise AssertionError("scored")


def test_a_session_is_scored_once_and_stays():
    assert SessionPolicy().choose(situation(0.9)).model_class == "reasoning"
    later = SessionPolicy().choose(situation(refuse_to_score, on("reasoning")))
    assert (later.model_class, later.code, later.score) == ("reasoning", "pinned", None)


def test_a_conversation_is_scored_at_every_turn():
    choice = ConversationPolicy().choose(situation(0.9, on("fast")))
    assert (choice.model_class, choice.score) == ("reasoning", 0.9)


def test_a_score_equal_to_the_threshold_goes_to_reasoning():
    assert ConversationPolicy().choose(situation(0.5)).model_class == "reasoning"


def test_the_fixed_policy_scores_nothing():
    choice = FixedPolicy("fast").choose(situation(refuse_to_score))
    assert (choice.model_class, choice.code) == ("fast", "fixed")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"now_s": 299.0}, "fast", id="warm"),
        pytest.param({"now_s": 300.0}, "reasoning", id="cold"),
        pytest.param({"now_s": 1.0, "compacted": True}, "reasoning", id="compacted"),
    ],
)
def test_a_boundary_is_where_no_cache_is_lost(more, expected):
    choice = BoundaryPolicy(300).choose(situation(0.9, on("fast"), **more))
    assert choice.model_class == expected


def test_a_boundary_takes_the_lifetime_of_the_cache_that_the_session_knows():
    session = replace(on("fast"), caches={"fast": CachedPrompt(9, 0.0, lifetime_s=3600)})
    assert BoundaryPolicy(300).choose(situation(0.9, session, now_s=3000)).code == "cache_warm"


@pytest.mark.parametrize("name", POLICY_NAMES)
@pytest.mark.parametrize(
    ("more", "lock"),
    [
        ({"locks": ("thinking",)}, "thinking"),
        ({"locks": ("stored_chain",)}, "stored_chain"),
        ({"locks": ("person",)}, "person"),
        ({"kind": "continuation"}, "tool_loop"),
        ({"kind": "title"}, "helper"),
    ],
)
def test_a_lock_keeps_every_policy_on_the_class_unscored(name, more, lock):
    choice = policy_of(name).choose(situation(refuse_to_score, on("fast"), now_s=1e6, **more))
    assert (choice.model_class, choice.lock, choice.code) == ("fast", lock, "locked")


def test_a_choice_says_what_the_other_architecture_would_have_done():
    choice = ConversationPolicy().choose(situation(0.1, on("reasoning")))
    assert (choice.session_class, choice.conversation_class) == ("reasoning", "fast")


def test_an_unknown_policy_is_refused():
    with pytest.raises(SettingsError, match="found 'clever'; expected one of session"):
        policy_of("clever")


def test_the_cost_of_a_turn_counts_what_the_cache_holds():
    cost = TARGETS["reasoning"].turn_usd(prompt_tokens=10_000, cached_tokens=8_000)
    assert cost == pytest.approx((8_000 * 0.5 + 2_000 * 6.25 + 1_000 * 25.0) / 1e6)


def test_a_negative_price_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        Price(-1.0, 2.0)


# 40,000 tokens in fast's cache: extra is 0.0400 USD a turn (0.0160 of cached input, 0.0010 of the
# new thousand, 0.0230 of output), and reasoning writes the 40,000 anew for 0.2300 USD more.
LONG = {"prompt_tokens": 41_000, "now_s": 60.0}


def test_a_stated_price_of_a_miss_refuses_an_upgrade_that_costs_more():
    policy = PricedPolicy(miss_usd=0.05)
    choice = policy.choose(situation(0.95, on("fast", 40_000), **LONG))
    assert (choice.model_class, choice.code) == ("fast", "upgrade_too_dear")
    assert choice.switching_usd == pytest.approx(0.23)
    assert choice.switch_usd - choice.stay_usd == pytest.approx(0.23 + 0.044)
    assert "worth 0.0475 USD" in choice.reason


def test_a_stated_price_of_a_miss_sends_a_cheap_turn_up_below_the_threshold():
    asked = situation(0.3, on("fast"), prompt_tokens=500)
    assert PricedPolicy(miss_usd=0.2).choose(asked).model_class == "reasoning"
    assert PricedPolicy().choose(asked).model_class == "fast"


def test_a_score_at_the_threshold_never_leaves_reasoning():
    asked = situation(0.5, on("reasoning"), prompt_tokens=500_000)
    assert PricedPolicy(miss_usd=0.0).choose(asked).model_class == "reasoning"


def test_a_shift_of_the_score_makes_another_probability_of_it():
    asked = situation(0.9, on("fast"), prompt_tokens=500)
    assert PricedPolicy(miss_usd=0.1).choose(asked).model_class == "reasoning"
    assert PricedPolicy(miss_usd=0.1, score_shift=-4.0).choose(asked).model_class == "fast"


def test_a_stated_price_of_a_miss_pays_for_an_upgrade_that_costs_less():
    choice = PricedPolicy(miss_usd=1.0).choose(situation(0.95, on("fast", 40_000), **LONG))
    assert (choice.model_class, choice.code) == ("reasoning", "worth_it")


def test_a_derived_price_of_a_miss_never_refuses_a_score_well_above_the_threshold():
    just_above = PricedPolicy().choose(situation(0.55, on("fast", 40_000), **LONG))
    well_above = PricedPolicy().choose(situation(0.74, on("fast", 2_000_000), **LONG))
    assert (just_above.code, well_above.model_class) == ("upgrade_too_dear", "reasoning")


def test_the_longer_a_conversation_goes_on_the_sooner_a_switch_pays():
    few = PricedPolicy(miss_usd=0.1, turns_left=TurnsLeft((1.0,)))
    many = PricedPolicy(miss_usd=0.1, turns_left=TurnsLeft((50.0,)))
    asked = situation(0.95, on("fast", 40_000), **LONG)
    assert [p.choose(asked).model_class for p in (few, many)] == ["fast", "reasoning"]


def test_a_switch_back_within_the_lifetime_reads_the_old_cache():
    both = {name: CachedPrompt(40_000, 0.0) for name in TARGETS}
    session = replace(on("fast"), caches=both)
    policy = PricedPolicy(miss_usd=0.1, turns_left=TurnsLeft((1.0,)))
    warm = policy.choose(situation(0.95, session, **LONG))
    gone = policy.choose(situation(0.95, on("fast", 40_000), **LONG))
    assert (warm.model_class, warm.switching_usd) == ("reasoning", 0.0)
    assert gone.model_class == "fast"


def test_a_cold_cache_makes_a_switch_free():
    choice = PricedPolicy().choose(situation(0.1, on("reasoning", 40_000), now_s=1e6))
    assert (choice.model_class, choice.switching_usd) == ("fast", 0.0)


def test_a_downgrade_needs_a_score_clearly_below_the_threshold():
    near, low = (PricedPolicy().choose(situation(p, on("reasoning"))) for p in (0.45, 0.2))
    assert (near.model_class, near.code) == ("reasoning", "near_threshold")
    assert (low.model_class, low.code) == ("fast", "worth_it")


def test_a_downgrade_that_saves_less_than_the_lost_cache_is_refused():
    short = {name: replace(target, output_tokens=0.0) for name, target in TARGETS.items()}
    asked = situation(0.3, on("reasoning", 40_000), targets=short, **LONG)
    choice = PricedPolicy().choose(asked)
    assert (choice.model_class, choice.code) == ("reasoning", "downgrade_too_dear")


def test_another_effort_of_one_model_keeps_the_part_of_the_cache_that_it_shares():
    shared = {name: replace(target, shared_cache=0.75) for name, target in TARGETS.items()}
    asked = situation(0.95, on("fast", 40_000), **LONG)
    lost = [PricedPolicy().choose(s).switching_usd for s in (asked, replace(asked, targets=shared))]
    assert lost[1] == pytest.approx(lost[0] / 4)


@pytest.mark.parametrize("budget", [{"max_switching_usd": 0.3}, {"max_switching_share": 0.1}])
def test_a_budget_for_switching_keeps_a_conversation_where_it_is(budget):
    session = on("fast", 40_000, spent_usd=0.5, switching_usd=0.1)
    asked = situation(0.95, session, **LONG)
    free = PricedPolicy(miss_usd=5.0).choose(asked)
    bound = PricedPolicy(miss_usd=5.0, **budget).choose(asked)
    assert (free.model_class, bound.model_class) == ("reasoning", "fast")
    assert bound.code == "over_budget"


def test_without_prices_the_score_decides():
    assert PricedPolicy().choose(situation(0.9, on("fast"), targets={})).code == "scored"


def test_the_first_turn_weighs_the_price_of_a_miss_too():
    asked = situation(0.9, prompt_tokens=50_000)
    cheap, dear = (PricedPolicy(miss_usd=usd).choose(asked) for usd in (0.1, 1.0))
    assert (cheap.model_class, dear.model_class) == ("fast", "reasoning")
    assert cheap.code == "upgrade_too_dear"


def test_turns_left_are_those_of_the_conversations_that_reached_the_turn():
    # Forty conversations of one turn, forty of three.
    left = TurnsLeft.from_turn_counts([1] * 40 + [3] * 40)
    assert [left.from_turn(turn) for turn in (1, 2, 3, 9)] == [2.0, 2.0, 1.0, 1.0]


def test_turns_that_few_conversations_reached_take_the_last_known_value():
    left = TurnsLeft.from_turn_counts([2] * 40 + [100])
    assert len(left.by_turn) == 2


@pytest.mark.parametrize("wrong", [{"miss_usd": -1.0}, {"hysteresis": -0.1}])
def test_a_number_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 0"):
        PricedPolicy(**wrong)


def test_two_messages_are_scored_at_the_same_time():
    both_score = threading.Barrier(2, timeout=10)

    def score():
        both_score.wait()
        return 0.9

    situations = [Situation(turn_index=1, score=score, threshold=0.5) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda s: s.p_reasoning, situations)) == [0.9, 0.9]
