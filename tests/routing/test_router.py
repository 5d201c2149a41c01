"""Decisions: scores against thresholds, and what each policy makes of a conversation's past."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnout
from tests.tiny_router import EASY, HARD, write_router
from turnout import Turn
from turnout.errors import RecordError, SettingsError
from turnout.routing import Priors, Router, RouterFolder
from turnout.routing.folder import set_threshold
from turnout.routing.policies import policy_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("routers")
    return {name: write_router(root / name, name) for name in ("session", "conversation")}


def router_of(folders, architecture="session", policy=None, **more):
    return Router(RouterFolder.read(folders[architecture]), policy, **more)


def user(*texts):
    messages = []
    for text in texts:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]
    return messages[:-1]


def test_the_front_door_decides_with_score_threshold_and_reason(folders):
    decision = turnout.load(folders["session"]).decide("Prove it")
    assert (decision.model_class, decision.label) == ("reasoning", 0)
    assert decision.p_reasoning == pytest.approx(0.8808, abs=1e-3)
    assert decision.reason.endswith("is 0.881 ≥ threshold 0.500 (population: balanced)")


def test_a_score_equal_to_the_threshold_goes_to_reasoning(folders):
    score = router_of(folders).decide("thanks").p_reasoning
    assert router_of(folders, threshold=score).decide("thanks").model_class == "reasoning"
    above = router_of(folders, threshold=score + 1e-9).decide("thanks")
    assert above.model_class == "fast"


def test_a_session_is_scored_once(folders):
    router = router_of(folders)
    first = router.decide(user("prove it"), conversation_id="c")
    later = router.decide(user("prove it", "thanks"), conversation_id="c")
    assert (first.p_reasoning is None, later.p_reasoning) == (False, None)
    assert later.model_class == "reasoning"
    assert "chosen at turn 1" in later.reason


def test_a_session_router_that_lost_its_memory_scores_the_first_message_again(folders):
    later = router_of(folders).decide(user("prove it", "thanks"), conversation_id="c")
    assert later.model_class == "reasoning"
    assert "first message" in later.reason


def test_a_conversation_router_decides_every_turn_with_what_was_said_before(folders):
    router = router_of(folders, "conversation")
    alone = router.decide("go on").p_reasoning
    after_hard = router.decide(user("prove and derive it", "go on")).p_reasoning
    assert after_hard > alone


def test_a_switch_is_known_to_be_one(folders):
    router = router_of(folders, "conversation")
    assert not router.decide(user("hello"), conversation_id="c").switched
    second = router.decide(user("hello", "prove and derive it"), conversation_id="c")
    assert second.switched
    assert second.previous_class == "fast"


def test_a_forgotten_conversation_starts_anew(folders):
    router = router_of(folders)
    router.decide("prove it", conversation_id="c")
    router.forget("c")
    assert router.decide("hello", conversation_id="c").model_class == "fast"


def test_a_locked_turn_stays_and_says_why(folders):
    router = router_of(folders, "conversation")
    router.decide(user("hello"), conversation_id="c")
    hard = user("hello", "prove and derive it")
    decision = router.decide(hard, conversation_id="c", locks=("thinking",))
    assert (decision.model_class, decision.lock, decision.code) == ("fast", "thinking", "locked")


def test_a_score_is_shown_on_the_side_of_the_threshold_that_it_went_to(tmp_path):
    priors = Priors(balanced=0.5, log=0.2)
    folder = RouterFolder.read(write_router(tmp_path / "router", priors=priors))
    score = Router(folder, population="balanced").decide("thanks").p_reasoning
    for threshold, sent_to in ((score, "reasoning"), (float(np.nextafter(score, 1)), "fast")):
        set_threshold(folder.path, threshold, "test", "balanced")
        decision = Router(RouterFolder.read(folder.path), population="log").decide("thanks")
        assert decision.model_class == sent_to
        assert (decision.p_reasoning >= decision.threshold) == (sent_to == "reasoning")


def test_the_boundary_policy_stays_while_the_prompt_cache_is_warm(folders):
    policy = policy_of("boundary", cache_lifetime_s=300)
    router = router_of(folders, "conversation", policy)
    hard = user("hello", "prove and derive it")
    router.decide(user("hello"), conversation_id="c", now_s=0)
    warm = router.decide(hard, conversation_id="c", now_s=299)
    assert (warm.model_class, warm.p_reasoning) == ("fast", None)
    assert "would lose the cache" in warm.reason
    assert router.decide(hard, conversation_id="c", now_s=599).model_class == "reasoning"


def test_a_clock_that_is_set_back_keeps_no_conversation_where_it_is(folders):
    router = router_of(folders, "conversation", policy_of("boundary", cache_lifetime_s=300))
    router.decide(user("hello"), conversation_id="c", now_s=90_000)
    after = router.decide(user("hello", "prove and derive it"), conversation_id="c", now_s=0)
    assert after.model_class == "reasoning"


def test_the_fixed_policy_scores_nothing(folders):
    router = router_of(folders, policy=policy_of("fixed", fixed_class="fast"))
    decision = router.decide("prove it")
    assert (decision.model_class, decision.p_reasoning) == ("fast", None)


def test_an_unknown_policy_is_refused():
    with pytest.raises(SettingsError, match="found 'clever'; expected one of session"):
        policy_of("clever")


def test_turns_may_be_given_instead_of_messages(folders):
    router = router_of(folders, "conversation")
    turns = [Turn("prove it", "done"), Turn("go on")]
    messages = [
        {"role": "user", "content": "prove it"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "go on"},
    ]
    assert router.decide(turns) == router.decide(messages)


@pytest.mark.parametrize("position", [0, 1])
def test_turns_mixed_with_messages_are_refused(folders, position):
    mixed = [Turn("prove it")]
    mixed.insert(position, {"role": "user", "content": "go on"})
    with pytest.raises(RecordError, match=rf"messages\[{position}\]: found dict beside turns"):
        router_of(folders).decide(mixed)


def test_no_message_at_all_is_refused(folders):
    with pytest.raises(RecordError, match="no user text"):
        router_of(folders).decide([])


def test_what_the_encoder_did_not_read_is_counted(folders):
    assert router_of(folders).decide("prove " * 100).truncated_tokens == 70


@given(st.lists(st.sampled_from([*HARD, *EASY, "the", "a"]), min_size=1, max_size=12))
def test_both_architectures_agree_on_a_first_message(folders, words):
    text = " ".join(words)
    assert (
        router_of(folders).decide(text).p_reasoning
        == router_of(folders, "conversation").decide(text).p_reasoning
    )


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_any_text_can_be_decided(folders, texts):
    decision = router_of(folders, "conversation").decide(user(*texts))
    assert 0 <= decision.p_reasoning <= 1


def test_a_decision_that_is_not_remembered_changes_nothing(folders):
    router = router_of(folders)
    router.decide("prove it", conversation_id="c", remember=False)
    assert router.decide("hello", conversation_id="c").model_class == "fast"


def test_first_requests_of_one_conversation_at_the_same_time_get_one_decision(folders):
    router = router_of(folders)
    texts = ["prove it", "hello"] * 20
    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda text: router.decide(text, conversation_id="c"), texts))
    assert len({decision.model_class for decision in decisions}) == 1


def test_threads_that_share_a_router_get_what_one_would(folders):
    router = router_of(folders)
    texts = [f"{word} this {n}" for n in range(20) for word in (HARD[0], EASY[0])]
    expected = [router.decide(text).p_reasoning for text in texts]
    scores = {}

    def decide(number):
        scores[number] = router.decide(texts[number], conversation_id=str(number)).p_reasoning

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [scores[number] for number in range(len(texts))] == expected
