"""Logs that hold conversations or requests: the same turns, whatever the layout."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.formats import FORMATS, RawRow
from turnout.logs.readers import READERS, turn_rows
from turnout.routing import turns_of

SAID = [("user", "hello"), ("assistant", "hi"), ("user", "prove it"), ("assistant", "it is so")]
TURNS = [("c1", 1, "hello", "o3", "hi"), ("c1", 2, "prove it", "o3", "it is so")]
NOON = "2026-05-04T12:00:00Z"


def openai_file():
    messages = [{"role": role, "content": text} for role, text in SAID]
    return {"conversation_id": "c1", "model": "o3", "created_at": NOON, "messages": messages}


def wildchat():
    said = [{"role": r, "content": t, "timestamp": NOON} for r, t in SAID]
    return {"conversation_hash": "c1", "model": "o3", "conversation": said, "hashed_ip": "x"}


def sharegpt():
    names = {"user": "human", "assistant": "gpt"}
    said = [{"from": names[role], "value": text} for role, text in SAID]
    return {"id": "c1", "model": "o3", "conversations": said}


def parts():
    said = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in SAID]
    return {"session_id": "c1", "model": "o3", "messages": json.dumps(said)}


def chatgpt_export():
    mapping = {"root": {"message": None, "parent": None}}
    parent = "root"
    for at, (role, text) in enumerate(SAID):
        mapping[f"m{at}"] = {
            "parent": parent,
            "message": {
                "author": {"role": role},
                "create_time": 1777896000.5 + at,
                "content": {"content_type": "text", "parts": [text]},
                "metadata": {"model_slug": "o3"} if role == "assistant" else {},
            },
        }
        parent = f"m{at}"
    # An edited message: a sibling that is not on the way to the newest one.
    mapping["edited"] = {
        "parent": "m1",
        "message": {"author": {"role": "user"}, "content": {"parts": ["before the edit"]}},
    }
    return {"conversation_id": "c1", "mapping": mapping, "current_node": parent}


def claude_export():
    names = {"user": "human", "assistant": "assistant"}
    said = [{"sender": names[r], "text": t, "created_at": NOON} for r, t in SAID]
    return {"uuid": "c1", "model": "o3", "chat_messages": said}


LAYOUTS = [openai_file, wildchat, sharegpt, parts, chatgpt_export, claude_export]


def read(tmp_path, rows, name="log.jsonl", **more):
    file = tmp_path / name
    file.write_text(
        json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    )
    report = ingest([file], tmp_path / "turns.parquet", **more)
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def facts(rows):
    names = ("conversation_id", "turn_index", "user_message", "model", "assistant_message")
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_conversation_gives_the_same_turns_in_every_layout(tmp_path, layout):
    report, rows = read(tmp_path, [layout()])
    assert facts(rows) == TURNS
    assert (report.rows_read, report.rows_kept, report.complete_conversations) == (2, 2, 1)


@pytest.mark.parametrize("layout", [chatgpt_export, claude_export, wildchat])
def test_times_of_messages_are_kept(tmp_path, layout):
    _, rows = read(tmp_path, [layout()])
    assert [row["timestamp"].strftime("%F %H:%M") for row in rows] == ["2026-05-04 12:00"] * 2


def test_an_export_is_one_json_document(tmp_path):
    two = [chatgpt_export(), chatgpt_export() | {"conversation_id": "c2"}]
    _, rows = read(tmp_path, two, "conversations.json")
    assert [row["conversation_id"] for row in rows] == ["c1", "c1", "c2", "c2"]


def test_conversations_in_parquet_are_read_too(tmp_path):
    pq.write_table(pa.Table.from_pylist([wildchat()]), tmp_path / "log.parquet")
    ingest([tmp_path / "log.parquet"], tmp_path / "turns.parquet")
    assert facts(pq.read_table(tmp_path / "turns.parquet").to_pylist()) == TURNS


def requests():
    """What a proxy logs: every request repeats the whole conversation, on its own model."""
    messages = [{"role": role, "content": text} for role, text in SAID]
    for at, model in ((1, "gpt-4o"), (3, "o3")):
        yield {
            "request_id": f"r{at}",
            "session_id": "c1",
            "model": model,
            "startTime": NOON,
            "messages": messages[:at],
            "response": {"choices": [{"message": {"content": SAID[at][1]}}]},
            "prompt_tokens": 10 * at,
            "user": "ann",
        }


def test_a_request_log_gives_every_turn_its_own_model(tmp_path):
    _, rows = read(tmp_path, list(requests()))
    assert [(r["turn_index"], r["model"], r["prompt_tokens"]) for r in rows] == [
        (1, "gpt-4o", 10),
        (2, "o3", 30),
    ]
    assert [r["assistant_message"] for r in rows] == ["hi", "it is so"]
    assert rows[0]["user_id"] not in (None, "ann")


def test_a_request_log_without_sessions_is_told_apart_by_user_and_first_message(tmp_path):
    logged = [{k: v for k, v in row.items() if k != "session_id"} for row in requests()]
    logged += [row | {"user": "bob"} for row in logged]
    report, _ = read(tmp_path, logged)
    assert (report.conversations, report.rows_kept) == (2, 4)


def otel():
    def span(inputs, model, output, **more):
        spoken = [
            {"role": r, "parts": [{"type": "text", "content": t}]} for r, t in (*inputs, output)
        ]
        facts = {
            "gen_ai.conversation.id": {"stringValue": "c1"},
            "gen_ai.response.model": {"stringValue": model},
            "gen_ai.usage.input_tokens": {"intValue": "12"},
            "gen_ai.input.messages": {"stringValue": json.dumps(spoken[:-1])},
            "gen_ai.output.messages": {"stringValue": json.dumps(spoken[-1:])},
        }
        attributes = [{"key": key, "value": value} for key, value in facts.items()]
        return {"startTimeUnixNano": "1777896000000000000", "attributes": attributes, **more}

    tool = {"name": "execute_tool", "attributes": []}
    spans = [span(SAID[:1], "gpt-4o", SAID[1]), tool, span(SAID[:3], "o3", SAID[3])]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def test_open_telemetry_spans_give_a_turn_each(tmp_path):
    _, rows = read(tmp_path, [otel()])
    assert [(r["turn_index"], r["model"], r["user_message"], r["prompt_tokens"]) for r in rows] == [
        (1, "gpt-4o", "hello", 12),
        (2, "o3", "prove it", 12),
    ]
    assert rows[0]["timestamp"].year == 2026


def test_a_conversation_without_a_user_message_is_told_and_can_be_counted(tmp_path):
    mute = {"id": "m", "model": "o3", "messages": [{"role": "assistant", "content": "hello?"}]}
    with pytest.raises(RecordError, match="without a user message"):
        read(tmp_path, [openai_file(), mute])
    report, _ = read(tmp_path, [openai_file(), mute], skip_unreadable=True)
    assert report.dropped == {"unreadable": 1}


def test_a_document_that_is_no_json_is_refused_with_a_hint(tmp_path):
    (tmp_path / "log.json").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(RecordError, match=r"name the file \.jsonl"):
        ingest([tmp_path / "log.json"], tmp_path / "turns.parquet")


roles = st.sampled_from(["user", "assistant", "tool", "system"])


@given(st.lists(st.tuples(roles, st.sampled_from(["a", "b c", " ", ""])), max_size=8))
def test_turns_are_cut_as_the_router_cuts_them(said):
    messages = [{"role": role, "content": text} for role, text in said]
    found = list(turn_rows(RawRow("log", {"id": "c", "messages": messages})))
    if not any(role == "user" and text.strip() for role, text in said):
        assert all(row.problem or row.values.get("messages") == messages for row in found)
        return
    expected = turns_of(messages)
    assert [row.values["user_message"] for row in found] == [t.user_message for t in expected]
    assert [row.values["assistant_message"] for row in found] == [
        t.assistant_message for t in expected
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "messages",
        "conversation",
        "mapping",
        "current_node",
        "chat_messages",
        "resourceSpans",
        "response",
        "role",
        "content",
        "scopeSpans",
        "spans",
        "attributes",
        "key",
        "value",
        "parent",
        "message",
        "author",
    ]
)


inner_rows = st.dictionaries(keys, json_values)


@given(st.dictionaries(keys, inner_rows | st.lists(inner_rows, max_size=3) | json_values))
def test_no_row_makes_reading_fail(values):
    list(turn_rows(RawRow("log", values)))


def test_every_source_and_format_is_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "readers.md").read_text()
    for reader in READERS:
        module = reader.turns.__module__.rpartition(".")[2]
        assert f"| {reader.source} | " in page
        assert f"| `{module}` |" in page
    assert all(f"`{suffix}`" in page for suffix in FORMATS)


def test_the_calls_of_a_turn_are_added_up_and_counted_once_each(tmp_path):
    said = [{"role": "user", "content": "fix it"}]
    tool = [{"role": "assistant", "content": ""}, {"role": "tool", "content": "done"}]
    call = {"session_id": "c1", "model": "o3", "spend": 0.1, "prompt_tokens": 10}
    times = {"startTime": "2026-05-04T12:00:00Z", "endTime": "2026-05-04T12:00:02Z"}
    usage = {"completion_tokens_details": {"reasoning_tokens": 5}}
    first = call | times | {"request_id": "r1", "messages": said, "response": {"usage": usage}}
    last = call | {
        "request_id": "r2",
        "startTime": "2026-05-04T12:00:03Z",
        "messages": said + tool,
        "response": {"choices": [{"message": {"content": "fixed"}}], "usage": usage},
    }
    report, (turn,) = read(tmp_path, [first, last, first])
    assert (turn["llm_calls"], turn["prompt_tokens"], turn["reasoning_tokens"]) == (2, 20, 10)
    assert (turn["duration_ms"], turn["assistant_message"]) == (2_000, "fixed")
    assert report.dropped == {"another model call of the turn (added to it)": 2}


def test_a_spend_log_that_stored_no_messages_is_told(tmp_path):
    with pytest.raises(RecordError, match="LiteLLM spend log without a user message"):
        read(tmp_path, [{"spend": 0.1, "messages": "{}", "response": "{}", "request_id": "r"}])
