"""Spans of model calls in the writings of OpenLLMetry, OpenInference and the Vercel AI SDK."""

import json
import re

import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.calls import WRAPPER
from turnout.logs.readers.sessions import WITHOUT_TEXT

pytestmark = pytest.mark.slow  # many seconds in all

START_NS = 1_790_000_000_000_000_000
SAID = [("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "prove it")]
FACTS = (
    "conversation_id", "turn_index", "user_message", "model", "assistant_message", "prompt_tokens",
    "completion_tokens", "llm_calls",
)  # fmt: skip
TURN = ("c1", 2, "prove it", "o3-2025-04-16", "it is so", 12, 7, 1)


def chat(said):
    return [{"role": role, "content": text} for role, text in said]


def span(facts, number=1, parent="", **more):
    return {
        "traceId": "a" * 32, "spanId": f"{number:016x}", "parentSpanId": parent, "name": "call",
        "startTimeUnixNano": str(START_NS + number), "endTimeUnixNano": str(START_NS + 10**9),
        "attributes": [
            {"key": name, "value": {"intValue": str(v)} if isinstance(v, int) else
             {"stringValue": v}} for name, v in facts.items()
        ], **more,
    }  # fmt: skip


def read(tmp_path, rows):
    file = tmp_path / "spans.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    report = ingest([file], tmp_path / "turns.parquet")
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def read_spans(tmp_path, *spans):
    return read(tmp_path, [{"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}])


def facts_of(turn):
    return tuple(turn[name] for name in FACTS)


def open_llmetry_first(said=SAID, answer="it is so"):
    facts = {
        "llm.request.type": "chat", "llm.request.model": "o3", "llm.response.model": TURN[3],
        "llm.usage.prompt_tokens": 12, "llm.usage.completion_tokens": 7,
        "traceloop.association.properties.chat_id": "c1",
        "traceloop.association.properties.user_id": "ann",
    }  # fmt: skip
    for number, (role, text) in enumerate(said):
        facts |= {f"llm.prompts.{number}.role": role, f"llm.prompts.{number}.content": text}
    return facts | {"llm.completions.0.role": "assistant", "llm.completions.0.content": answer}


def open_inference(said=SAID, answer="it is so"):
    facts = {
        "openinference.span.kind": "LLM", "llm.model_name": TURN[3], "session.id": "c1",
        "llm.token_count.prompt": 12, "llm.token_count.completion": 7, "user.id": "ann",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": answer,
    }  # fmt: skip
    for number, (role, text) in enumerate(said):
        name = f"llm.input_messages.{number}.message"
        facts |= {f"{name}.role": role, f"{name}.contents.0.message_content.type": "text",
                  f"{name}.contents.0.message_content.text": text}  # fmt: skip
    return facts


def open_inference_whole(said=SAID, answer="it is so"):
    return {
        "openinference.span.kind": "LLM", "llm.model_name": TURN[3],
        "metadata": json.dumps({"thread_id": "c1", "user_id": "ann"}),
        "input.value": json.dumps({"messages": chat(said)}), "output.value": answer,
        "llm.token_count.prompt": 12, "llm.token_count.completion": 7,
    }  # fmt: skip


def ai_sdk(said=SAID, answer="it is so"):
    return {
        "operation.name": "ai.streamText.doStream my-function", "ai.model.id": "o3",
        "ai.operationId": "ai.streamText.doStream", "ai.response.model": TURN[3],
        "ai.prompt.messages": json.dumps(chat(said)), "ai.response.text": answer,
        "ai.usage.inputTokens": 12, "ai.usage.outputTokens": 7,
        "ai.telemetry.metadata.sessionId": "c1", "ai.telemetry.metadata.userId": "ann",
    }  # fmt: skip


COMMON = {
    "gen_ai.conversation.id": "c1", "user.id": "ann", "gen_ai.request.model": TURN[3],
    "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 7,
}  # fmt: skip


def roles_as_names(said=SAID, answer="it is so"):
    names = {"tool": "user", "system": "system", "user": "user", "assistant": "assistant"}
    facts = {f"llm.prompts.{number}.{names[role]}": text for number, (role, text) in enumerate(said)
             if role != "tool"}  # fmt: skip
    return COMMON | facts | {"llm.completions.0.content": answer}


def langfuse(said=SAID, answer="it is so"):
    return COMMON | {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps(chat(said)),
        "langfuse.observation.output": json.dumps(chat([(ROLE, answer)])[0]),
    }  # fmt: skip


def mlflow(said=SAID, answer="it is so"):
    body = {"choices": [{"message": {"role": ROLE, "content": answer}}]}
    return COMMON | {
        "mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanOutputs": json.dumps(body),
        "mlflow.spanInputs": json.dumps({"messages": chat(said)}),
    }  # fmt: skip


def listed_events(said=SAID, answer="it is so"):
    events = [
        {"event.name": f"gen_ai.{role}.message", "role": role, "content": text}
        for role, text in [*said, (ROLE, answer)]
    ]
    return COMMON | {"all_messages_events": json.dumps(events)}


ROLE = "assistant"
WRITINGS = [
    open_llmetry_first, open_inference, open_inference_whole, ai_sdk, langfuse, mlflow,
    listed_events,
]  # fmt: skip


def snake_case(spans):
    def renamed(value):
        if isinstance(value, dict):
            return {re.sub("([A-Z])", lambda m: f"_{m[1].lower()}", name): renamed(inner)
                    for name, inner in value.items()}  # fmt: skip
        return [renamed(each) for each in value] if isinstance(value, list) else value

    return renamed({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})


def tempo(spans):
    return {"batches": [{"scopeSpans": [{"spans": spans}]}]}


def jaeger(spans):
    return {"data": [{"traceID": "t", "spans": [
        {"traceID": each["traceId"], "spanID": each["spanId"],
         "startTime": START_NS // 1000, "duration": 999_999,
         "tags": [{"key": a["key"], "value": next(iter(a["value"].values()))}
                  for a in each["attributes"]]}
        for each in spans
    ]}]}  # fmt: skip


@pytest.mark.parametrize("export", [snake_case, tempo, jaeger])
def test_a_call_gives_the_same_turn_in_every_export_of_spans(tmp_path, export):
    report, (turn,) = read(tmp_path, [export([span(open_inference())])])
    assert facts_of(turn) == TURN
    assert (turn["duration_ms"], turn["timestamp"].year) == (999, 2026)
    assert report.rows_read == 1


def test_roles_may_name_the_attributes_of_messages(tmp_path):
    _, (turn,) = read_spans(tmp_path, span(roles_as_names()))
    assert facts_of(turn) == TURN


def test_messages_in_an_event_of_the_whole_call_are_read(tmp_path):
    said = {"gen_ai.input.messages": json.dumps(chat(SAID)),
            "gen_ai.output.messages": json.dumps(chat([(ROLE, "it is so")]))}  # fmt: skip
    event = {"name": "gen_ai.client.inference.operation.details",
             "attributes": span(said)["attributes"]}  # fmt: skip
    _, (turn,) = read_spans(tmp_path, span(COMMON, events=[event]))
    assert facts_of(turn) == TURN


@pytest.mark.parametrize("writing", WRITINGS)
def test_a_call_gives_the_same_turn_in_every_writing(tmp_path, writing):
    report, (turn,) = read_spans(tmp_path, span(writing()))
    assert facts_of(turn) == TURN
    assert turn["user_id"] not in (None, "ann")
    assert (turn["duration_ms"], turn["timestamp"].year) == (999, 2026)
    assert report.rows_read == 1


@pytest.mark.parametrize("writing", WRITINGS)
def test_harness_text_is_no_word_of_the_person(tmp_path, writing):
    said = [("user", "<system-reminder>use tabs</system-reminder>why?")]
    report, (turn,) = read_spans(tmp_path, span(writing(said)))
    assert turn["user_message"] == "why?"
    assert sum(report.mended.values()) == 1


@pytest.mark.parametrize("writing", WRITINGS)
def test_a_products_helper_call_is_no_turn(tmp_path, writing):
    title = "### Task:\nGenerate a title.\n<chat_history>\nUSER: hello\n</chat_history>"
    spans = [span(writing(), 1), span(writing([("user", title)], "A title"), 2)]
    report, turns = read_spans(tmp_path, *spans)
    assert [facts_of(turn) for turn in turns] == [TURN]
    assert report.dropped == {"a product's helper call: title": 1}


@pytest.mark.parametrize("writing", WRITINGS)
def test_calls_of_a_tool_loop_are_one_turn(tmp_path, writing):
    loop = [*SAID, ("assistant", "I look it up."), ("tool", "found")]
    report, (turn,) = read_spans(
        tmp_path, span(writing(SAID, "I look it up."), 1), span(writing(loop), 2)
    )
    assert facts_of(turn) == (*TURN[:5], 24, 14, 2)
    assert report.rows_read == report.rows_kept + sum(report.dropped.values()) == 2


def agent():
    """As the conventions for agents have it: the agent's span repeats what its calls say."""
    return {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "o3",
        "gen_ai.conversation.id": "c1", "gen_ai.usage.input_tokens": 24,
        "gen_ai.usage.output_tokens": 14,
        "gen_ai.input.messages": json.dumps(chat(SAID)),
        "gen_ai.output.messages": json.dumps(chat([("assistant", "it is so")])),
    }  # fmt: skip


def ai_sdk_around():
    prompt = {"system": "be brief", "messages": chat(SAID[1:])}
    return {
        "ai.operationId": "ai.streamText", "ai.model.id": "o3", "ai.prompt": json.dumps(prompt),
        "ai.response.text": "it is so", "ai.usage.promptTokens": 24,
        "ai.usage.completionTokens": 14, "ai.telemetry.metadata.sessionId": "c1",
    }  # fmt: skip


@pytest.mark.parametrize("around", [agent, ai_sdk_around])
@pytest.mark.parametrize("number", [1, 9], ids=["before", "after"])
def test_a_span_around_calls_adds_no_tokens_to_theirs(tmp_path, around, number):
    report, (turn,) = read_spans(tmp_path, span(around(), number), span(ai_sdk(), 5))
    assert facts_of(turn) == TURN
    assert report.dropped == {WRAPPER: 1}


@pytest.mark.parametrize("around", [agent, ai_sdk_around])
def test_a_span_around_calls_that_were_not_logged_is_the_turn(tmp_path, around):
    report, (turn,) = read_spans(tmp_path, span(around()))
    assert facts_of(turn) == ("c1", 2, "prove it", "o3", "it is so", 24, 14, 1)
    assert not report.dropped


def test_spans_of_tools_and_embeddings_are_no_calls(tmp_path):
    tool = span({"openinference.span.kind": "TOOL", "input.value": "hello"}, 2)
    embedding = span({"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "e"}, 3)
    with pytest.raises(RecordError, match="1 telemetry of no model call"):
        read_spans(tmp_path, tool, embedding)


def test_a_call_whose_messages_were_not_captured_is_not_called_no_model_call(tmp_path):
    unread = {"openinference.span.kind": "LLM", "llm.model_name": "o3"}
    with pytest.raises(RecordError, match="1 model call without a user message"):
        read_spans(tmp_path, span(unread))


def rows_of_phoenix(nested):
    messages = [{"message": {"role": role, "content": text}} for role, text in SAID]
    answer = [{"message": {"role": "assistant", "content": "it is so"}}]
    llm = {"model_name": TURN[3], "input_messages": messages, "output_messages": answer,
           "token_count": {"prompt": 12, "completion": 7}}  # fmt: skip
    common = {"name": "ChatCompletion", "span_kind": "LLM", "status_code": "OK",
              "start_time": "2026-09-01T10:00:00+00:00",
              "end_time": "2026-09-01T10:00:01.500000+00:00"}  # fmt: skip
    if nested:
        attributes = {"llm": llm, "session": {"id": "c1"}}
        return common | {"context": {"trace_id": "t", "span_id": "s"}, "attributes": attributes}
    flat = {f"attributes.llm.{name}": value for name, value in llm.items()}
    return common | flat | {"context.trace_id": "t", "context.span_id": "s",
                            "attributes.session.id": "c1"}  # fmt: skip


@pytest.mark.parametrize("nested", [True, False], ids=["json", "data frame"])
def test_a_span_that_is_a_row_gives_the_same_turn(tmp_path, nested):
    _, (turn,) = read(tmp_path, [rows_of_phoenix(nested)])
    assert facts_of(turn) == TURN
    assert turn["duration_ms"] == 1500


def test_the_console_exporters_spans_are_read(tmp_path):
    row = {"name": "chat", "context": {"trace_id": "0x1", "span_id": "0x2", "trace_state": "[]"},
           "start_time": "2026-09-01T10:00:00.000000Z", "status": {"status_code": "ERROR"},
           "attributes": ai_sdk(), "events": [], "resource": {}}  # fmt: skip
    _, (turn,) = read(tmp_path, [row])
    assert facts_of(turn) == TURN
    assert turn["response_type"] == "failed"


def test_an_image_alone_in_a_span_keeps_its_place(tmp_path):
    image = {"role": "user", "parts": [{"type": "uri", "modality": "image", "uri": "x"}]}
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "A dog"}]}
    asked = {"role": "user", "parts": [{"type": "text", "content": "which breed?"}]}
    spans = [
        {"traceId": f"{n:032x}", "spanId": f"{n:016x}", "startTimeUnixNano": str(n * 10**18),
         "attributes": [
            {"key": "gen_ai.request.model", "value": {"stringValue": "o3"}},
            {"key": "gen_ai.conversation.id", "value": {"stringValue": "c1"}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(said)}},
            {"key": "gen_ai.output.messages", "value": {"stringValue": json.dumps([answer])}}]}
        for n, said in ((1, [image]), (2, [image, answer, asked]))
    ]  # fmt: skip
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
    report = ingest([path], tmp_path / "turns.parquet")
    (turn,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (turn["turn_index"], turn["user_message"]) == (2, "which breed?")
    assert report.dropped == {WITHOUT_TEXT: 1}
