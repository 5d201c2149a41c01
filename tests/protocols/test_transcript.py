"""Chat messages become turns."""

import pytest

from turnout.errors import RecordError
from turnout.protocols import turns_of
from turnout.records import Turn


def user(text):
    return {"role": "user", "content": text}


def test_tool_calls_belong_to_the_turn_that_caused_them():
    messages = [
        user("fix the bug"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "3 files", "tool_call_id": "1"},
        {"role": "assistant", "content": "Fixed."},
        user("thanks"),
    ]
    assert turns_of(messages) == (Turn("fix the bug", "Fixed."), Turn("thanks"))


def test_system_and_developer_messages_never_decide():
    messages = [{"role": "system", "content": "prove hard theorems"}, user("hi")]
    assert turns_of(messages) == (Turn("hi"),)


@pytest.mark.parametrize("names", [("human", "gpt"), ("user", "model"), ("human", "ai")])
def test_messages_of_training_sets_are_read(names):
    person, model = names
    messages = [{"from": person, "value": "why?"}, {"from": model, "value": "so"}]
    assert turns_of([*messages, {"from": person, "value": "and?"}]) == (
        Turn("why?", "so"), Turn("and?"),
    )  # fmt: skip


def test_a_message_that_is_no_dict_is_named_with_what_to_do():
    with pytest.raises(RecordError, match=r"messages\[1\]: found object; .*model_dump\(\)"):
        turns_of([user("hi"), object()])


def test_user_messages_in_a_row_are_one_turn():
    assert turns_of([user("look"), user("at this")]) == (Turn("look\n\nat this"),)


ABORTED = "<turn_aborted>\nThe user stopped it.\n</turn_aborted>"
STOPPED = {"type": "text", "text": "[Request interrupted by user]"}


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([user("prove it"), user(ABORTED), user("go on")], id="codex"),
        pytest.param(
            [user("prove it"), user([STOPPED, {"type": "text", "text": "go on"}])], id="claude-code"
        ),
    ],
)
def test_words_after_an_interruption_are_another_turn(messages):
    assert turns_of(messages) == (Turn("prove it"), Turn("go on"))


def test_messages_that_a_summary_has_left_are_turns_and_no_part_of_the_next_one():
    summary = "Another language model started to solve this problem and produced a summary of it."
    messages = [user("prove it"), user("rename it"), user(summary), user("thanks")]
    assert turns_of(messages) == (Turn("prove it"), Turn("rename it"), Turn("thanks"))


def test_text_parts_are_read_and_pictures_passed_over():
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url"},
        {"type": "text", "text": "it"},
    ]
    assert turns_of([user(parts)]) == (Turn("what is\nit"),)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([], "0 messages and no user text", id="empty"),
        pytest.param([{"role": "system", "content": "x"}], "no user text", id="no-user"),
        pytest.param([user("  ")], "no user text", id="blank"),
        pytest.param(
            [{"role": "bot", "content": "x"}], r"messages\[0\].role: found 'bot'", id="role"
        ),
        pytest.param(["hi"], r"messages\[0\]", id="not-a-message"),
        pytest.param([user(7)], r"messages\[0\].content: found int", id="content"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(messages, reason):
    with pytest.raises(RecordError, match=reason):
        turns_of(messages)
