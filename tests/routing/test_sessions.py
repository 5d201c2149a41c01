"""What is remembered of conversations, in this process's memory."""

import time
from dataclasses import replace

import pytest

from turnout.routing.sessions import CachedPrompt, MemorySessions, Session

SESSION = Session(
    "fast", 1, 1.8e9, caches={"fast": CachedPrompt(900, 1.8e9)}, conversation_id="a", turn_index=3
)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def test_the_least_recently_used_session_goes_first():
    sessions = MemorySessions(max_sessions=2)
    for name in ("a", "b"):
        sessions.replace(None, replace(SESSION, conversation_id=name))
    sessions.get("a")
    sessions.replace(None, replace(SESSION, conversation_id="c"))
    assert [sessions.get(name) is not None for name in ("a", "b", "c")] == [True, False, True]


def test_only_the_first_of_two_that_saw_the_same_session_replaces_it():
    sessions = MemorySessions()
    assert sessions.replace(None, SESSION)
    assert not sessions.replace(None, replace(SESSION, model_class="reasoning"))
    assert sessions.replace(SESSION, replace(SESSION, version=1))


def test_a_session_is_forgotten_after_its_lifetime():
    clock = Clock()
    sessions = MemorySessions(lifetime_s=60, clock=clock)
    sessions.replace(None, SESSION)
    sessions.link("key", "a", 3)
    clock.now = 61
    assert sessions.get("a") is None
    assert sessions.claim("key") is None


def test_conversations_with_one_transcript_are_each_continued_before_one_is_branched():
    sessions = MemorySessions()
    for name in ("a", "b"):
        sessions.link("key", name, 1)
    ends = [sessions.claim("key") for _ in range(3)]
    assert {end.conversation_id for end in ends[:2]} == {"a", "b"}
    assert [end.continued for end in ends] == [False, False, True]


def test_a_session_survives_being_written_as_json():
    assert Session.from_json(SESSION.to_json()) == SESSION


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"caches": 3}'])
def test_json_of_something_else_is_no_session(text):
    with pytest.raises(ValueError):
        Session.from_json(text)


@pytest.mark.parametrize(("now_s", "warm"), [(1100, 500), (1301, 0), (990, 500), (-90_000, 0)])
def test_a_clock_that_is_set_back_leaves_no_cache_warm_for_ever(now_s, warm):
    assert CachedPrompt(500, 1000.0).warm_tokens(now_s) == warm


@pytest.mark.parametrize("now_s", [0.0, 4e9])
def test_a_jump_of_the_wall_clock_forgets_no_conversation(monkeypatch, now_s):
    sessions = MemorySessions(lifetime_s=60)
    sessions.replace(None, SESSION)
    sessions.link("key", "a", 3)
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert sessions.get("a") == SESSION
    assert sessions.ends("key")
