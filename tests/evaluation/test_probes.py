"""Probes of a conversation router: follow-ups, first turns, unrelated histories."""

import numpy as np
import pytest

from tests.tiny_router import EASY, HARD, write_router
from turnout.evaluation.probes import MIN_PROBES, Probe, probe, probes_of
from turnout.records import Turn
from turnout.routing import Formatter, RouterFolder


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    return RouterFolder.read(write_router(tmp_path_factory.mktemp("r") / "router", "conversation"))


def probes(unrelated):
    words = [*HARD, *EASY] * 4
    return [Probe(f"c{at}", f"{word} it {at}", unrelated) for at, word in enumerate(words)]


def test_a_router_that_reads_previous_turns_scores_a_follow_up_as_the_request(router):
    found = probe(router.scorer(), Formatter("conversation"), probes((Turn("oh"),)), seed=0)
    assert found.following.value == pytest.approx(1.0)
    assert found.probes == found.first_turns_alike == 32


def test_a_router_that_is_shown_nothing_cannot_follow(router):
    blind = Formatter("conversation", previous_turns=0)
    found = probe(router.scorer(), blind, probes((Turn("oh"),)), seed=0)
    assert np.isnan(found.following.value)


def test_an_unrelated_conversation_of_no_hard_or_easy_word_moves_nothing(router):
    found = probe(router.scorer(), Formatter("conversation"), probes((Turn("oh"),)), seed=0)
    assert found.moved_by_history.value == found.moved_by_greeting.value == 0.0


def test_a_router_that_adds_up_all_it_reads_is_moved_by_an_unrelated_conversation(router):
    unrelated = (Turn("prove it"), Turn("derive that"))
    found = probe(router.scorer(), Formatter("conversation"), probes(unrelated), seed=0)
    assert found.moved_by_history.value > 0.1
    assert found.excess.low > 0


def test_no_request_is_paired_with_its_own_conversation():
    names = [f"c{at}" for at in range(40)]
    talks = [(name, (Turn(name),)) for name in names]
    found = probes_of([(name, "hello") for name in names], talks, seed=3)
    assert len(found) == 40
    assert all(probe.unrelated[0].user_message != probe.conversation_id for probe in found)


def test_too_few_requests_give_no_probe():
    few = [(f"c{at}", "hello") for at in range(MIN_PROBES - 1)]
    assert probes_of(few, [("other", (Turn("x"),))], seed=0) == []
