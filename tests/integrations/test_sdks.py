"""OpenAI's and Anthropic's own clients, unmodified, through the gateway."""

import asyncio

import anthropic
import openai
import pytest

from tests.upstream import Cut, InPieces, Status, error_event

pytestmark = pytest.mark.slow

HARD, EASY = "prove it", "hello"
FUNCTION = {"name": "read", "description": "Reads.", "parameters": {"type": "object"}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
URL = f"data:image/png;base64,{PIXEL}"


@pytest.fixture(scope="module")
def gpt(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(served):
    with anthropic.Anthropic(base_url=served.url, api_key="k", max_retries=0) as client:
        yield client


def user(content):
    return [{"role": "user", "content": content}]


def test_chat_completions_call_tools_and_take_their_results(gpt):
    tools = [{"type": "function", "function": FUNCTION}]
    asked = user("use the tool and prove it")
    with gpt.chat.completions.stream(model="turnout", messages=asked, tools=tools) as stream:
        called = stream.get_final_completion().choices[0].message
    assert called.tool_calls[0].function.name == "read"
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "done"}
    again = [*asked, called.to_dict(), result]
    answer = gpt.chat.completions.create(model="turnout", messages=again, tools=tools)
    assert answer.choices[0].message.content == "from deep-1 ✓"


def test_responses_call_tools_and_take_their_results(gpt):
    tools = [{"type": "function", **FUNCTION}]
    with gpt.responses.stream(
        model="turnout", input="use the tool and prove it", tools=tools
    ) as stream:
        called = stream.get_final_response().output[0]
    assert (called.name, called.arguments) == ("read", '{"path": "a.py"}')
    result = {"type": "function_call_output", "call_id": called.call_id, "output": "done"}
    given = [*user("use the tool and prove it"), called.to_dict(), result]
    answer = gpt.responses.create(model="turnout", input=given, tools=tools)
    assert answer.output_text == "from deep-1 ✓"


def test_messages_call_tools_and_take_their_results(claude):
    tools = [{"name": "read", "input_schema": {"type": "object"}}]
    asked = {"model": "turnout", "max_tokens": 100, "tools": tools}
    first = user("use the tool and prove it")
    with claude.messages.stream(**asked, messages=first, thinking={"type": "adaptive"}) as stream:
        called = stream.get_final_message()
    assert [block.type for block in called.content] == ["thinking", "text", "tool_use"]
    assert called.content[0].signature == "c2ln"
    history = [{"role": "assistant", "content": [block.to_dict() for block in called.content]}]
    result = {"type": "tool_result", "tool_use_id": called.content[2].id, "content": "done"}
    answer = claude.messages.create(**asked, messages=[*first, *history, *user([result])])
    assert answer.content[0].text == "from deep-1 ✓"


@pytest.mark.parametrize("words", [[], [EASY]], ids=["image-alone", "image-with-words"])
def test_images_pass_in_every_protocol(gpt, claude, served, words):
    model = "quick-1" if words else "deep-1"  # without words: the default class
    chat = [{"type": "image_url", "image_url": {"url": URL}}]
    chat += [{"type": "text", "text": each} for each in words]
    answer = gpt.chat.completions.create(model="turnout", messages=user(chat))
    assert answer.choices[0].message.content == f"from {model} ✓"
    parts = [{"type": "input_image", "image_url": URL, "detail": "auto"}]
    parts += [{"type": "input_text", "text": each} for each in words]
    assert gpt.responses.create(model="turnout", input=user(parts)).output_text == f"from {model} ✓"
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    blocks = [{"type": "image", "source": source}, *({"type": "text", "text": w} for w in words)]
    said = claude.messages.create(model="turnout", max_tokens=9, messages=user(blocks))
    assert said.content[0].text == f"from {model} ✓"
    assert served.upstream.requests[-1].json["messages"][0]["content"] == blocks


def test_choices_arrive_apart(gpt):
    asked = {"model": "turnout", "messages": user(HARD), "n": 2}
    assert len(gpt.chat.completions.create(**asked).choices) == 2
    with gpt.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["from deep-1 ✓"] * 2


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_stream_in_single_bytes_is_read_by_both_clients(gpt, claude, served, end):
    served.upstream.behaviours["*"] = InPieces(1, end)
    stream = gpt.chat.completions.create(model="turnout", messages=user(EASY), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "from quick-1 ✓"
    with claude.messages.stream(model="turnout", max_tokens=9, messages=user(EASY)) as said:
        assert "".join(said.text_stream) == "from quick-1 ✓"


def test_async_clients_at_the_same_time_each_get_their_own_answer(served):
    async def both():
        async with (
            openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k", max_retries=0) as gpt,
            anthropic.AsyncAnthropic(base_url=served.url, api_key="k", max_retries=0) as claude,
        ):
            words = [HARD, EASY] * 4
            asked = [gpt.responses.create(model="turnout", input=each) for each in words]
            asked += [
                claude.messages.create(model="turnout", max_tokens=9, messages=user(each))
                for each in words
            ]
            answers = await asyncio.gather(*asked)
        return [answer.model for answer in answers]

    assert asyncio.run(both()) == ["deep-1", "quick-1"] * 8


def test_a_vendors_refusal_is_raised_as_the_client_knows_it(gpt, claude, served):
    served.upstream.behaviours["*"] = Status(429, "too fast", retry_after="7")
    with pytest.raises(openai.RateLimitError, match="too fast") as limited:
        gpt.chat.completions.create(model="turnout", messages=user(EASY))
    assert limited.value.response.headers["retry-after"] == "7"
    served.upstream.behaviours["*"] = Status(400, "not so")
    with pytest.raises(anthropic.BadRequestError, match="not so"):
        claude.messages.create(model="turnout", max_tokens=9, messages=user(EASY))


def test_an_unknown_model_is_raised_as_the_client_knows_it(gpt, claude):
    with pytest.raises(openai.NotFoundError) as missing:
        gpt.responses.create(model="gpt-9", input=EASY)
    assert missing.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="gpt-9", max_tokens=9, messages=user(EASY))


@pytest.mark.parametrize("behaviour", [Cut(), error_event], ids=["cut", "error-event"])
def test_a_stream_that_fails_is_raised_in_every_protocol(gpt, claude, served, behaviour):
    served.upstream.behaviours["*"] = behaviour
    with pytest.raises(openai.APIError):
        list(gpt.chat.completions.create(model="turnout", messages=user(EASY), stream=True))
    events = list(gpt.responses.create(model="turnout", input=EASY, stream=True))
    assert (events[-1].type, events[-1].response.status) == ("response.failed", "failed")
    with (
        pytest.raises(anthropic.APIStatusError),
        claude.messages.stream(model="turnout", max_tokens=9, messages=user(EASY)) as stream,
    ):
        stream.get_final_message()


def test_models_are_listed_and_fetched_by_both_clients(gpt, claude):
    assert "turnout" in [model.id for model in gpt.models.list()]
    assert gpt.models.retrieve("turnout").id == "turnout"
    assert "claude-turnout" in [model.id for model in claude.models.list()]
    assert claude.models.retrieve("claude-turnout").type == "model"
