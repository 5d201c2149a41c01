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
from turnout.logs.readers import READERS, SESSION_READERS, rows_of_turns
from turnout.logs.readers.messages import Reader
from turnout.logs.readers.otel_messages import said_in
from turnout.logs.readers.sessions import WITHOUT_TEXT
from turnout.protocols import turns_of

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
    for number, (role, text) in enumerate(SAID):
        mapping[f"m{number}"] = {
            "parent": parent,
            "message": {
                "author": {"role": role},
                "create_time": 1777896000.5 + number,
                "content": {"content_type": "text", "parts": [text]},
                "metadata": {"model_slug": "o3"} if role == "assistant" else {},
            },
        }
        parent = f"m{number}"
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


def facts_of(row):
    names = ("conversation_id", "turn_index", "user_message", "model", "assistant_message")
    return tuple(row[name] for name in names)


def facts(rows):
    return [facts_of(row) for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_conversation_gives_the_same_turns_in_every_layout(tmp_path, layout):
    report, rows = read(tmp_path, [layout()])
    assert facts(rows) == TURNS
    edited = sum(report.dropped.values())  # the ChatGPT export has an edited message
    assert (report.rows_read - edited, report.rows_kept) == (2, 2)
    assert (edited, report.complete_conversations) == (layout is chatgpt_export, 1)


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
    for number, model in ((1, "gpt-4o"), (3, "o3")):
        yield {
            "request_id": f"r{number}",
            "session_id": "c1",
            "model": model,
            "startTime": NOON,
            "messages": messages[:number],
            "response": {"choices": [{"message": {"content": SAID[number][1]}}]},
            "prompt_tokens": 10 * number,
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


def as_attributes(facts):
    kinds = {str: "stringValue", int: "intValue"}
    return [{"key": key, "value": {kinds[type(v)]: v}} for key, v in facts.items()]


def openllmetry():
    """As its instrumentation of the openai package 0.40 writes a call."""
    parts = json.dumps([{"type": "text", "text": "prove it"}])
    asked = [("system", "be brief"), *SAID[:2], ("user", parts)]
    facts = {"gen_ai.request.model": "o3", "gen_ai.response.model": "o3-2025-04-16"}
    facts |= {"gen_ai.usage.prompt_tokens": 12, "gen_ai.usage.completion_tokens": 7}
    facts |= {"gen_ai.usage.cache_read_input_tokens": 2, "gen_ai.usage.reasoning_tokens": 3}
    facts |= {"traceloop.association.properties.session_id": "c1"}
    # Attributes have no order; the tenth message comes after the second.
    for number, (role, text) in reversed(list(enumerate(asked))):
        facts |= {
            f"gen_ai.prompt.{10 * number}.role": role,
            f"gen_ai.prompt.{10 * number}.content": text,
        }
    facts |= {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "it is so"}
    return facts, []


def events_of_messages():
    asked = [(f"gen_ai.{role}.message", {"role": role, "content": t}) for role, t in SAID[:3]]
    choice = {"index": 0, "message": json.dumps({"role": "assistant", "content": "it is so"})}
    return {}, [*asked, ("gen_ai.choice", choice)]


def events_with_json():
    asked = [
        (f"gen_ai.{role}.message", {"gen_ai.event.content": json.dumps({"content": text})})
        for role, text in SAID[:3]
    ]
    choice = {"message": {"content": "it is so"}, "finish_reason": "stop"}
    return {}, [*asked, ("gen_ai.choice", {"gen_ai.event.content": json.dumps(choice)})]


def events_with_everything():
    asked = json.dumps([{"role": role, "content": text} for role, text in SAID[:3]])
    return {}, [
        ("exception", {"exception.type": "Retry"}),
        ("gen_ai.content.prompt", {"gen_ai.prompt": asked}),
        ("gen_ai.content.completion", {"gen_ai.completion": "it is so"}),
    ]


@pytest.mark.parametrize(
    "writing", [openllmetry, events_of_messages, events_with_json, events_with_everything]
)
def test_older_writings_of_a_span_give_the_same_turn(tmp_path, writing):
    facts, events = writing()
    common = {"gen_ai.response.model": "o3-2025-04-16", "session.id": "c1"}
    span = {
        "attributes": as_attributes(common | facts),
        "events": [{"name": name, "attributes": as_attributes(event)} for name, event in events],
        "startTimeUnixNano": "1777896000000000000",
        "endTimeUnixNano": "1777896002000000000",
    }
    _, (row,) = read(tmp_path, [{"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}])
    assert facts_of(row) == ("c1", 2, "prove it", "o3-2025-04-16", "it is so")
    assert row["duration_ms"] == 2000
    if writing is openllmetry:
        spent = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        assert [row[name] for name in spent] == [12, 7, 2, 3]


def test_an_event_that_holds_a_whole_call_is_a_turn(tmp_path):
    (scope,) = otel()["resourceSpans"][0]["scopeSpans"]
    _, _, span = scope["spans"]
    record = {"timeUnixNano": "1777896000000000000", "attributes": span["attributes"]}
    name = "gen_ai.client.inference.operation.details"
    records = [{"eventName": name, "traceId": "t1", **record}, {"body": {"stringValue": "started"}}]
    _, (row,) = read(tmp_path, [{"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}])
    assert facts_of(row) == ("c1", 2, "prove it", "o3", "it is so")
    assert row["timestamp"].year == 2026


def test_a_conversation_without_a_user_message_is_counted_and_ends_no_run(tmp_path):
    mute = {"id": "m", "model": "o3", "messages": [{"role": "assistant", "content": "hello?"}]}
    empty = {"id": "e", "model": "o3", "conversations": []}
    report, _ = read(tmp_path, [empty, openai_file(), mute])
    assert report.dropped == {"a list of messages without a user message": 2}


def test_answers_of_bots_and_keys_in_camel_case_are_read(tmp_path):
    said = [{"from": "human", "value": "one"}, {"from": "ai", "value": "1"},
            {"from": "user", "value": "two"}, {"from": "bot", "value": "2"}]  # fmt: skip
    row = {"sessionId": "s1", "createdAt": NOON, "modelName": "o3", "conversations": said}
    _, turns = read(tmp_path, [row])
    assert [facts_of(turn) for turn in turns] == [
        ("s1", 1, "one", "o3", "1"), ("s1", 2, "two", "o3", "2"),
    ]  # fmt: skip
    assert all(turn["timestamp"] is not None for turn in turns)


def node(name, parent, role, *parts, **metadata):
    message = {"author": {"role": role}, "content": {"parts": list(parts)}, "metadata": metadata,
               "create_time": float(len(name))}  # fmt: skip
    return {name: {"message": message, "parent": parent, "children": []}}


def tree(*nodes, **conversation):
    joined = {name: dict(value) for each in nodes for name, value in each.items()}
    for name, value in joined.items():
        if value["parent"] in joined:
            joined[value["parent"]]["children"].append(name)
    return {"conversation_id": "c", "mapping": joined, **conversation}


def test_a_chatgpt_export_names_its_model_once_and_hides_nodes(tmp_path):
    hidden = {"is_visually_hidden_from_conversation": True}
    row = tree(
        node("a", None, "user", "one"), node("aa", "a", "assistant", "1"),
        node("aaa", "aa", "user", "The canvas was resized.", **hidden),
        node("aaaa", "aaa", "user", "two"), node("aaaaa", "aaaa", "assistant", "2"),
        node("aab", "a", "assistant", "another 1"),
        default_model_slug="gpt-5-thinking",
    )  # fmt: skip
    for current in ({"current_node": "aaaaa"}, {"current_node": None}, {}):
        _, turns = read(tmp_path, [row | current])
        assert [facts_of(turn) for turn in turns] == [
            ("c", 1, "one", "gpt-5-thinking", "1"), ("c", 2, "two", "gpt-5-thinking", "2"),
        ]  # fmt: skip


IMAGES = {
    "chatgpt": tree(
        node("a", None, "user", "one"), node("aa", "a", "assistant", "1", model_slug="o3"),
        node("aaa", "aa", "user", {"content_type": "image_asset_pointer"}),
        node("aaaa", "aaa", "assistant", "a dog", model_slug="gpt-4o-mini"),
        node("aaaaa", "aaaa", "user", "three"),
    ),
    "openai": {"id": "c", "messages": [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "1", "model": "o3"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": "a dog", "model": "gpt-4o-mini"},
        {"role": "user", "content": "three"},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("row", IMAGES.values(), ids=IMAGES)
def test_an_image_keeps_its_place_and_its_answer_moves_to_no_neighbour(tmp_path, row):
    report, turns = read(tmp_path, [row])
    assert [facts_of(turn)[1:] for turn in turns] == [
        (1, "one", "o3", "1"), (3, "three", None, None),
    ]  # fmt: skip
    assert report.dropped == {WITHOUT_TEXT: 1}
    assert report.complete_conversations == 0


def test_a_claude_message_that_is_an_attachment_says_its_extracted_text(tmp_path):
    said = [{"sender": "human", "text": "", "attachments": [{"extracted_content": "Traceback"}]},
            {"sender": "assistant", "text": "The bounds."},
            {"sender": "human", "text": "", "files": [{"file_name": "a.png"}]}]  # fmt: skip
    report, (turn,) = read(tmp_path, [{"uuid": "c", "chat_messages": said}])
    assert (turn["user_message"], turn["assistant_message"]) == ("Traceback", "The bounds.")
    assert report.dropped == {WITHOUT_TEXT: 1}


def test_objects_that_follow_one_another_are_rows_whatever_the_file_is_called(tmp_path):
    rows = [openai_file(), openai_file() | {"conversation_id": "c2"}]
    (tmp_path / "log.json").write_text("\n".join(map(json.dumps, rows)))
    report = ingest([tmp_path / "log.json"], tmp_path / "turns.parquet")
    assert (report.conversations, report.rows_read) == (2, 4)


def test_a_document_that_is_no_json_is_refused_with_its_place(tmp_path):
    (tmp_path / "log.json").write_text('{"a": 1}\nnot JSON\n')
    with pytest.raises(RecordError, match=r"log\.json: not JSON at item 2"):
        ingest([tmp_path / "log.json"], tmp_path / "turns.parquet")


roles = st.sampled_from(["user", "assistant", "tool", "system"])


@given(st.lists(st.tuples(roles, st.sampled_from(["a", "b c", " ", ""])), max_size=8))
def test_turns_are_cut_as_the_router_cuts_them(said):
    messages = [{"role": role, "content": text} for role, text in said]
    rows = list(rows_of_turns([RawRow("log", {"id": "c", "messages": messages})], "log"))
    if not any(role == "user" and text.strip() for role, text in said):
        assert [row.dropped_as for row in rows] == ["a list of messages without a user message"]
        return
    expected = turns_of(messages)
    assert [row.values["user_message"] for row in rows] == [t.user_message for t in expected]
    assert [row.values["assistant_message"] for row in rows] == [
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
        "resourceLogs",
        "scopeLogs",
        "logRecords",
        "events",
        "name",
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
        "chat",
        "history",
        "observations",
        "data",
        "inputs",
        "outputs",
        "input",
        "output",
        "run_type",
        "type",
        "traceId",
        "schemaType",
        "request",
        "context",
        "conversationId",
    ]
)


inner_rows = st.dictionaries(keys, json_values)


@pytest.mark.slow
@given(st.dictionaries(keys, inner_rows | st.lists(inner_rows, max_size=3) | json_values))
def test_no_row_makes_reading_fail(values):
    list(rows_of_turns([RawRow("log", values)], "log"))


@pytest.mark.parametrize("odd", [[], {}, 0, None])
def test_a_value_of_another_type_makes_no_reading_fail(odd):
    said = {"author": {"role": "assistant"}, "content": {"parts": ["yes"]}}
    asked = {"author": {"role": "user"}, "content": {"parts": ["hi"]}}
    nodes = {
        "a": {"id": "a", "parent": None, "message": {"id": "a", **asked}},
        "b": {"id": "b", "parent": "a", "message": {"id": "b", **said}},
        "c": {"id": "c", "parent": odd, "message": {"id": "c", **said}},
    }
    rows = [
        {"mapping": nodes, "current_node": "b", "title": "x"},
        {"input": [{"type": odd, "data": {}}], "output": {}},
        {"messages": [{"role": "user", "content": [{"type": odd, "text": "hi"}]}]},
        {"request": {"messages": [{"role": "user", "content": [{"type": odd}]}]}, "response": {}},
    ]
    for values in rows:
        list(rows_of_turns([RawRow("log", values)], "log"))


def test_every_source_and_format_is_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "readers.md").read_text()
    for reader in [*READERS, *SESSION_READERS]:
        read = reader.turns if isinstance(reader, Reader) else reader.begin
        module = read.__module__.rpartition(".")[2]
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


def request_row(body, answer, number, **more):
    """A spend log's row as current proxies write it: the request lies apart, as JSON text."""
    return {
        "request_id": f"r{number}", "session_id": "c1", "spend": 0.1, "model": "m",
        "startTime": f"2026-03-01T09:0{number}:00Z", "messages": "{}",
        "response": json.dumps(answer), "proxy_server_request": json.dumps(body), **more,
    }  # fmt: skip


def test_a_spend_log_is_read_where_the_proxy_stores_the_request(tmp_path):
    def chat(said):
        return {"choices": [{"message": {"role": "assistant", "content": said}}]}

    asked = [{"role": "user", "content": "one"}]
    again = [*asked, {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}]
    rows = [
        request_row({"messages": asked}, chat("1"), 1),
        request_row({"input": again}, chat("2"), 2),
        request_row(
            {"messages": [{"role": "user", "content": "### Task:\nGenerate a title.\n"
             "<chat_history>\nUSER: one\n</chat_history>"}]}, chat("{}"), 3,
        ),
    ]  # fmt: skip
    report, turns = read(tmp_path, rows)
    assert [turn["user_message"] for turn in turns] == ["one", "two"]
    assert [turn["assistant_message"] for turn in turns] == ["1", "2"]
    assert report.dropped == {"a product's helper call: title": 1}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"messages": [{"role": "user", "content": "why? <system-reminder>x"
                      "</system-reminder>"}]}, id="list"),
        pytest.param({"chat_messages": [{"sender": "human", "text": "<environment_context>x"
                      "</environment_context>why?"}], "name": "chat", "uuid": "c"}, id="claude"),
        pytest.param({"mapping": {"n": {"message": {"author": {"role": "user"}, "content":
                      {"parts": ["<user_memory>x</user_memory>", "why?"]}}}},
                      "current_node": "n"}, id="chatgpt"),
    ],
)  # fmt: skip
def test_harness_text_is_left_out_and_counted_whatever_the_source(tmp_path, row):
    report, (turn,) = read(tmp_path, [row], name="log.json")
    assert turn["user_message"] == "why?"
    assert report.mended == {"harness text of a product left out of the message": 1}


def test_a_coding_assistants_reminders_are_no_words_of_the_person(tmp_path):
    reminder = {"type": "text", "text": "<system-reminder>\nUse tabs.\n</system-reminder>"}
    asked = {"role": "user", "content": [reminder, {"type": "text", "text": "why?"}]}
    call = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "def f(): ..."}
    loop = [asked, {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, reminder]}]  # fmt: skip
    rows = [
        request_row({"system": "x", "messages": [asked]},
                    {"type": "message", "content": [call]}, 1),
        request_row({"system": "x", "messages": loop},
                    {"type": "message", "content": [{"type": "text", "text": "so"}]}, 2),
    ]  # fmt: skip
    report, (turn,) = read(tmp_path, rows)
    assert (turn["user_message"], turn["assistant_message"]) == ("why?", "so")
    assert report.mended == {"harness text of a product left out of the message": 2}
    assert (turn["llm_calls"], turn["tool_counts"]) == (2, '{"Read": 1}')


def test_a_spend_log_that_stored_no_messages_is_told(tmp_path):
    with pytest.raises(RecordError, match="a model call whose messages the proxy did not store"):
        read(tmp_path, [{"spend": 0.1, "messages": "{}", "response": "{}", "request_id": "r"}])


def journal_line(second, **more):
    """As the gateway writes a request; the app's own test reads what it really wrote."""
    line = {
        "conversation_id": "c1", "turn_index": 1, "user_message": "fix it", "model": "o3",
        "timestamp": f"2026-05-04T12:00:{second:02}+00:00", "assistant_message": None,
        "response_type": "success", "prompt_tokens": 10, "completion_tokens": 4,
        "reasoning_tokens": 2, "cached_tokens": 0, "llm_calls": 1, "tool_counts": None,
        "duration_ms": 1000, "user_id": None, "status": 200, "requested_model": "turnout",
        "target": "o3", "router": "abc", "decision": None,
    }  # fmt: skip
    return line | more


def test_retries_fallbacks_and_tool_calls_of_a_turn_are_one_turn(tmp_path):
    nothing = dict.fromkeys(["prompt_tokens", "completion_tokens", "reasoning_tokens"])
    failed = {"response_type": "failed", **nothing, "cached_tokens": None, "status": 503}
    lines = [
        journal_line(1, **failed),
        journal_line(2, tool_counts={"search": 2, "read": 1}),
        journal_line(3, model="gpt-4o", target="gpt-4o", tool_counts={"read": 3}),
        journal_line(4, model="gpt-4o", target="gpt-4o", assistant_message="done"),
        journal_line(5, **failed),
    ]
    # A journal that was copied is read twice: every request still counts once.
    (tmp_path / "copy.jsonl").write_text("\n".join(map(json.dumps, lines)))
    file = tmp_path / "journal.jsonl"
    file.write_text((tmp_path / "copy.jsonl").read_text())
    report = ingest([file, tmp_path / "copy.jsonl"], tmp_path / "turns.parquet")
    (row,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (row["model"], row["assistant_message"], row["response_type"]) == (
        "gpt-4o", "done", "success",
    )  # fmt: skip
    assert json.loads(row["tool_counts"]) == {"read": 4, "search": 2}
    spent = ("llm_calls", "prompt_tokens", "completion_tokens", "reasoning_tokens", "duration_ms")
    assert [row[name] for name in spent] == [5, 30, 12, 6, 5000]
    assert report.rows_read == report.rows_kept + sum(report.dropped.values()) == 10
    assert report.dropped["another model call of the turn (added to it)"] == 8


def test_a_turn_whose_calls_all_failed_is_kept_as_failed(tmp_path):
    lines = [journal_line(index, response_type="failed", status=502) for index in (1, 2)]
    _, (row,) = read(tmp_path, lines)
    assert (row["response_type"], row["llm_calls"]) == ("failed", 2)


def test_tool_counts_that_cannot_be_added_up_stay_those_of_the_row_that_stays(tmp_path):
    lines = [journal_line(1, tool_counts=["search"]), journal_line(2, tool_counts={"read": 1})]
    _, (row,) = read(tmp_path, lines)
    assert json.loads(row["tool_counts"]) == {"read": 1}


numbered = st.builds(
    "gen_ai.{}.{}.{}".format,
    st.sampled_from(["prompt", "completion"]),
    st.integers(0, 3),
    st.sampled_from(["role", "content"]),
)
event_names = st.sampled_from(
    ["gen_ai.user.message", "gen_ai.choice", "gen_ai.content.prompt", "other"]
)
event_facts = st.dictionaries(
    st.sampled_from(["content", "message", "gen_ai.prompt", "gen_ai.event.content"]),
    json_values | json_values.map(json.dumps),
)


@given(
    st.dictionaries(numbered, json_values | json_values.map(json.dumps)),
    st.lists(st.tuples(event_names, event_facts), max_size=3),
)
def test_whatever_a_span_holds_messages_are_text(facts, events):
    said = said_in(facts, events)
    assert all(isinstance(message.text, str) and isinstance(message.role, str) for message in said)
