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
    return [
        Probe(f"c{number}", f"{word} it {number}", unrelated) for number, word in enumerate(words)
    ]


def test_a_router_that_reads_previous_turns_scores_a_follow_up_as_the_request(router):
    probed = probe(router.scorer(), Formatter("conversation"), probes((Turn("oh"),)), seed=0)
    assert probed.following.value == pytest.approx(1.0)
    assert probed.probes == probed.first_turns_alike == 32


def test_a_router_that_is_shown_nothing_cannot_follow(router):
    blind = Formatter("conversation", previous_turns=0)
    probed = probe(router.scorer(), blind, probes((Turn("oh"),)), seed=0)
    assert np.isnan(probed.following.value)


def test_an_unrelated_conversation_of_no_hard_or_easy_word_moves_nothing(router):
    probed = probe(router.scorer(), Formatter("conversation"), probes((Turn("oh"),)), seed=0)
    assert probed.moved_by_history.value == probed.moved_by_greeting.value == 0.0


def test_a_router_that_adds_up_all_it_reads_is_moved_by_an_unrelated_conversation(router):
    unrelated = (Turn("prove it"), Turn("derive that"))
    probed = probe(router.scorer(), Formatter("conversation"), probes(unrelated), seed=0)
    assert probed.moved_by_history.value > 0.1
    assert probed.excess.low > 0


def test_no_request_is_paired_with_its_own_conversation():
    names = [f"c{number}" for number in range(40)]
    talks = [(name, (Turn(name),)) for name in names]
    paired = probes_of([(name, "hello") for name in names], talks, seed=3)
    assert len(paired) == 40
    assert all(probe.unrelated[0].user_message != probe.conversation_id for probe in paired)


def test_too_few_requests_give_no_probe():
    few = [(f"c{number}", "hello") for number in range(MIN_PROBES - 1)]
    assert probes_of(few, [("other", (Turn("x"),))], seed=0) == []
