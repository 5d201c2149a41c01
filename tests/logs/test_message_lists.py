"""Conversations as lists of messages, in the spellings of many products."""

import pytest

from turnout.logs.formats import RawRow
from turnout.logs.readers import rows_of_turns


def read(row):
    """The rows that a reader makes of one row."""
    return list(rows_of_turns([RawRow("log:1", row)], "log"))


def said(row):
    return [(raw.values["user_message"], raw.values["model"]) for raw in read(row)]


CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "model": "o3"}]
SPELLINGS = {
    "speaker-and-text": [{"speaker": "user", "text": "q"},
                         {"speaker": "bot", "text": "a", "model": "o3"}],
    "author-and-message": [{"author": {"role": "user"}, "message": "q"},
                           {"author": {"role": "assistant"}, "message": "a", "model": "o3"}],
    "sender-and-body": [{"sender": "human", "body": "q"},
                        {"sender": "assistant", "body": "a", "model": "o3"}],
    "type-and-content": [{"type": "user", "content": "q"}, {"type": "info", "content": "waiting"},
                         {"type": "gemini", "content": "a", "model": "o3"}],
    "capitals": [{"Role": "user", "Content": "q"},
                 {"Role": "assistant", "Content": "a", "ModelName": "o3"}],
    "in-a-frame": [{"message": CHAT[0]}, {"message": CHAT[1], "logs": []}],
    "opencode": [
        {"info": {"role": "user", "model": {"providerID": "x", "modelID": "o3"}},
         "parts": [{"type": "text", "text": "q"},
                   {"type": "text", "text": "Called the Read tool", "synthetic": True}]},
        {"info": {"role": "assistant", "modelID": "o3"}, "parts": [{"type": "text", "text": "a"}]},
    ],
    "cline": [CHAT[0], {"role": "assistant", "content": "a", "modelInfo": {"modelId": "o3"}}],
    "facts-apart": [CHAT[0], {"role": "assistant", "content": "a", "metadata": {"model": "o3"}}],
}  # fmt: skip


@pytest.mark.parametrize("name", ["messages", "Messages", "turns", "history", "chat_history"])
@pytest.mark.parametrize("messages", SPELLINGS.values(), ids=SPELLINGS)
def test_a_list_of_messages_is_read_in_any_spelling(name, messages):
    assert said({"SessionId": "c", name: messages}) == [("q", "o3")]


def test_a_list_of_exchanges_is_a_conversation():
    row = {"session_id": "c", "model": "o3", "conversation": [["q1", "a1"], ["q2", None]]}
    assert said(row) == [("q1", "o3"), ("q2", "o3")]


def test_names_in_capitals_say_conversation_model_and_time():
    row = {"SessionId": "c", "Model": "o3", "CreatedAt": "2026-01-01", "Messages": CHAT}
    (raw,) = read(row)
    facts = [raw.values[name] for name in ("conversation_id", "model", "timestamp")]
    assert facts == ["c", "o3", "2026-01-01"]


def test_a_history_beside_a_message_is_no_conversation_of_its_own():
    row = {"session_id": "c", "turn_index": 2, "prompt": "q2", "history": CHAT}
    assert [raw.values for raw in read(row)] == [row]


@pytest.mark.parametrize("messages", [None, [], [None], ""])
def test_an_empty_conversation_is_counted(messages):
    (raw,) = read({"id": "c", "messages": messages})
    assert raw.dropped_as == "a list of messages without a user message"


def test_a_turn_beside_an_empty_list_of_messages_stays_a_turn():
    row = {"id": "c", "prompt": "q", "messages": None}
    assert [raw.values for raw in read(row)] == [row]


@pytest.mark.parametrize(
    "part", [{"inlineData": {"mimeType": "image/png"}}, {"fileData": {}}, {"image": {}}]
)
def test_a_file_that_only_its_key_names_keeps_its_place(part):
    messages = [*CHAT, {"role": "user", "parts": [part]}, CHAT[1], *CHAT]
    assert [words for words, _ in said({"messages": messages})] == ["q", "", "q"]
