"""LiteLLM's classifier plugin, called as LiteLLM calls it; see also `test_litellm.py`."""

import asyncio
import copy
from dataclasses import dataclass, field

import pytest

from tests.tiny_router import write_router
from turnout.integrations.litellm.classifier import Classifier

HARD, EASY = "prove it", "hello"


@dataclass
class Context:
    """What LiteLLM hands over."""

    raw_messages: list = field(default_factory=list)
    structured_messages: list = field(default_factory=list)
    metadata: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return Classifier(write_router(tmp_path_factory.mktemp("router") / "r"))


def tier(classifier, *messages, headers=None, session=None, key="k", **more):
    metadata = {"headers": headers or {}, "user_api_key_hash": key}
    metadata |= {"session_id": session} if session else {}
    context = Context(raw_messages=list(messages), metadata=metadata | more)
    return asyncio.run(classifier.classify(context))


def user(*words):
    return {"role": "user", "content": [{"type": "text", "text": each} for each in words]}


def test_a_class_becomes_the_tier_that_stands_for_it(classifier):
    assert (tier(classifier, user(HARD)), tier(classifier, user(EASY))) == ("REASONING", "SIMPLE")


def test_tiers_may_have_other_names(tmp_path):
    named = Classifier(write_router(tmp_path / "r"), {"reasoning": "deep", "fast": "quick"})
    assert tier(named, user(HARD)) == "deep"


def test_responses_are_read_from_the_structured_messages(classifier):
    context = Context(structured_messages=[{"role": "user", "content": HARD}])
    assert asyncio.run(classifier.classify(context)) == "REASONING"


def test_a_conversation_keeps_its_class_within_its_callers_key(classifier):
    tier(classifier, user(HARD), session="session-1")
    assert tier(classifier, user(EASY), session="session-1") == "REASONING"
    assert tier(classifier, user(EASY), session="session-1", key="other") == "SIMPLE"


def test_a_conversation_named_in_the_body_is_known(classifier):
    named = {"requester_metadata": {"conversation_id": "c9"}}
    tier(classifier, user(HARD), **named)
    assert tier(classifier, user(EASY), **named) == "REASONING"


def test_a_sub_agent_and_a_compaction_stay_on_their_conversations_class(classifier):
    session = {"X-Claude-Code-Session-Id": "s-2"}
    tier(classifier, user(HARD), headers=session)
    agent = session | {"x-claude-code-agent-id": "a1"}
    assert tier(classifier, user(EASY), headers=agent) == "REASONING"
    compaction = user("CRITICAL: Respond with TEXT ONLY. hello")
    assert tier(classifier, compaction, headers=session) == "REASONING"
    assert tier(classifier, user(EASY), headers=session) == "REASONING"


def test_a_helper_of_an_unknown_conversation_is_left_to_litellm(classifier):
    assert tier(classifier, user("<session>prove it</session>")) is None
    agent = {"x-claude-code-session-id": "new", "x-claude-code-agent-id": "a1"}
    assert tier(classifier, user(HARD), headers=agent) is None


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": HARD}], [None, 3, "x"]])
def test_a_request_in_which_nobody_speaks_is_left_to_litellm(classifier, messages):
    assert tier(classifier, *messages) is None


def test_a_failure_is_logged_and_left_to_litellm(classifier, caplog):
    headers = {"x-turnout-conversation-id": "x" * 500}
    assert tier(classifier, user(HARD), headers=headers) is None
    assert "could not classify" in caplog.text


def test_a_copy_shares_the_router(classifier):
    assert copy.deepcopy(classifier) is classifier
