"""Chats that are stored as trees: the branch that the person ended on is the conversation."""

import json

import pyarrow.parquet as pq
import pytest

from turnout.catalog import load_catalog
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.logs.readers.branches import REGENERATED, REGENERATED_ELSEWHERE
from turnout.logs.readers.sessions import BRANCH, WITHOUT_TEXT
from turnout.switches import report_switches

# Name, parent, role, text, model: a question edited once, and two answers regenerated.
NODES = [
    ("a", None, "user", "one", None),
    ("b", "a", "assistant", "1", "gpt-4o-mini"),
    ("c", "a", "assistant", "1 again", "gpt-4o"),
    ("d", "a", "assistant", "1 at last", "o3"),
    ("e", "b", "user", "taken back", None),
    ("f", "e", "assistant", "2", "o3"),
    ("g", "d", "user", "two", None),
    ("h", "g", "assistant", "2", "o3"),
    ("i", "g", "assistant", "2 again", "o3"),
]


def seconds(name):
    return 1_790_000_000 + ord(name)


def chatgpt(nodes, **more):
    tree = {
        name: {"parent": parent, "children": [n for n, p, *_ in nodes if p == name], "message": {
            "author": {"role": role}, "content": {"parts": [text]}, "create_time": seconds(name),
            "metadata": {"model_slug": model} if model else {}}}
        for name, parent, role, text, model in nodes
    }  # fmt: skip
    return {"conversation_id": "c1", "mapping": tree, "current_node": "i"} | more


def open_webui(nodes, **more):
    messages = {
        name: {"id": name, "parentId": parent, "role": role, "content": text, "model": model,
               "timestamp": seconds(name)}
        for name, parent, role, text, model in nodes
    }  # fmt: skip
    history = {"messages": messages, "currentId": more.get("current_node", "i")}
    return {"id": "c1", "user_id": "ann", "chat": {"models": ["o3"], "history": history}}


def librechat(nodes, **more):
    messages = [
        {"messageId": name, "parentMessageId": parent or "0", "isCreatedByUser": role == "user",
         "text": text, "model": model, "createdAt": f"2026-05-04T12:00:{number:02}Z"}
        for number, (name, parent, role, text, model) in enumerate(nodes)
    ]  # fmt: skip
    return {"conversationId": "c1", "endpoint": "openAI", "messages": messages}


def librechat_recursive(nodes, **more):
    row = librechat(nodes)
    by_name = {message["messageId"]: message for message in row["messages"]}
    tops = []
    for message in row["messages"]:
        parent = by_name.get(message.pop("parentMessageId"))
        (parent.setdefault("children", []) if parent else tops).append(message)
    return row | {"messages": tops, "recursive": True}


def claude(nodes, **more):
    root = "00000000-0000-4000-8000-000000000000"
    messages = [
        {"uuid": name, "parent_message_uuid": parent or root, "text": text, "content": [],
         "sender": "human" if role == "user" else role,
         "created_at": f"2026-05-04T12:00:{number:02}Z"}
        for number, (name, parent, role, text, _) in enumerate(nodes)
    ]  # fmt: skip
    return {"uuid": "c1", "chat_messages": messages, "current_leaf_message_uuid": "i"} | more


STORES = [chatgpt, open_webui, librechat, librechat_recursive]


def read(tmp_path, row):
    (tmp_path / "log.json").write_text(json.dumps([row]))
    report = ingest([tmp_path / "log.json"], tmp_path / "turns.parquet")
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


@pytest.mark.parametrize("store", STORES)
def test_the_branch_that_the_person_ended_on_is_read_and_the_rest_counted(tmp_path, store):
    report, turns = read(tmp_path, store(NODES))
    assert [
        (t["conversation_id"], t["turn_index"], t["user_message"], t["model"],
         t["assistant_message"]) for t in turns
    ] == [("c1", 1, "one", "o3", "1 at last"), ("c1", 2, "two", "o3", "2 again")]  # fmt: skip
    assert report.dropped == {REGENERATED_ELSEWHERE: 2, REGENERATED: 1, BRANCH: 1}
    assert (report.rows_read, report.complete_conversations) == (6, 1)
    assert turns[0]["timestamp"].year == 2026
    assert [turn["regenerated_from"] for turn in turns] == ["gpt-4o", None]


def test_an_answer_made_again_on_another_model_is_a_switch_of_its_turn(tmp_path):
    nodes = [
        ("a", None, "user", "prove it", None),
        ("b", "a", "assistant", "no", "gpt-4o-mini"),
        ("c", "a", "assistant", "so", "o3"),
        ("d", "c", "user", "thanks", None),
        ("e", "d", "assistant", "well", "o3"),
    ]
    read(tmp_path, chatgpt(nodes, current_node="e"))
    catalog = load_catalog()
    report = report_switches(tmp_path / "turns.parquet", catalog)
    (pair,) = report.pairs
    assert (pair.from_model, pair.to_model, pair.count, pair.rate) == ("gpt-4o-mini", "o3", 1, 1)
    assert (pair.kind, pair.fallbacks) == ("upgrade", 0)
    label_turns(tmp_path / "turns.parquet", tmp_path / "labels.parquet", catalog)
    labels = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert [label["evidence"] for label in labels] == [["upgrade"], ["model_later"]]


def test_an_answer_that_the_person_went_back_to_is_no_switch(tmp_path):
    nodes = [
        ("a", None, "user", "prove it", None),
        ("b", "a", "assistant", "no", "gpt-4o-mini"),
        ("c", "a", "assistant", "so", "o3"),
        ("d", "b", "user", "thanks", None),
    ]
    _, turns = read(tmp_path, chatgpt(nodes, current_node="d"))
    assert [(turn["model"], turn["regenerated_from"]) for turn in turns] == [
        ("gpt-4o-mini", None), (None, None),
    ]  # fmt: skip


def test_models_that_were_asked_at_once_are_no_switch(tmp_path):
    nodes = [("a", None, "user", "why?", None), ("b", "a", "assistant", "1", "gpt-4o-mini"),
             ("c", "a", "assistant", "2", "o3")]  # fmt: skip
    row = open_webui(nodes, current_node="c")
    row["chat"]["history"]["messages"]["c"]["modelIdx"] = 1
    _, (turn,) = read(tmp_path, row)
    assert (turn["model"], turn["regenerated_from"]) == ("o3", None)


@pytest.mark.parametrize("more", [{}, {"current_leaf_message_uuid": None}])
def test_edited_messages_and_answers_of_a_claude_export_are_counted(tmp_path, more):
    report, turns = read(tmp_path, claude(NODES, **more))
    assert [(t["turn_index"], t["user_message"], t["assistant_message"]) for t in turns] == [
        (1, "one", "1 at last"), (2, "two", "2 again"),
    ]  # fmt: skip
    assert report.dropped == {REGENERATED: 3, BRANCH: 1}


def test_a_claude_export_says_what_its_content_says_and_not_what_cannot_be_shown(tmp_path):
    row = claude([("a", None, "user", "why?", None), ("b", "a", "assistant", "(tool)\nso", None)])
    row["chat_messages"][1]["content"] = [
        {"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "name": "search"},
        {"type": "text", "text": "so"},
    ]  # fmt: skip
    _, (turn,) = read(tmp_path, row)
    assert turn["assistant_message"] == "so"


def test_a_persons_settings_are_no_message_of_a_chatgpt_export(tmp_path):
    row = chatgpt([("a", None, "user", "I am Bo.", None), ("b", "a", "user", "why?", None)])
    row["mapping"]["a"]["message"]["metadata"]["is_user_system_message"] = True
    _, (turn,) = read(tmp_path, row | {"current_node": "b"})
    assert turn["user_message"] == "why?"


@pytest.mark.parametrize("store", [chatgpt, open_webui])
def test_without_its_last_node_a_tree_ends_on_its_newest_leaf(tmp_path, store):
    _, turns = read(tmp_path, store(NODES, current_node=None))
    assert [turn["assistant_message"] for turn in turns] == ["1 at last", "2 again"]


@pytest.mark.parametrize("store", STORES)
def test_harness_text_in_a_tree_is_left_out(tmp_path, store):
    nodes = [("a", None, "user", "<user_memory>x</user_memory>why?", None)]
    _, (turn,) = read(tmp_path, store(nodes, current_node="a"))
    assert turn["user_message"] == "why?"


def test_open_webui_draws_reasoning_that_was_not_said(tmp_path):
    thought = '<details type="reasoning" done="true">\n> hm\n</details>\nso'
    nodes = [("a", None, "user", "why?", None), ("b", "a", "assistant", thought, "o3")]
    _, (turn,) = read(tmp_path, open_webui(nodes, current_node="b"))
    assert turn["assistant_message"] == "so"


def test_an_old_chat_of_open_webui_is_a_list(tmp_path):
    said = [{"id": n, "role": r, "content": t} for n, _, r, t, _ in NODES[:2]]
    _, (turn,) = read(tmp_path, {"id": "c1", "chat": {"models": ["o3"], "messages": said}})
    assert (turn["user_message"], turn["assistant_message"], turn["model"]) == ("one", "1", "o3")


def test_parts_of_a_librechat_message_say_their_text(tmp_path):
    row = librechat([("a", None, "user", "why?", None), ("b", "a", "assistant", "", "o3")])
    row["messages"][1] |= {"content": [
        {"type": "think", "think": "hm"}, {"type": "text", "text": {"value": "so"}},
    ]}  # fmt: skip
    _, (turn,) = read(tmp_path, row)
    assert turn["assistant_message"] == "so"


@pytest.mark.parametrize("store", [open_webui, librechat])
def test_a_message_that_is_only_a_file_keeps_its_place(tmp_path, store):
    nodes = [
        ("a", None, "user", "one", None), ("b", "a", "assistant", "1", "o3"),
        ("c", "b", "user", "", None), ("d", "c", "assistant", "a dog", "gpt-4o-mini"),
        ("e", "d", "user", "three", None),
    ]  # fmt: skip
    row = store(nodes, current_node="e")
    messages = row["chat"]["history"]["messages"] if "chat" in row else row["messages"]
    (messages["c"] if "chat" in row else messages[2])["files"] = [{"type": "image"}]
    report, turns = read(tmp_path, row)
    assert [(t["turn_index"], t["user_message"], t["assistant_message"]) for t in turns] == [
        (1, "one", "1"), (3, "three", None),
    ]  # fmt: skip
    assert report.dropped == {WITHOUT_TEXT: 1}
