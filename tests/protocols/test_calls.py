"""A request as it reaches a gateway: its kind, its turns and the conversation it belongs to."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.protocols import WIRE_FORMATS, JsonBody, chat, messages, read_call, responses
from turnout.protocols.conversations import CONVERSATION_HEADER, MAX_ID_CHARS

UUID = "0b4f8a4e-1c2d-4e5f-8a9b-0123456789ab"
CODEX = {"user-agent": "codex_cli_rs/0.171.0"}


def call(body, headers=None, wire_format=chat, **more):
    return read_call(
        wire_format, headers or {}, JsonBody.from_bytes(json.dumps(body).encode()), **more
    )


def user(words):
    return {"role": "user", "content": words}


@pytest.mark.parametrize(
    ("headers", "body", "value", "rule"),
    [
        pytest.param({CONVERSATION_HEADER: "c7", "x-litellm-session-id": "l"}, {}, "c7",
                     CONVERSATION_HEADER, id="ours-first"),
        pytest.param({"x-session-id": "s", "x-litellm-session-id": "l"}, {}, "l",
                     "x-litellm-session-id", id="litellm"),
        pytest.param({"x-claude-code-session-id": "s"}, {"session_id": "b"}, "s",
                     "x-claude-code-session-id", id="claude-code"),
        pytest.param({"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"}, {}, "s/a",
                     "x-claude-code-session-id", id="claude-code-sub-agent"),
        pytest.param({"session-id": UUID, **CODEX}, {}, UUID, "session-id", id="codex"),
        pytest.param({"session_id": UUID, "originator": "codex_exec"}, {}, UUID, "session_id",
                     id="codex-older"),
        pytest.param({"session-id": UUID, "thread-id": "t", "x-codex-parent-thread-id": UUID,
                      **CODEX}, {}, f"{UUID}/t", "session-id", id="codex-sub-agent"),
        pytest.param({"session-id": UUID, "thread-id": "t", **CODEX}, {}, UUID, "session-id",
                     id="codex-thread-of-a-person"),
        pytest.param({"session-id": "s"}, {"session_id": "b"}, "b", "session_id", id="not-codex"),
        pytest.param({"x-acme-session-id": "s", "x-session-id": "t"}, {}, "s",
                     "x-acme-session-id", id="any-vendor"),
        pytest.param({"x-session-affinity": "s"}, {}, "s", "x-session-affinity", id="opencode"),
        pytest.param({}, {"metadata": {"conversation_id": "m"}}, "m", "metadata.conversation_id",
                     id="metadata"),
        pytest.param({}, {"metadata": {"user_id": json.dumps({"session_id": "s"})}}, "s",
                     "metadata.user_id", id="user-id-json"),
        pytest.param({}, {"metadata": {"user_id": f"user_1_account__session_{UUID}"}}, UUID,
                     "metadata.user_id", id="user-id-older"),
        pytest.param({}, {"conversation": {"id": "conv_1"}}, "conv_1", "conversation",
                     id="conversation"),
        pytest.param({}, {"prompt_cache_key": UUID}, UUID, "prompt_cache_key", id="cache-key"),
        pytest.param({}, {"previous_response_id": "resp_1"}, "resp_1", "previous_response_id",
                     id="previous-response"),
    ],
)  # fmt: skip
def test_the_first_id_that_the_client_sends_names_the_conversation(headers, body, value, rule):
    conversation = call(body, headers).conversation
    assert (conversation.value, conversation.rule) == (value, rule)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"metadata": {"user_id": "anna"}, "user": "anna"}, id="a-person"),
        pytest.param({"metadata": {"user_id": "{broken"}}, id="broken"),
        pytest.param({"prompt_cache_key": "support-bot-v2"}, id="cache-key-of-all-users"),
    ],
)
def test_what_names_a_person_or_a_program_names_no_conversation(body):
    assert call(body).conversation is None


@pytest.mark.parametrize("value", ["会話-1", "a b", "a\r\nb", "x" * (MAX_ID_CHARS + 1), "a/b"])
def test_an_id_given_for_turnout_that_does_not_fit_is_refused(value):
    for headers, body in (
        ({CONVERSATION_HEADER: value}, {}),
        ({}, {"metadata": {"conversation_id": value}}),
    ):
        with pytest.raises(RecordError, match=r"conversation.id: found .*; expected 1 to 128"):
            call(body, headers)


def test_a_number_is_an_id_too():
    assert call({"metadata": {"conversation_id": 4471}}).conversation.value == "4471"


@pytest.mark.parametrize("value", [["a"], {"a": 1}, True, 1.5])
def test_an_id_given_for_turnout_that_is_no_text_is_refused(value):
    with pytest.raises(RecordError, match=r"metadata\.conversation_id: found .*; expected text"):
        call({"metadata": {"conversation_id": value}})


@given(st.text(min_size=1))
def test_any_other_id_is_bounded_and_fit_for_a_header(value):
    conversation = call({}, {"x-session-id": value, "x-claude-code-agent-id": value}).conversation
    assert len(conversation.value) <= 2 * MAX_ID_CHARS + 1
    assert conversation.value.isascii()
    assert conversation.value.isprintable()


def test_ids_that_do_not_fit_stay_apart():
    ids = {call({}, {"x-session-id": "x" * 1000 + end}).conversation.value for end in "ab"}
    assert len(ids) == 2


METADATA = {"x-codex-turn-metadata": json.dumps({"turn_id": "t1", "window_number": 3})}
SUMMARY = "This session is being continued from a previous conversation. We fixed it."


@pytest.mark.parametrize(
    ("headers", "body", "boundary"),
    [
        pytest.param({}, {"messages": [user("hi")]}, (False, None), id="none"),
        pytest.param({"x-claude-code-context-compacted": "auto"}, {}, (True, None), id="header"),
        pytest.param({}, {"messages": [user(SUMMARY), user("go on")]}, (True, None), id="summary"),
        pytest.param(
            {},
            {
                "messages": [
                    user(SUMMARY),
                    user("go on"),
                    {"role": "assistant", "content": "ok"},
                    user("and?"),
                ]
            },
            (False, None),
            id="turn-after-the-summary",
        ),
        pytest.param(METADATA, {}, (False, 3), id="codex-metadata"),
        pytest.param({"x-codex-window-id": f"{UUID}:2"}, {}, (False, 2), id="codex-window"),
        pytest.param({"x-codex-window-id": "broken:²"}, {}, (False, None), id="broken"),
        pytest.param({}, {"input": [{"type": "compaction"}]}, (True, None), id="compaction-item"),
    ],
)
def test_what_a_client_says_of_its_context_is_known(headers, body, boundary):
    read = call(body, headers).boundary
    assert (read.is_compacted, read.window) == boundary


def test_the_clients_own_id_of_a_turn_is_known():
    assert call({}, {"x-claude-code-prompt-id": "p1"}).turn_key == "p1"
    assert call({}, METADATA).turn_key == "t1"
    assert call({}).turn_key is None


def test_a_request_of_each_format_gives_the_same_call():
    asked = [user("Why?"), {"role": "assistant", "content": "Because."}, user("And how?")]
    bodies = {"chat": {"messages": asked}, "messages": {"messages": asked, "system": "x"},
              "responses": {"input": asked}}  # fmt: skip
    for name, body in bodies.items():
        read = call({**body, "model": "m", "stream": True}, wire_format=WIRE_FORMATS[name])
        assert [turn.user_message for turn in read.turns] == ["Why?", "And how?"]
        assert (read.kind, read.request.model, read.request.streamed) == ("turn", "m", True)


def test_a_token_count_is_no_turn():
    body = {"messages": [user("foo")]}
    assert call(body, wire_format=messages, is_token_count=True).kind == "token count"


@pytest.mark.parametrize(
    ("wire_format", "body", "effort"),
    [
        pytest.param(chat, {"reasoning_effort": "low"}, "low", id="chat"),
        pytest.param(chat, {"reasoning": {"effort": "none"}}, "none", id="openrouter"),
        pytest.param(chat, {"thinking": {"type": "disabled"}}, "none", id="deepseek"),
        pytest.param(chat, {"chat_template_kwargs": {"enable_thinking": False}}, "none", id="vllm"),
        pytest.param(responses, {"reasoning": {"effort": "high"}}, "high", id="responses"),
        pytest.param(responses, {"reasoning": {"effort": "high"}, "input": [
            {"type": "configuration_update", "reasoning": {"effort": "low"}}]}, "low",
            id="responses-updated"),
        pytest.param(messages, {"output_config": {"effort": "max"}}, "max", id="messages"),
        pytest.param(messages, {"output_config": {"effort": "max"}, "messages": [
            {"role": "system", "content": [], "output_config": {"effort": "low"}}]}, "low",
            id="messages-updated"),
        pytest.param(messages, {"thinking": {"type": "disabled"}}, "none", id="messages-off"),
        pytest.param(messages, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "enabled",
                     id="messages-budget"),
        pytest.param(chat, {}, None, id="chat-silent"),
        pytest.param(responses, {}, None, id="responses-silent"),
        pytest.param(messages, {}, None, id="messages-silent"),
    ],
)  # fmt: skip
def test_the_callers_own_effort_is_known(wire_format, body, effort):
    assert call(body, wire_format=wire_format).request.effort == effort


@pytest.mark.parametrize("name", WIRE_FORMATS)
@pytest.mark.parametrize("effort", ["none", "high"])
def test_an_effort_asked_for_is_read_back(name, effort):
    wire_format = WIRE_FORMATS[name]
    parameters = wire_format.effort_parameters(effort)
    assert set(parameters) <= set(wire_format.EFFORT_NAMES)
    assert call(parameters, wire_format=wire_format).request.effort == effort


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_token_counts_are_asked_for_only_where_they_would_be_missing(name):
    wire_format = WIRE_FORMATS[name]
    assert wire_format.usage_parameters({}) == {}
    added = wire_format.usage_parameters({"stream": True})
    assert bool(added) == (name == "chat")
    assert wire_format.usage_parameters({"stream": True, **added}) == {}


def test_half_an_emoji_reaches_no_reader():
    read = call({"messages": [user("half \ud83d")]})
    assert read.turns[0].user_message == "half \ufffd"


KEYS = ["messages", "input", "role", "content", "type", "text", "metadata", "tools", "user",
        "output_config", "thinking", "reasoning", "response_format", "stream_options"]  # fmt: skip
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(KEYS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
)
HEADER_NAMES = ["x-codex-turn-metadata", "x-codex-window-id", "x-claude-code-request-class",
                "x-claude-code-prompt-id", "user-agent", "session-id"]  # fmt: skip


@pytest.mark.parametrize("name", WIRE_FORMATS)
@settings(max_examples=50)
@given(
    body=st.dictionaries(st.sampled_from(KEYS), ANY),
    headers=st.dictionaries(st.sampled_from(HEADER_NAMES), st.text()),
)
def test_no_request_makes_reading_fail(name, body, headers):
    call(body, headers, WIRE_FORMATS[name])
    WIRE_FORMATS[name].usage_parameters(body)


def test_many_messages_without_an_answer_are_one_turn():
    read = call({"messages": [user("hello")] * 20_000})
    assert [turn.user_message for turn in read.turns] == ["\n\n".join(["hello"] * 20_000)]
