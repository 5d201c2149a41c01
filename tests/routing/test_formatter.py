"""The formatter shows the same thing in every stage."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import ArtifactError
from turnout.records import ModelInput, Turn
from turnout.routing.formatter import (
    MAX_MESSAGE_CHARS,
    MAX_PREVIOUS_CHARS,
    MAX_STORED_CHARS,
    MAX_STORED_TURNS,
    Formatter,
    shortened,
    stored_turn,
)

TALK = [Turn("plan the migration", "Here is a plan."), Turn("thanks"), Turn("yes, do it")]


def test_a_session_router_reads_the_message_alone():
    assert Formatter("session").format(TALK) == ModelInput("yes, do it")


def test_a_conversation_router_reads_a_header_and_previous_turns_newest_first():
    shown = Formatter("conversation").format(TALK)
    header = "turn three, history 30, answer missing, message 0"
    assert shown == ModelInput("yes, do it", f"{header} | thanks | plan the migration")


def test_at_turn_one_both_architectures_read_the_same():
    first = TALK[:1]
    assert Formatter("conversation").format(first) == Formatter("session").format(first)


def test_no_more_previous_turns_are_shown_than_asked_for():
    shown = Formatter("conversation", previous_turns=1).format(TALK)
    assert shown.context == "turn three, history 30, answer missing, message 0 | thanks"


def test_answers_are_shown_only_when_asked_for():
    formatter = Formatter("conversation", assistant_chars=80)
    assert formatter.format(TALK).context == (
        "turn three, history 30, answer missing, message 0 | thanks"
        " | plan the migration > Here is a plan."
    )


@pytest.mark.parametrize(
    ("index", "name"),
    [(2, "two"), (10, "ten"), (11, "over ten"), (21, "over twenty"), (400, "over fifty")],
)
def test_late_turns_share_a_name(index, name):
    shown = Formatter("conversation").format([Turn("go on")], turn_index=index)
    assert shown.context == f"turn {name}, history 0, message 0"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "missing"),
        (" ", "missing"),
        ("a" * 30, "30"),
        ("a" * 5000, "500"),
        ("I'm sorry, I can't help with that.", "30 refused"),
        ("a" * 400 + " I cannot", "250"),
    ],
)
def test_the_header_says_what_the_last_answer_was(answer, said):
    shown = Formatter("conversation").format([Turn("fix it", answer), Turn("again")])
    assert f"answer {said}, message" in shown.context


def test_a_header_without_answers_is_the_same_whether_they_are_known_or_not():
    formatter = Formatter("conversation", answers_known=False)
    asked = [replace(turn, assistant_message=None) for turn in TALK]
    assert formatter.format(TALK) == formatter.format(asked)
    assert formatter.format(TALK).context.startswith("turn three, history 0, message 0 | ")


def test_lengths_double_from_step_to_step():
    turns = [Turn("a" * 800, "b" * 800), Turn("c" * 130)]
    header = Formatter("conversation", previous_turns=0).format(turns).context
    assert header == "turn two, history 1000, answer 500, message 125"


def test_a_partial_capture_still_tells_its_turn_index():
    shown = Formatter("conversation").format([Turn("go on")], turn_index=7)
    assert shown == ModelInput("go on", "turn seven, history 0, message 0")


def test_no_turn_is_a_programming_error():
    with pytest.raises(ValueError, match="at least the current turn"):
        Formatter("session").format([])


def test_a_long_message_keeps_its_head_and_its_tail():
    text = shortened("a" * 900 + "z" * 100, 100)
    assert text.startswith("a" * 75)
    assert text.endswith("z" * 25)


@given(st.text(alphabet=st.characters(exclude_categories=[])), st.integers(1, 9))
def test_any_text_becomes_valid_and_bounded(text, index):
    shown = Formatter("conversation").format([Turn(text), Turn(text)], turn_index=index)
    shown.message.encode("utf-8")
    assert "\0" not in shown.message + shown.context
    assert len(shown.message) <= MAX_MESSAGE_CHARS + 3
    assert len(shown.context) <= MAX_PREVIOUS_CHARS + 100


def test_a_formatter_survives_storage():
    formatter = Formatter("conversation", previous_turns=2, assistant_chars=50, answers_known=False)
    assert Formatter.from_json(formatter.to_json(), "here") == formatter


@pytest.mark.parametrize("known", [None, 1, "yes"])
def test_a_stored_formatter_of_another_form_is_refused(known):
    stored = Formatter("session").to_json() | {"answers_known": known}
    with pytest.raises(ArtifactError, match="answers_known as true or false"):
        Formatter.from_json(stored, "router.json")


def test_another_formatter_version_is_refused_with_its_place():
    stored = Formatter("session").to_json() | {"version": 99}
    with pytest.raises(ArtifactError, match=r"router\.json: formatter version 99; expected 2"):
        Formatter.from_json(stored, "router.json")


_LONG = st.text(alphabet=st.sampled_from("ab \0\ud800"), min_size=700, max_size=900)


@given(st.lists(st.builds(Turn, _LONG, st.none() | _LONG), min_size=1, max_size=3))
def test_what_a_data_set_stores_is_shown_as_the_conversation_itself(turns):
    formatter = Formatter("conversation", assistant_chars=MAX_PREVIOUS_CHARS)
    before, now = turns, Turn("yes")
    assert max(len(stored_turn(turn).user_message) for turn in turns) <= MAX_STORED_CHARS + len(
        " … "
    )
    assert formatter.format([*map(stored_turn, before), now]) == formatter.format([*before, now])


def test_turns_beyond_those_that_a_data_set_stores_change_nothing():
    turns = [Turn("a" * 500, "b" * 500) for _ in range(MAX_STORED_TURNS)]
    earlier = [Turn("z" * 500)] * 3
    formatter = Formatter("conversation")
    assert formatter.format([*turns, Turn("yes")], 40) == formatter.format(
        [*earlier, *turns, Turn("yes")], 40
    )
