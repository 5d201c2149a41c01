"""Model calls whose messages and model stand in records of their own, joined wherever those are."""

import importlib
import json
import random
import tracemalloc

import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.calls import NO_SPAN, NOTHING_ASKED
from turnout.logs.readers.otel import NO_CALL

pytestmark = pytest.mark.slow  # many seconds in all

NOON = 1777896000_000_000_000
SAID = [("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "prove it")]


def value(plain):
    """As OTLP's JSON writes any value."""
    if isinstance(plain, dict):
        return {"kvlistValue": {"values": attributes(plain)}}
    if isinstance(plain, list):
        return {"arrayValue": {"values": [value(each) for each in plain]}}
    return {"intValue": str(plain)} if isinstance(plain, int) else {"stringValue": plain}


def attributes(facts):
    return [{"key": name, "value": value(plain)} for name, plain in facts.items()]


def trace_of(call):
    return f"{call:032x}"


def span_of(call):
    return f"{call:016x}"


def span(call=1, model="gpt-4o-2024-08-06", **more):
    facts = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    facts |= {"gen_ai.response.model": model, "gen_ai.conversation.id": f"c{call}"}
    facts |= {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 7}
    return {
        "traceId": trace_of(call),
        "spanId": span_of(call),
        "name": "chat gpt-4o",
        "startTimeUnixNano": str(NOON),
        "endTimeUnixNano": str(NOON + 2_000_000_000),
        "attributes": attributes(facts),
    } | more


def record(name, body, after_ns, call=1):
    """As the instrumentation of the openai package 2.3b0 and the SDK 1.45 export it."""
    return {
        "observedTimeUnixNano": str(NOON + after_ns),
        "eventName": name,
        "body": value(body),
        "attributes": attributes({"gen_ai.system": "openai"}),
        "traceId": trace_of(call),
        "spanId": span_of(call),
    }


def records(call=1, said=SAID):
    asked = [
        record(f"gen_ai.{role}.message", {"content": text}, number, call)
        for number, (role, text) in enumerate(said)
    ]
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "it is so"}}
    return [*asked, record("gen_ai.choice", choice, len(said), call)]


def of_spans(*spans):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def of_logs(*log_records):
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(log_records)}]}]}


def ingested(tmp_path, files, **more):
    """What a folder with these files gives; a list is JSON Lines, or one document as `.json`."""
    folder = tmp_path / "export"
    folder.mkdir(exist_ok=True)
    for name, rows in files.items():
        text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (folder / name).write_text(text)
    report = ingest([folder], tmp_path / "turns.parquet", **more)
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def written(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def facts_of(row):
    names = ("conversation_id", "turn_index", "user_message", "model", "assistant_message")
    return tuple(row[name] for name in names)


JOINED = ("c1", 2, "prove it", "gpt-4o-2024-08-06", "it is so")
ARRANGEMENTS = {
    "span-before-messages": {"a.jsonl": [of_spans(span()), of_logs(*records())]},
    "messages-before-span": {"a.jsonl": [of_logs(*records()), of_spans(span())]},
    "one-row": {"a.jsonl": [of_logs(*records()) | of_spans(span())]},
    "one-document": {"a.json": [of_logs(*records()), of_spans(span())]},
    "a-row-a-record": {"a.jsonl": [*map(of_logs, records()[::-1]), of_spans(span())]},
    "logs-and-traces": {"logs.jsonl": [of_logs(*records())], "traces.jsonl": [of_spans(span())]},
    "rotated": {f"{number}.jsonl": [of_logs(event)] for number, event in enumerate(records()[::-1])}
    | {"z.jsonl": [of_spans(span())]},
}


@pytest.mark.parametrize("files", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_messages_take_what_the_span_with_their_ids_tells_wherever_it_stands(tmp_path, files):
    report, (row,) = ingested(tmp_path, files)
    assert facts_of(row) == JOINED
    assert (row["prompt_tokens"], row["completion_tokens"], row["duration_ms"]) == (12, 7, 2000)
    assert (row["timestamp"].year, row["llm_calls"], report.dropped) == (2026, 1, {})


def named_by_attribute(event):
    """As SDKs before 1.35 export an event, whose time is its own."""
    named = attributes({"event.name": event["eventName"]})
    more = {
        "timeUnixNano": event["observedTimeUnixNano"],
        "attributes": event["attributes"] + named,
    }
    rest = {k: v for k, v in event.items() if k not in ("eventName", "observedTimeUnixNano")}
    return rest | more


def with_json_body(event):
    pairs = event["body"]["kvlistValue"]["values"]
    plain = {pair["key"]: pair["value"].get("stringValue") for pair in pairs}
    text = json.dumps(plain) if plain.get("content") else json.dumps({"content": "it is so"})
    return event | {"body": value(text)}


def with_parts(event):
    """As the instrumentation of the google-genai package 0.4b0 writes content."""
    pairs = event["body"]["kvlistValue"]["values"]
    plain = {pair["key"]: pair["value"].get("stringValue") for pair in pairs}
    content = {"parts": [{"text": plain.get("content") or "it is so"}], "role": "user"}
    return event | {"body": value({"content": content})}


def with_text_parts(event):
    if event["eventName"] != "gen_ai.user.message":
        return event
    pairs = event["body"]["kvlistValue"]["values"]
    text = pairs[0]["value"]["stringValue"]
    return event | {"body": value({"content": [{"type": "text", "text": text}]})}


@pytest.mark.parametrize(
    "written", [named_by_attribute, with_json_body, with_parts, with_text_parts]
)
def test_every_writing_of_a_message_record_is_read(tmp_path, written):
    _, (row,) = ingested(
        tmp_path, {"a.jsonl": [of_logs(*map(written, records())), of_spans(span())]}
    )
    assert facts_of(row) == JOINED


def test_every_call_gets_its_own_span_in_whatever_order_and_batches(tmp_path):
    rng = random.Random(3)
    logs = [
        event
        for call in range(1, 40)
        for event in records(call, [("user", f"question {call}"), ("assistant", "hi"), *SAID[3:]])
    ]
    spans = [span(call, model=f"m{call % 5}") for call in range(1, 40)]
    written = []
    for _ in range(3):
        rng.shuffle(logs)
        rng.shuffle(spans)
        rows = [of_logs(*logs[begin : begin + 7]) for begin in range(0, len(logs), 7)]
        rows += [of_spans(*spans[begin : begin + 4]) for begin in range(0, len(spans), 4)]
        rng.shuffle(rows)
        _, turns = ingested(tmp_path, {"logs.jsonl": rows[::2], "traces.jsonl": rows[1::2]})
        written.append(sorted((*facts_of(row), row["llm_calls"]) for row in turns))
    expected = [(f"c{call}", 2, "prove it", f"m{call % 5}", "it is so", 1) for call in range(1, 40)]
    assert written == [sorted(expected)] * 3


def test_a_call_that_failed_is_kept_as_failed(tmp_path):
    failed = span(status={"code": 2, "message": "no"})
    _, (row,) = ingested(tmp_path, {"a.jsonl": [of_logs(*records()[:-1]), of_spans(failed)]})
    assert (row["response_type"], row["assistant_message"]) == ("failed", None)


def test_messages_without_their_span_are_a_turn_that_names_no_model(tmp_path):
    report, (row, lone) = ingested(
        tmp_path, {"a.jsonl": [of_logs(*records(1), *records(2)), of_spans(span(2))]}
    )
    assert facts_of(row) == (trace_of(1), 2, "prove it", None, "it is so")
    assert row["timestamp"].year == 2026
    assert lone["model"] == "gpt-4o-2024-08-06"
    assert (report.rows_kept, report.noted["no model"]) == (2, 1)


def test_what_a_message_tells_of_its_call_counts_where_no_span_does(tmp_path):
    (event, *others) = records(1, [("user", "hello")])
    facts = {"session.id": "s1", "gen_ai.request.model": "o3"}
    event = event | {"attributes": attributes(facts)}
    _, (row,) = ingested(tmp_path, {"a.jsonl": [of_logs(event, *others)]})
    assert (row["conversation_id"], row["model"]) == ("s1", "o3")


@pytest.mark.parametrize("ids", [{}, {"traceId": "0" * 32, "spanId": "0" * 16}, {"traceId": "t"}])
def test_messages_that_name_no_span_are_counted(tmp_path, ids):
    nameless = [
        {k: v for k, v in event.items() if k not in ("traceId", "spanId")} | ids
        for event in records(1, SAID[1:2])
    ]
    report, (row,) = ingested(
        tmp_path, {"a.jsonl": [of_logs(*nameless, *records()), of_spans(span())]}
    )
    assert facts_of(row) == JOINED
    assert report.dropped == {NO_SPAN: 2}


def test_spans_whose_messages_are_nowhere_are_counted(tmp_path):
    report, rows = ingested(
        tmp_path, {"a.jsonl": [of_spans(span(1), span(2), span(2)), of_logs(*records(1))]}
    )
    assert len(rows) == 1
    assert report.dropped == {NOTHING_ASKED: 1}


def test_calls_whose_content_was_not_captured_are_counted(tmp_path):
    mute = [{**event, "body": {}} for event in records(2)]
    report, rows = ingested(
        tmp_path, {"a.jsonl": [of_logs(*records(1), *mute), of_spans(span(1), span(2))]}
    )
    assert len(rows) == 1
    assert report.dropped == {NOTHING_ASKED: 1}
    with pytest.raises(RecordError, match=f"no turn left of 1 rows .1 {NOTHING_ASKED}"):
        ingest([written(tmp_path / "mute.jsonl", of_logs(*mute))], tmp_path / "none.parquet")


@pytest.mark.parametrize("operation", ["embeddings", "execute_tool", "invoke_agent"])
def test_spans_in_which_a_user_asks_nothing_are_no_calls(tmp_path, operation):
    facts = {"gen_ai.operation.name": operation, "gen_ai.request.model": "m"}
    other = span(9, attributes=attributes(facts))
    report, rows = ingested(tmp_path, {"a.jsonl": [of_spans(span(), other), of_logs(*records())]})
    assert (len(rows), report.dropped) == (1, {})


def test_a_span_whose_call_an_event_holds_whole_is_not_missed(tmp_path):
    said = json.dumps([{"role": "user", "content": "hello"}])
    facts = {"gen_ai.input.messages": said, "gen_ai.response.model": "o3"}
    facts |= {"gen_ai.conversation.id": "c1"}
    event = record("gen_ai.client.inference.operation.details", {}, 0)
    event |= {"attributes": attributes(facts)}
    report, (row,) = ingested(tmp_path, {"a.jsonl": [of_spans(span()), of_logs(event)]})
    assert (row["user_message"], row["model"], report.dropped) == ("hello", "o3", {})


def test_a_call_that_its_span_tells_too_counts_once(tmp_path):
    asked = [{"role": role, "content": text} for role, text in SAID]
    whole = span()
    whole["attributes"] += attributes({"gen_ai.input.messages": json.dumps(asked)})
    report, (row,) = ingested(tmp_path, {"a.jsonl": [of_logs(*records()), of_spans(whole)]})
    assert facts_of(row) == JOINED
    assert (row["llm_calls"], row["prompt_tokens"]) == (1, 12)
    assert report.dropped == {"sent again (the longest is kept)": 1}


def test_what_was_exported_twice_counts_once(tmp_path):
    rows = [of_logs(*records()), of_spans(span())]
    report, (row,) = ingested(tmp_path, {"a.jsonl": rows * 2, "copy.jsonl": rows})
    assert facts_of(row) == JOINED
    assert (row["llm_calls"], row["prompt_tokens"], report.dropped) == (1, 12, {})


def test_what_was_said_twice_within_one_tick_of_a_clock_was_said_twice(tmp_path):
    said = [("user", "go on"), ("assistant", "1"), ("user", "go on"), ("assistant", "2"), SAID[1]]
    ticked = [event | {"observedTimeUnixNano": str(NOON)} for event in records(1, said)]
    _, (row,) = ingested(tmp_path, {"a.jsonl": [of_logs(*ticked), of_spans(span())]})
    assert (row["turn_index"], row["user_message"]) == (3, "hello")


def test_telemetry_of_other_things_is_counted_and_stops_nothing(tmp_path):
    started = {"body": value("started"), "observedTimeUnixNano": str(NOON)}
    get = {"traceId": trace_of(1), "spanId": span_of(7), "name": "GET /", "attributes": []}
    files = {
        "logs.jsonl": [of_logs(started), of_logs(started, *records())],
        "metrics.jsonl": [{"resourceMetrics": []}],
        "traces.jsonl": [of_spans(get), of_spans(get, span())],
    }
    report, (row,) = ingested(tmp_path, files)
    assert facts_of(row) == JOINED
    assert report.dropped == {NO_CALL: 3}


def test_bytes_that_were_mended_in_a_message_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    text = json.dumps(of_logs(*records(1, [("user", "caf@")])))
    path.write_bytes(text.encode().replace(b"@", b"\xe9"))
    report = ingest([path], tmp_path / "turns.parquet")
    (row,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert row["user_message"] == "café"
    assert report.mended == {"bytes that are not UTF-8 (read as Windows-1252)": 1}


def test_odd_ids_times_and_texts_stop_nothing(tmp_path):
    values = ["9" * 30, "9" * 19, "-1", "soon", [1], {"a": 1}, 1.5, None]
    odd = [
        records(1, [("user", "half \ud800 and \0")])[0]
        | {"observedTimeUnixNano": value, "traceId": value, "spanId": value}
        for value in values
    ]
    report, rows = ingested(tmp_path, {"a.jsonl": [of_logs(*odd, *records(2))]})
    assert len(rows) + report.dropped[NO_SPAN] == len(values) + 1


def test_a_call_longer_than_any_row_is_told_and_can_be_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("turnout.logs.calls.MAX_ROW_CHARS", 1_000)
    long = records(2, [("user", "x" * 400)] * 5)
    files = {"a.jsonl": [of_logs(*records(1), *long), of_spans(span(1), span(2))]}
    with pytest.raises(RecordError, match=r"a\.jsonl:1: a model call of more than 1,000 char"):
        ingested(tmp_path, files)
    report, rows = ingested(tmp_path, files, skip_unreadable=True)
    assert (len(rows), report.dropped) == (1, {"unreadable": 1})


def test_messages_that_are_joined_are_redacted_too(tmp_path):
    said = [("user", "write to ann@example.com")]
    _, (row,) = ingested(tmp_path, {"a.jsonl": [of_logs(*records(1, said))]}, redact=True)
    assert row["user_message"] == "write to <EMAIL>"


@pytest.mark.slow
def test_messages_wait_for_their_spans_on_disk(tmp_path, monkeypatch):
    # Portions of a megabyte, where some tens are held at a time.
    monkeypatch.setattr(importlib.import_module("turnout.logs.ingest"), "_FIRST_CHARS", 1 << 20)
    monkeypatch.setattr("turnout.logs.row_writer._CHUNK_CHARS", 1 << 20)
    monkeypatch.setattr("turnout.logs.deduplicated_turns._MAX_CHARS", 1 << 20)
    monkeypatch.setattr("turnout.engine._ROWS_A_BATCH", 50)
    rng = random.Random(5)
    with (tmp_path / "logs.jsonl").open("w") as file:
        for call in range(1, 801):
            said = [("user", rng.randbytes(12_500).hex())]
            file.write(json.dumps(of_logs(*records(call, said))) + "\n")
    written(tmp_path / "traces.jsonl", *(of_spans(span(call)) for call in range(1, 801)))
    sources = [tmp_path / "logs.jsonl", tmp_path / "traces.jsonl"]
    ingested(
        tmp_path, {"a.jsonl": [of_logs(*records()), of_spans(span())]}
    )  # what imports hold is not counted
    tracemalloc.start()
    try:
        report = ingest(sources, tmp_path / "turns.parquet")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.rows_kept, report.noted) == (800, {})
    assert peak < 12_000_000  # of 20 MB that were said
