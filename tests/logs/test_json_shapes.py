"""JSON in the shapes in which people have it, whatever the suffix says: the same rows."""

import json

import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError
from turnout.logs import ingest

pytestmark = pytest.mark.slow

ROWS = [
    {"conversation_id": "c1", "turn_index": n, "user_message": text, "model": "o3"}
    for n, text in ((1, "hello"), (2, "prove it"))
]
SAID = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "prove it"},
]


def lines(rows, between="\n"):
    return between.join(map(json.dumps, rows))


def read(tmp_path, text, name="log.jsonl", **options):
    (tmp_path / name).write_text(text)
    report = ingest([tmp_path / name], tmp_path / "turns.parquet", **options)
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    return report, [(t["conversation_id"], t["turn_index"], t["user_message"]) for t in turns]


READ = [("c1", 1, "hello"), ("c1", 2, "prove it")]
SHAPES = [
    pytest.param(json.dumps(ROWS), id="list"),
    pytest.param(json.dumps(ROWS, indent=2), id="list-over-lines"),
    pytest.param("\n".join(json.dumps(row, indent=2) for row in ROWS), id="objects-over-lines"),
    pytest.param("\ufeff" + json.dumps(ROWS), id="byte-order-mark"),
    pytest.param(lines(ROWS), id="lines"),
    pytest.param(lines(ROWS, ""), id="no-line-ends"),
    pytest.param(lines(ROWS, ",\n") + ",", id="cut-out-of-a-list"),
    pytest.param("\n\n" + lines(ROWS, "\n\n"), id="blank-lines"),
    pytest.param(json.dumps({"rows": ROWS, "total": 2}), id="page"),
]


@pytest.mark.parametrize("name", ["log.jsonl", "log.json"])
@pytest.mark.parametrize("text", SHAPES)
def test_the_suffix_need_not_tell_the_shape(tmp_path, text, name):
    assert read(tmp_path, text, name)[1] == READ


def test_lines_of_a_json_text_sequence_are_read(tmp_path):
    assert read(tmp_path, "".join(f"\x1e{json.dumps(row)}\n" for row in ROWS))[1] == READ


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(SAID), id="a-chat"),
        pytest.param(json.dumps(SAID) + "\n" + json.dumps(SAID[2:]), id="a-chat-a-line"),
        pytest.param(json.dumps([SAID, SAID[2:]]), id="list-of-chats"),
    ],
)
def test_a_list_of_messages_is_a_conversation(tmp_path, text):
    said = [(index, message) for _, index, message in read(tmp_path, text)[1]]
    assert said[-2:] == [(1, "hello"), (2, "prove it")]


def test_chats_may_stand_under_their_ids(tmp_path):
    chats = {"chat-1": SAID, "chat-2": {"messages": SAID, "model": "o3"}}
    _, turns = read(tmp_path, json.dumps(chats), "log.json")
    assert [(name, index) for name, index, _ in turns] == [
        ("chat-1", 1), ("chat-1", 2), ("chat-2", 1), ("chat-2", 2),
    ]  # fmt: skip


def test_a_broken_first_line_is_a_broken_row_and_no_document(tmp_path):
    text = lines(ROWS)[:30] + "\n" + lines(ROWS)
    with pytest.raises(RecordError, match=r"log\.jsonl:1: not JSON"):
        read(tmp_path, text)
    report, turns = read(tmp_path, text, skip_unreadable=True)
    assert (turns, report.dropped) == (READ, {"unreadable": 1})


def test_half_a_list_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"not JSON at item 2.*Copy it again"):
        read(tmp_path, json.dumps(ROWS)[:-20])


def test_an_object_that_is_no_page_stays_a_row(tmp_path):
    row = {"id": "c1", "model": "o3", "messages": SAID, "data": [{"tool": "search"}]}
    assert read(tmp_path, json.dumps(row))[1] == READ
