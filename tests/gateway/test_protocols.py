"""Official clients of all three protocols, unmodified, through the gateway."""

import asyncio
import json

import anthropic
import httpx
import openai
import pytest

from tests.gateway.conftest import user
from tests.gateway.upstream import PROTOCOLS, Chat, Messages, Responses

pytestmark = pytest.mark.slow

HARD, EASY = "prove it", "hello"
PATHS = [p.path for p in PROTOCOLS]


def body_of(protocol, text, **more):
    if protocol is Responses:
        return {"model": "turnout", "input": [user(text)], **more}
    return {"model": "turnout", "messages": [user(text)], **more}


def openai_client(served, cls=openai.OpenAI):
    return cls(base_url=f"{served.url}/v1", api_key="sk-caller", max_retries=0)


def anthropic_client(served, cls=anthropic.Anthropic):
    return cls(base_url=served.url, api_key="sk-caller", max_retries=0)


def test_responses_are_answered_whole_and_streamed(served):
    with openai_client(served) as client:
        whole = client.responses.create(model="turnout", input=HARD)
        with client.responses.stream(model="turnout", input=EASY) as stream:
            streamed = stream.get_final_response()
    assert (whole.output_text, streamed.output_text) == ("from deep-1", "from quick-1")
    assert whole.usage.output_tokens_details.reasoning_tokens == 3


def test_messages_are_answered_whole_and_streamed(served):
    with anthropic_client(served) as client:
        asked = {"model": "turnout", "max_tokens": 9}
        whole = client.messages.create(messages=[user(HARD)], **asked)
        with client.messages.stream(messages=[user(EASY)], **asked) as stream:
            streamed = stream.get_final_message()
    assert whole.content[0].text == "from deep-1"
    assert streamed.content[0].text == "from quick-1"
    assert streamed.usage.cache_read_input_tokens == 2


def test_async_clients_are_served_at_the_same_time(served):
    async def asked():
        openai_one = openai_client(served, openai.AsyncOpenAI)
        anthropic_one = anthropic_client(served, anthropic.AsyncAnthropic)
        async with openai_one, anthropic_one:
            return await asyncio.gather(
                openai_one.chat.completions.create(model="turnout", messages=[user(HARD)]),
                openai_one.responses.create(model="turnout", input=EASY),
                anthropic_one.messages.create(model="turnout", max_tokens=9, messages=[user(HARD)]),
            )

    chat, response, message = asyncio.run(asked())
    assert chat.choices[0].message.content == "from deep-1"
    assert response.output_text == "from quick-1"
    assert message.content[0].text == "from deep-1"


def test_tokens_are_counted_by_the_upstream_and_nothing_is_decided(served):
    with anthropic_client(served) as client:
        counted = client.messages.count_tokens(model="turnout", messages=[user(HARD)])
    assert counted.input_tokens == 42
    (line,) = served.lines()
    assert (line["kind"], line["p_reasoning"], line["response_type"]) == (
        "token count", None, "success",
    )  # fmt: skip


def test_embeddings_go_to_the_model_that_they_name(served):
    with openai_client(served) as client:
        assert client.embeddings.create(model="quick-1", input="x").model == "quick-1"
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="turnout", input="x")


def test_models_have_the_form_of_the_client_that_asks(served):
    with openai_client(served) as client:
        assert [m.id for m in client.models.list()] == ["turnout", "deep-1", "quick-1"]
        assert client.models.retrieve("deep-1").id == "deep-1"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")
    with anthropic_client(served) as client:
        listed = [m.id for m in client.models.list(limit=1000)]
        assert listed == ["turnout", "claude-turnout", "deep-1", "quick-1"]
        assert client.models.retrieve("claude-turnout").display_name


def test_codex_reads_a_list_that_leaves_its_own_as_it_is(served):
    listed = httpx.get(f"{served.url}/v1/models", params={"client_version": "0.171.0"}).json()
    assert listed["models"] == []
    assert listed["data"][0]["id"] == "turnout"
    assert "models" not in httpx.get(f"{served.url}/v1/models").json()


def test_the_alias_that_claude_code_lists_is_routed(served):
    with anthropic_client(served) as client:
        answer = client.messages.create(model="claude-turnout", max_tokens=9, messages=[user(HARD)])
    assert answer.content[0].text == "from deep-1"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_arrives_byte_for_byte_as_the_upstream_sends_it(served, protocol):
    body = body_of(protocol, EASY, stream=True, stream_options={"include_usage": True})
    got = httpx.post(f"{served.url}{protocol.path}", json=body).content
    expected = protocol.begin("quick-1", "a1")
    expected += protocol.piece("quick-1", "from ") + protocol.piece("quick-1", "quick-1")
    expected += b"".join(protocol.end("quick-1", "from quick-1", "a1", body))
    assert got == expected


def test_usage_that_the_caller_did_not_ask_for_is_asked_for_and_taken_out(served):
    got = httpx.post(f"{served.url}{Chat.path}", json=body_of(Chat, EASY, stream=True)).content
    assert served.upstream.bodies[0]["stream_options"] == {"include_usage": True}
    assert b"usage" not in got
    assert got.endswith(b"data: [DONE]\n\n")
    assert served.lines()[0]["prompt_tokens"] == 7


@pytest.mark.parametrize(
    "media_type", ["Text/Event-Stream; charset=utf-8", "application/x-ndjson", "text/plain"]
)
def test_a_stream_is_passed_on_as_it_arrives_whatever_it_is_called(served, media_type):
    body = body_of(Chat, f"stream as {media_type}", stream=True)
    with httpx.stream("POST", f"{served.url}{Chat.path}", json=body, timeout=20) as response:
        chunks = response.iter_bytes()
        assert next(chunks)
        served.upstream.release()
        assert b"[DONE]" in b"".join(chunks)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_body_is_spliced_and_not_encoded_anew(served, protocol):
    raw = json.dumps(body_of(protocol, EASY)).encode()[:-1] + (
        b' , "x" : "\\ud83d",  "big": 123456789012345678901234567890, "huge": 1e999, '
        b'"twice": 1, "twice": 2 , "n": 1.0e+2}'
    )
    response = httpx.post(
        f"{served.url}{protocol.path}", content=raw, headers={"content-type": "application/json"}
    )
    assert response.status_code == 200
    assert served.upstream.raw[0] == raw.replace(b'"turnout"', b'"quick-1"')


def test_effort_is_said_as_each_protocol_says_it(tmp_path):
    from tests.gateway.conftest import gateway_of
    from turnout.gateway.options import GatewayOptions, Target, Upstream

    def options(url, journal):
        return GatewayOptions(
            upstreams={"local": Upstream(url=f"{url}/v1")},
            targets={
                "reasoning": Target(upstream="local", model="m", effort="high"),
                "fast": Target(upstream="local", model="m", effort="none", drop=("temperature",)),
            },
        )

    with gateway_of(tmp_path, options) as served:
        for protocol in PROTOCOLS:
            for text in (HARD, EASY):
                body = body_of(protocol, text, temperature=1)
                httpx.post(f"{served.url}{protocol.path}", json=body)
    chat_hard, chat_easy, resp_hard, resp_easy, mess_hard, mess_easy = served.upstream.bodies
    assert (chat_hard["reasoning_effort"], chat_easy["reasoning_effort"]) == ("high", "none")
    assert (resp_hard["reasoning"], resp_easy["reasoning"]) == (
        {"effort": "high"}, {"effort": "none"},
    )  # fmt: skip
    assert mess_hard["output_config"] == {"effort": "high"}
    assert mess_easy["thinking"] == {"type": "disabled"}
    assert "temperature" in chat_hard
    assert "temperature" not in chat_easy


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([{"type": "image_url", "image_url": {"url": "data:,"}}], id="image"),
        pytest.param([{"type": "input_audio", "input_audio": {"data": ""}}], id="audio"),
        pytest.param("   ", id="white space"),
        pytest.param(["a list to prove", "of strings"], id="strings"),
        pytest.param(None, id="null"),
        pytest.param({"an": "object"}, id="object"),
    ],
)
def test_what_the_router_cannot_read_is_forwarded_to_the_default_class(served, content):
    response = served.post([{"role": "user", "content": content}])
    assert response.status_code == 200
    assert response.headers["x-turnout-class"] == "reasoning"
    assert served.upstream.bodies[0]["messages"][0]["content"] == content


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "be brief"}],
        [{"role": "developer", "content": "be brief"}],
        [{"role": "assistant", "content": "Once upon"}],
        [{"role": "robot", "content": "x"}],
        [],
    ],
)
def test_requests_without_a_persons_words_are_forwarded(served, messages):
    response = served.post([*messages, {"role": "system", "content": "x"}])
    assert response.status_code == 200
    assert response.headers["x-turnout-class"] == "reasoning"


def test_a_system_prompt_alone_stays_on_its_conversations_class(served):
    named = {"x-turnout-conversation-id": "c1"}
    served.post([user("hello")], headers=named)
    response = served.post([{"role": "system", "content": "be brief"}], headers=named)
    assert response.headers["x-turnout-class"] == "fast"


@pytest.mark.parametrize("model", ["turnout", "auto", None])
def test_an_endpoint_that_is_not_routed_asks_for_a_models_name(served, model):
    response = httpx.post(f"{served.url}/v1/embeddings", json={"model": model, "input": "x"})
    assert response.status_code == 404
    assert "not routed" in response.json()["error"]["message"]


def test_errors_have_the_form_of_the_protocol(served):
    with anthropic_client(served) as client, pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="gpt-9", max_tokens=1, messages=[user("x")])
    assert caught.value.body["error"]["type"] == "not_found_error"
    with openai_client(served) as client, pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="gpt-9", input="x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_that_breaks_ends_as_its_protocol_says(served, protocol):
    errors = (openai.APIError, anthropic.APIError)
    with pytest.raises(errors, match="broke off"):
        if protocol is Messages:
            with anthropic_client(served) as client:
                asked = {"model": "turnout", "max_tokens": 9, "messages": [user("break off")]}
                list(client.messages.create(stream=True, **asked))
        elif protocol is Chat:
            with openai_client(served) as client:
                body = {"model": "turnout", "messages": [user("break off")], "stream": True}
                list(client.chat.completions.create(**body))
        else:
            with openai_client(served) as client:
                events = list(
                    client.responses.create(model="turnout", input="break off", stream=True)
                )
            assert events[-1].type == "response.failed"
            raise openai.APIError(events[-1].response.error.message, None, body=None)
    assert served.lines()[0]["response_type"] == "failed"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("asked", ["fail in the stream", "end early"])
def test_an_answer_without_its_last_event_or_with_an_error_is_a_failure(served, protocol, asked):
    httpx.post(f"{served.url}{protocol.path}", json=body_of(protocol, asked, stream=True))
    assert served.lines()[0]["response_type"] == "failed"
