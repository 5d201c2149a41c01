"""The upstream double speaks so that official clients understand it, and misbehaves as asked."""

import socket
import time

import anthropic
import httpx
import openai
import pytest

from tests.upstream import (
    Cut,
    InPieces,
    Status,
    Upstream,
    endless,
    error_event,
    garbage,
    hang_up,
    lying_length,
    silent,
)
from turnout.protocols import WIRE_FORMATS, AnswerReader

pytestmark = pytest.mark.slow

TOOL = {"name": "read", "description": "Reads.", "parameters": {"type": "object"}}
ASKED = [{"role": "user", "content": "Why?"}]
WITH_TOOL = [{"role": "user", "content": "use the tool"}]
PATHS = {"chat": "chat/completions", "responses": "responses", "messages": "messages"}


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as running:
        yield running


@pytest.fixture(autouse=True)
def behaves_well_again(upstream):
    yield
    upstream.behaviours.clear()


@pytest.fixture(scope="module")
def openai_client(upstream):
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(upstream):
    with anthropic.Anthropic(base_url=upstream.url, api_key="k", max_retries=0) as client:
        yield client


def test_the_openai_client_reads_its_chat_answers(openai_client):
    tools = [{"type": "function", "function": TOOL}]
    create = openai_client.chat.completions.create
    assert create(model="m", messages=ASKED).choices[0].message.content == "from m ✓"
    whole = create(model="m", messages=WITH_TOOL, tools=tools)
    assert whole.choices[0].message.tool_calls[0].function.name == "read"
    with openai_client.chat.completions.stream(
        model="m", messages=WITH_TOOL, tools=tools, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"path": "a.py"}'
    assert final.usage.prompt_tokens_details.cached_tokens == 40


def test_the_openai_client_reads_its_responses(openai_client):
    assert openai_client.responses.create(model="m", input="Why?").output_text == "from m ✓"
    with openai_client.responses.stream(model="m", input="Why?") as stream:
        final = stream.get_final_response()
    assert (final.output_text, final.usage.input_tokens) == ("from m ✓", 57)


def test_the_anthropic_client_reads_its_messages(anthropic_client):
    asked = {"model": "m", "max_tokens": 9, "messages": WITH_TOOL,
             "tools": [{"name": "read", "input_schema": {"type": "object"}}]}  # fmt: skip
    whole = anthropic_client.messages.create(**asked)
    assert [block.type for block in whole.content] == ["text", "tool_use"]
    with anthropic_client.messages.stream(**asked, thinking={"type": "adaptive"}) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.content[2].input, final.usage.output_tokens) == ({"path": "a.py"}, 9)
    counted = anthropic_client.messages.count_tokens(model="m", messages=ASKED)
    assert counted.input_tokens == 42


def post(upstream, protocol, **body):
    asked = {"input": "Why?"} if protocol == "responses" else {"messages": ASKED}
    url = f"{upstream.url}/v1/{PATHS[protocol]}"
    return httpx.stream("POST", url, json={"model": "m", **asked, **body}, timeout=10)


def read(upstream, protocol, **body):
    """The answer, through our own reader."""
    reader = AnswerReader(WIRE_FORMATS[protocol], streamed=body.get("stream", False))
    with post(upstream, protocol, **body) as response:
        for chunk in response.iter_raw():
            reader.feed(chunk)
    reader.close()
    return reader.answer()


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("streamed", [False, True])
def test_our_reader_agrees_with_the_official_clients(upstream, protocol, streamed):
    upstream.behaviours["*"] = InPieces(7, b"\r\n") if streamed else []
    extra = {"stream_options": {"include_usage": True}} if protocol == "chat" else {}
    answer = read(upstream, protocol, stream=streamed, **extra)
    assert (answer.text, answer.model, answer.complete) == ("from m ✓", "m", True)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (57, 40, 8)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (9, 5)


@pytest.mark.parametrize("protocol", PATHS)
def test_an_error_event_and_garbage_are_no_complete_answer(upstream, protocol):
    upstream.behaviours["*"] = [error_event, garbage]
    failed = read(upstream, protocol, stream=True)
    assert (failed.failed, failed.error) == (True, "overloaded")
    assert not read(upstream, protocol, stream=True).complete


@pytest.mark.parametrize("behaviour", [Cut(), hang_up, lying_length])
def test_it_breaks_off(upstream, behaviour):
    upstream.behaviours["m"] = behaviour
    with pytest.raises(httpx.RemoteProtocolError):
        read(upstream, "chat", stream=behaviour != lying_length)


def test_it_refuses_as_often_as_asked(upstream):
    upstream.behaviours["m"] = [Status(429, retry_after="2")]
    with post(upstream, "messages") as refused:
        refused.read()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert read(upstream, "messages").complete


@pytest.mark.parametrize("behaviour", [silent, endless])
def test_it_notices_that_the_caller_leaves(upstream, behaviour):
    upstream.behaviours["m"] = behaviour
    address = upstream.url.removeprefix("http://").split(":")
    asked = b'{"model": "m", "messages": [], "stream": true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(asked)}\r\n\r\n"
    n_before = len(upstream.requests)
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall(head.encode() + asked)
        eventually(lambda: len(upstream.requests) > n_before)
    assert eventually(lambda: upstream.requests[-1].ended != "open")
    assert upstream.requests[-1].ended == "left"


def eventually(holds, seconds=10.0):
    """Wait for something that another thread does."""
    until = time.monotonic() + seconds
    while not (result := holds()) and time.monotonic() < until:
        time.sleep(0.01)
    return result
