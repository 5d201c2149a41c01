"""Logs of requests as trackers and clouds keep them."""

import json

import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.readers import bedrock, langfuse, langsmith

pytestmark = pytest.mark.slow  # many seconds in all

FIRST = [("system", "be brief"), ("user", "hello")]
SECOND = [*FIRST, ("assistant", "hi"), ("user", "prove it")]
FACTS = (
    "conversation_id", "turn_index", "user_message", "model", "assistant_message", "prompt_tokens",
    "completion_tokens", "cached_tokens", "duration_ms", "response_type",
)  # fmt: skip
CLASSES = {"user": "HumanMessage", "assistant": "AIMessage", "system": "SystemMessage"}
TITLE = "### Task:\nGenerate a title.\n<chat_history>\nUSER: hello\n</chat_history>"


def chat(said):
    return [{"role": role, "content": text} for role, text in said]


def times(number):
    return f"2026-05-04T12:0{number}:00Z", f"2026-05-04T12:0{number}:02Z"


class Langfuse:
    """As the export of observations and the API of a self-hosted Langfuse 3 give them."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        start, end = times(number)
        return {
            "id": f"o{number}", "traceId": f"t{number}", "sessionId": session, "type": "GENERATION",
            "startTime": start, "endTime": end, "model": "o3", "input": {"messages": chat(said)},
            "output": {"role": "assistant", "content": answer}, "userId": "ann",
            "usageDetails": {"input": 10, "input_cached_tokens": 2, "output": 7, "total": 19},
            "level": "ERROR" if failed else "DEFAULT", "parentObservationId": None,
        }  # fmt: skip


class LangfuseColumns(Langfuse):
    """As its export to a blob storage names columns, with JSON as text."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        row = super().call(said, answer, number, failed, session)
        names = {"traceId": "trace_id", "sessionId": "session_id", "startTime": "start_time",
                 "endTime": "end_time", "model": "provided_model_name", "userId": "user_id",
                 "usageDetails": "usage_details"}  # fmt: skip
        row = {names.get(name, name): value for name, value in row.items()}
        return row | {name: json.dumps(row[name]) for name in ("input", "usage_details")}


class Datadog:
    """As its SDK sends spans."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        return {
            "span_id": str(number), "trace_id": f"t{number}", "session_id": session, "name": "llm",
            "start_ns": 1_777_896_000_000_000_000 + number * 60_000_000_000,
            "duration": 2_000_000_000, "status": "error" if failed else "ok",
            "meta": {"span.kind": "llm", "model_name": "o3", "input": {"messages": chat(said)},
                     "output": {"messages": [{"role": "assistant", "content": answer}]}},
            "metrics": {"input_tokens": 12, "output_tokens": 7, "cache_read_input_tokens": 2},
        }  # fmt: skip


class DatadogExport(Datadog):
    """As its API gives spans."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        span = super().call(said, answer, number, failed, session)
        meta = span.pop("meta")
        facts = {name.replace("span.kind", "span_kind"): value for name, value in meta.items()}
        return {"id": str(number), "type": "span", "attributes": span | facts}


class CloudWatch:
    """A line of Bedrock's log, as CloudWatch exports it: the log's row is text in a column."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        row = Bedrock().call(said, answer, number, failed, session)
        return {"@timestamp": row["timestamp"], "@message": json.dumps(row)}


class LangSmith:
    """As its client serialises LangChain's messages; `session_id` is the project."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        start, end = times(number)
        batch = [
            {"lc": 1, "type": "constructor", "id": ["langchain", "schema", CLASSES[role]],
             "kwargs": {"content": text}} for role, text in said
        ]  # fmt: skip
        message = {"lc": 1, "type": "constructor", "id": ["x", "AIMessage"],
                   "kwargs": {"content": answer}}  # fmt: skip
        return {
            "id": f"r{number}", "trace_id": f"t{number}", "run_type": "llm", "session_id": "proj",
            "start_time": start, "end_time": end, "inputs": {"messages": [batch]},
            "outputs": {"generations": [[{"text": answer, "message": message}]],
                        "usage_metadata": {"input_token_details": {"cache_read": 2}}},
            "extra": {"metadata": {"ls_model_name": "o3", "thread_id": session,
                                   "user_id": "ann"}},
            "prompt_tokens": 12, "completion_tokens": 7, "error": "timeout" if failed else None,
        }  # fmt: skip


class Helicone:
    """As its API gives requests."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        start, end = times(number)
        usage = {"prompt_tokens": 12, "completion_tokens": 7,
                 "prompt_tokens_details": {"cached_tokens": 2}}  # fmt: skip
        return {
            "request_id": f"h{number}", "request_created_at": start, "response_created_at": end,
            "request_body": {"model": "o3", "messages": chat(said)}, "response_model": "o3",
            "response_body": json.dumps({"choices": [{"message": {"content": answer}}],
                                         "usage": usage}),
            "response_status": 503 if failed else 200, "request_user_id": "ann",
            "request_properties": {"Helicone-Session-Id": session},
        }  # fmt: skip


class Bedrock:
    """As Converse is logged."""

    def call(self, said, answer, number=1, failed=False, session="c1"):
        parts = [{"role": role, "content": [{"text": text}]} for role, text in said[1:]]
        return {
            "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "operation": "Converse",
            "timestamp": times(number)[0], "requestId": f"b{number}", "accountId": "1",
            "modelId": "arn:aws:bedrock:us-east-1:1:inference-profile/o3",
            "identity": {"arn": "ann"}, "requestMetadata": {"session_id": session},
            "input": {"inputTokenCount": 10, "cacheReadInputTokenCount": 2,
                      "inputBodyJson": {"messages": parts, "system": [{"text": said[0][1]}]}},
            "output": {"outputTokenCount": 7, "outputBodyJson": {
                "output": {"message": {"role": "assistant", "content": [{"text": answer}]}},
                "metrics": {"latencyMs": 2000}}},
            "errorCode": "ThrottlingException" if failed else None,
        }  # fmt: skip


LOGS = [Langfuse(), LangfuseColumns(), LangSmith(), Helicone(), Bedrock(), Datadog(),
        DatadogExport(), CloudWatch()]  # fmt: skip
each_log = pytest.mark.parametrize("log", LOGS, ids=lambda log: type(log).__name__)


def read(tmp_path, rows, name="log.jsonl"):
    file = tmp_path / name
    file.write_text(
        json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    )
    report = ingest([file], tmp_path / "turns.parquet")
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def facts_of(turn):
    return tuple(turn[name] for name in FACTS)


@each_log
def test_every_request_gives_the_turn_that_it_adds(tmp_path, log):
    rows = [log.call(FIRST, "hi", 1), log.call(SECOND, "it is so", 2)]
    report, turns = read(tmp_path, rows)
    assert [facts_of(turn) for turn in turns] == [
        ("c1", 1, "hello", "o3", "hi", 12, 7, 2, 2000, None),
        ("c1", 2, "prove it", "o3", "it is so", 12, 7, 2, 2000, None),
    ]
    users = {turn["user_id"] for turn in turns}
    assert "ann" not in users
    assert (None in users) == isinstance(log, Datadog)  # its spans name no user
    assert (report.rows_read, report.complete_conversations) == (2, 1)


@each_log
def test_helper_calls_are_counted_and_no_turns(tmp_path, log):
    rows = [log.call(FIRST, "hi", 1), log.call([("system", ""), ("user", TITLE)], "Greeting", 2)]
    report, turns = read(tmp_path, rows)
    assert [turn["user_message"] for turn in turns] == ["hello"]
    assert report.dropped == {"a product's helper call: title": 1}


@each_log
def test_harness_text_is_left_out(tmp_path, log):
    said = [("system", ""), ("user", "<system-reminder>use tabs</system-reminder>why?")]
    report, (turn,) = read(tmp_path, [log.call(said, "so", 1)])
    assert turn["user_message"] == "why?"
    assert report.mended


@each_log
def test_a_failed_request_is_a_failed_turn(tmp_path, log):
    _, (turn,) = read(tmp_path, [log.call(FIRST, "", 1, failed=True)])
    assert turn["response_type"] == "failed"


@each_log
def test_a_page_of_an_api_is_read_as_its_rows(tmp_path, log):
    page = {"data": [log.call(FIRST, "hi", 1), log.call(SECOND, "it is so", 2)], "meta": {}}
    report, turns = read(tmp_path, page, "page.json")
    assert [turn["user_message"] for turn in turns] == ["hello", "prove it"]
    assert report.rows_read == 2


def test_a_trace_of_langfuse_gives_its_session_to_its_observations(tmp_path):
    calls = [Langfuse().call(FIRST, "hi", 1), {"type": "SPAN", "id": "s", "startTime": ""}]
    for call in calls:
        call.pop("sessionId", None)
        call.pop("userId", None)
    trace = {"id": "t1", "sessionId": "c1", "userId": "ann", "observations": calls}
    report, (turn,) = read(tmp_path, [trace])
    assert facts_of(turn)[:3] == ("c1", 1, "hello")
    assert turn["user_id"] is not None
    assert report.dropped == {langfuse.NO_CALL: 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"type": "TOOL", "traceId": "t", "input": "x"}, langfuse.NO_CALL, id="tool"),
        pytest.param({"type": "GENERATION", "traceId": "t", "input": None}, langfuse.NOT_READ,
                     id="no input"),
        pytest.param({"run_type": "chain", "inputs": {}}, langsmith.NO_CALL, id="chain"),
        pytest.param({"run_type": "llm", "inputs": {}}, langsmith.NOT_READ, id="no inputs"),
        pytest.param({"schemaType": "ModelInvocationLog", "input": {"inputBodyS3Path": "s3://x"}},
                     bedrock.ELSEWHERE, id="body elsewhere"),
        pytest.param({"schemaType": "ModelInvocationLog", "input": {"inputBodyJson":
                      {"texts": ["a"], "input_type": "search"}}}, bedrock.NO_CALL, id="embedding"),
    ],
)  # fmt: skip
def test_what_is_no_turn_is_counted_under_a_true_reason(tmp_path, row, reason):
    with pytest.raises(RecordError, match="no turn left of 1 rows") as refused:
        read(tmp_path, [row])
    assert f"1 {reason}" in str(refused.value)


@pytest.mark.parametrize(
    ("body", "output", "said"),
    [
        pytest.param(
            {"anthropic_version": "bedrock-2023-05-31", "messages": chat(FIRST[1:])},
            [{"type": "message_start"}, {"type": "content_block_delta", "delta": {"text": "hi"}}],
            "hi", id="a stream of Anthropic's",
        ),
        pytest.param({"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
                     [{"contentBlockDelta": {"delta": {"text": "h"}}},
                      {"contentBlockDelta": {"delta": {"text": "i"}}}], "hi", id="of Converse's"),
        pytest.param({"inputText": "hello"}, {"results": [{"outputText": "hi"}]}, "hi", id="Titan"),
        pytest.param({"prompt": "hello"}, {"generation": "hi"}, "hi", id="Llama"),
    ],
)  # fmt: skip
def test_bedrock_logs_every_familys_own_bodies(tmp_path, body, output, said):
    row = Bedrock().call(FIRST, "", 1)
    row["input"]["inputBodyJson"], row["output"]["outputBodyJson"] = body, output
    _, (turn,) = read(tmp_path, [row])
    assert (turn["user_message"], turn["assistant_message"]) == ("hello", said)


def test_a_tool_loop_of_bedrock_is_one_turn(tmp_path):
    row, again = (Bedrock().call(FIRST, "", number) for number in (1, 2))
    use = {"role": "assistant", "content": [{"toolUse": {"name": "search", "toolUseId": "u"}}]}
    row["output"]["outputBodyJson"]["output"]["message"] = use
    result = {"role": "user", "content": [{"toolResult": {"toolUseId": "u", "content": []}}]}
    again["input"]["inputBodyJson"]["messages"] += [use, result]
    _, (turn,) = read(tmp_path, [row, again])
    assert (turn["llm_calls"], turn["tool_counts"]) == (2, '{"search": 1}')


def helicone(request, response):
    return {"request_id": "h1", "request_created_at": times(1)[0], "request_model": "o3",
            "request_body": request, "response_body": response,
            "request_properties": {"Helicone-Session-Id": "c1"}}  # fmt: skip


def gemini(said):
    return {"contents": [
        {"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]}
        for role, text in said if role != "system"
    ]}  # fmt: skip


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": "it is "}}]},
    {"choices": [{"index": 0, "delta": {"content": "so"}, "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 12, "completion_tokens": 7}},
]  # fmt: skip
EVENTS = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 12}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta",
                                                         "text": "it is so"}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}},
]  # fmt: skip
OF_GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [
        {"text": "hm", "thought": True}, {"text": "it is so"}]}}],
    "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 4, "thoughtsTokenCount": 3},
}  # fmt: skip
REQUEST = {"model": "o3", "messages": chat(SECOND)}
STORED = [
    pytest.param(helicone(REQUEST, {"streamed_data": CHUNKS}), id="chunks"),
    pytest.param(
        helicone(REQUEST, "".join(f"data: {json.dumps(c)}\n\n" for c in CHUNKS)), id="event-stream"
    ),
    pytest.param(helicone(REQUEST, EVENTS), id="events-of-messages"),
    pytest.param(helicone(gemini(SECOND), OF_GEMINI), id="gemini"),
    pytest.param(
        {"id": "p1", "created_at": times(1)[0], "ai_model": "o3", "session_id": "c1",
         "request": {"url": "u", "body": REQUEST},
         "response": {"status": 200, "body": {
             "choices": [{"message": {"content": "it is so"}}],
             "usage": {"prompt_tokens": 12, "completion_tokens": 7}}}},
        id="bodies-beside-their-status",
    ),
    pytest.param(
        {"id": "x", "object": "chat.completion", "created": 1790000000, "model": "o3",
         "session_id": "c1", "input": chat(SECOND),
         "choices": [{"message": {"content": "it is so"}}],
         "usage": {"prompt_tokens": 12, "completion_tokens": 7}},
        id="stored-completion",
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", STORED)
def test_answers_are_read_in_the_forms_in_which_gateways_store_them(tmp_path, row):
    _, (turn,) = read(tmp_path, [row])
    facts = facts_of(turn)
    assert facts[:7] == ("c1", 2, "prove it", "o3", "it is so", 12, 7)


def test_thoughts_of_gemini_are_tokens_and_no_words(tmp_path):
    _, (turn,) = read(tmp_path, [helicone(gemini(SECOND), OF_GEMINI)])
    assert turn["reasoning_tokens"] == 3


def test_an_output_that_is_quoted_text_is_that_text(tmp_path):
    _, (turn,) = read(tmp_path, [Langfuse().call(SECOND, "") | {"output": '"it is so"'}])
    assert turn["assistant_message"] == "it is so"


def test_a_trace_without_its_observations_names_no_model(tmp_path):
    row = {"id": "t1", "timestamp": times(1)[0], "name": "chat", "sessionId": "c1",
           "input": {"messages": chat(SECOND)}, "output": {"content": "it is so"}}  # fmt: skip
    _, (turn,) = read(tmp_path, [row])
    assert facts_of(turn)[:5] == ("c1", 2, "prove it", None, "it is so")


def test_a_batch_has_requests_without_answers(tmp_path):
    rows = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": REQUEST},
        {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"input": "hello"}},
    ]
    report, (turn,) = read(tmp_path, rows)
    assert (turn["user_message"], turn["model"], turn["turn_index"]) == ("prove it", "o3", 2)
    assert list(report.dropped.values()) == [1]


@pytest.mark.parametrize(
    "names", [("human", "assistant"), ("prompt", "response"), ("Question", "Answer")]
)
def test_a_conversation_may_be_pairs(tmp_path, names):
    pairs = [dict(zip(names, said, strict=True)) for said in (("hello", "hi"), ("why?", "so"))]
    _, turns = read(tmp_path, [{"conversation_id": 1, "model": "o3", "conversation": pairs}])
    assert [facts_of(turn)[:5] for turn in turns] == [
        ("1", 1, "hello", "o3", "hi"), ("1", 2, "why?", "o3", "so"),
    ]  # fmt: skip


def test_an_answer_is_never_advised_as_a_persons_message(tmp_path):
    row = {
        "thread": "c1",
        "at": times(1)[0],
        "model": "o3",
        "trace": {"output": {"content": "Here is a long answer with many words in it"}},
    }
    with pytest.raises(RecordError) as refused:
        read(tmp_path, [row])
    assert "output.content" not in str(refused.value)


def test_rows_without_any_id_are_told_to_get_one(tmp_path):
    with pytest.raises(RecordError, match=r"Add a column conversation_id.*turn_index 1"):
        read(tmp_path, [{"instruction": "Prove that it holds", "output": "so"}])


def langfuse_events(session="c1"):
    """What Langfuse's first SDKs send of one generation, an event a row."""
    trace = {"id": "t1", "sessionId": session, "userId": "ann"}
    begun = {"id": "g1", "traceId": "t1", "model": "o3", "startTime": "2026-05-04T12:00:00Z",
             "input": chat(SECOND)}  # fmt: skip
    ended = {"id": "g1", "traceId": "t1", "endTime": "2026-05-04T12:00:02Z", "output": "it is so",
             "usage": {"input": 12, "output": 7}}  # fmt: skip
    events = [("generation-update", ended), ("span-create", {"id": "s1", "traceId": "t1"}),
              ("generation-create", begun), ("trace-create", trace)]  # fmt: skip
    return [
        {"id": f"e{n}", "type": kind, "timestamp": "2026-05-04T12:00:03Z", "body": body}
        for n, (kind, body) in enumerate(events)
    ]


@pytest.mark.parametrize("as_batch", [False, True])
def test_events_of_one_generation_are_joined_in_any_order(tmp_path, as_batch):
    rows = [{"batch": langfuse_events(), "metadata": {}}] if as_batch else langfuse_events()
    _, (turn,) = read(tmp_path, rows)
    assert facts_of(turn)[2:7] == ("prove it", "o3", "it is so", 12, 7)
    assert (turn["conversation_id"], turn["turn_index"]) == ("c1", 2)


def test_copilots_requests_are_turns_with_their_models(tmp_path):
    request = {"message": {"text": "hello"}, "timestamp": 1_777_896_000_000,
               "response": [{"value": "h"}, {"kind": "toolInvocationSerialized"}, {"value": "i"}],
               "modelId": "copilot/gpt-5"}  # fmt: skip
    row = {"responderUsername": "GitHub Copilot", "sessionId": "c1", "requests": [request] * 2}
    _, turns = read(tmp_path, [row])
    assert [facts_of(turn)[:5] for turn in turns] == [
        ("c1", n, "hello", "copilot/gpt-5", "hi") for n in (1, 2)
    ]
    assert turns[0]["timestamp"].year == 2026


@pytest.mark.parametrize(
    ("asked", "answered"), [("input", "output"), ("RequestMessages", "ResponseMessages")]
)
def test_messages_beside_their_answer_are_a_request(tmp_path, asked, answered):
    row = {
        "session_id": "c1",
        "model": "o3",
        "timestamp": "2026-05-04T12:00:00Z",
        asked: json.dumps(chat(SECOND)),
        answered: json.dumps(chat([("assistant", "so")])),
    }
    _, (turn,) = read(tmp_path, [row])
    assert facts_of(turn)[:5] == ("c1", 2, "prove it", "o3", "so")


def test_texts_in_columns_input_and_output_are_no_request(tmp_path):
    row = {"session_id": "c1", "model": "o3", "turn_index": 1, "input": "hi", "output": "ho"}
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(row))
    ingest([file], tmp_path / "turns.parquet", columns={"user_message": "input"})
    (turn,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (turn["user_message"], turn["model"]) == ("hi", "o3")
