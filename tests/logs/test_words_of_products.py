"""A product's words beside a person's, and its helper calls, in logs without a request's shape."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnout.logs import ingest

REMINDER = "<system-reminder>\nUse tabs.\n</system-reminder>"
TITLE = "Write a title for this chat, without any punctuation.\nUser: hi\nAI: hello"
MESSAGES = [
    f"{REMINDER}\nfix it",
    TITLE,
    "<command-name>/model</command-name>",
    "[Request interrupted by user]",
    "Write a short title for my blog post",
]
LEFT_OUT = "harness text of a product left out of the message"
ALONE = "harness text of a product without words of a person"
HELPER = "a product's helper call: title"


def rows_of(messages):
    return [
        {"conversation_id": f"c{n}", "turn_index": 1, "user_message": text, "model": "o3"}
        for n, text in enumerate(messages)
    ]


def ingested(path, tmp_path):
    report = ingest([path], tmp_path / "turns.parquet")
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_turns_lose_a_products_words_and_helper_calls(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(MESSAGES)))
    else:
        pq.write_table(pa.Table.from_pylist(rows_of(MESSAGES)), path)
    report, turns = ingested(path, tmp_path)
    assert [turn["user_message"] for turn in turns] == ["fix it", MESSAGES[-1]]
    assert report.mended == {LEFT_OUT: 1}
    assert report.dropped == {HELPER: 1, ALONE: 2}


def test_a_list_of_messages_that_a_product_wrote_is_no_conversation(tmp_path):
    chats = [
        [("system", "You are a title generator."), ("user", "hi")],
        [("user", TITLE)],
        [("user", "hi"), ("assistant", "hello"), ("user", TITLE), ("assistant", "Greeting")],
    ]
    lists = [[{"role": role, "content": text} for role, text in chat] for chat in chats]
    rows = [{"id": f"c{n}", "model": "o3", "messages": each} for n, each in enumerate(lists)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report, turns = ingested(path, tmp_path)
    assert [(turn["conversation_id"], turn["user_message"]) for turn in turns] == [("c2", "hi")]
    assert report.dropped == {HELPER: 3}
