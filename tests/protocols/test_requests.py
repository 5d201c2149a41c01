"""What clients send, shaped after their real requests: who speaks, and what kind it is."""

import json

import pytest

from turnout.protocols import KINDS, read_answer, read_request
from turnout.protocols.kinds import kind_of
from turnout.protocols.transcript import grouped

REMINDER = {"type": "text", "text": "<system-reminder>\nUse tabs.\n</system-reminder>"}
TOOLS = [{"name": "Read"}]


def text(words):
    return {"type": "text", "text": words}


def user(*content):
    return {"role": "user", "content": list(content)}


def claude_code(*messages, **more):
    return {"model": "turnout", "max_tokens": 9, "system": [text("x")], "tools": TOOLS,
            "messages": list(messages), "stream": True, **more}  # fmt: skip


def codex(*items, **more):
    return {"model": "turnout", "stream": True, "store": False, "input": list(items), **more}


def item(role, words):
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": words}]}


CALL = {"role": "assistant", "content": [text("Let me read it."),
        {"type": "tool_use", "id": "t", "name": "Read", "input": {}}]}  # fmt: skip
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "def f(): ..."}
ENVIRONMENT = item("user", "<environment_context>\n<cwd>/a</cwd>\n</environment_context>")


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        pytest.param(claude_code(user(REMINDER, text("Why?"), REMINDER)), ["Why?"], id="claude"),
        pytest.param(claude_code(user(text("Why?")), CALL, user(RESULT, REMINDER)), ["Why?"],
                     id="claude-tool-loop"),
        pytest.param(claude_code(user(text("Why?")), CALL, user(RESULT, text("and how?"))),
                     ["Why?", "and how?"], id="claude-words-beside-a-result"),
        pytest.param(codex(item("developer", "rules"), ENVIRONMENT, item("user", "Why?")),
                     ["Why?"], id="codex"),
        pytest.param({"model": "m", "input": "Why?"}, ["Why?"], id="responses-text"),
        pytest.param({"model": "m", "messages": [{"role": "user", "content": "Why?"}]}, ["Why?"],
                     id="chat"),
    ],
)  # fmt: skip
def test_only_what_a_person_wrote_makes_turns(body, turns):
    assert [turn.user_message for turn in grouped(read_request(body).messages)] == turns


QUOTED = "Conversation:\nUser: why?\nAI: because"
TASK = "### Task:\nGenerate {}.\n### Chat History:\n<chat_history>\nUSER: hi\n</chat_history>"
TITLE = {"format": {"type": "json_schema", "schema": {"properties": {"title": {}}}}}


def chat(words, **more):
    return {"model": "m", "messages": [{"role": "user", "content": words}], **more}


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        pytest.param(claude_code(user(text("Why?"))), {}, "turn", id="turn"),
        pytest.param(claude_code(user(text("Why?")), CALL, user(RESULT)), {}, "continuation",
                     id="tool-loop"),
        pytest.param(claude_code(user(REMINDER)), {}, "continuation", id="reminder-alone"),
        pytest.param(claude_code(user({"type": "image"})), {}, "turn", id="image-alone"),
        pytest.param(claude_code(user(text("delegated"))), {"x-claude-code-agent-id": "a"},
                     "sub-agent", id="claude-sub-agent"),
        pytest.param(claude_code(user(text("x"))), {"x-claude-code-request-class": "auxiliary"},
                     "auxiliary", id="claude-auxiliary"),
        pytest.param(claude_code(user(text("<session>Why?</session>")), tools=[]), {}, "title",
                     id="claude-title-by-words"),
        pytest.param(claude_code(user(text("Why?")), tools=[], output_config=TITLE), {}, "title",
                     id="claude-title-by-schema"),
        pytest.param(claude_code(user(text("<transcript>rm</transcript>")), tools=[]), {},
                     "permission check", id="claude-permission"),
        pytest.param(claude_code(user(text("CRITICAL: Respond with TEXT ONLY. Summarise."))), {},
                     "compaction", id="claude-compaction"),
        pytest.param(codex(item("user", "Why?")),
                     {"x-codex-turn-metadata": json.dumps({"thread_source": "thread_title"})},
                     "title", id="codex-title"),
        pytest.param(codex(item("user", "Why?")),
                     {"x-codex-turn-metadata": json.dumps({"request_kind": "compaction"})},
                     "compaction", id="codex-compaction"),
        *(pytest.param(codex(item("user", "Why?")),
                       {"x-codex-turn-metadata": json.dumps(
                           {"request_kind": "turn", "thread_source": source, "subagent_kind": kind}
                       )}, said, id=f"codex-{kind or source}")
          for source, kind, said in (
              ("user", None, "turn"), ("subagent", "thread_spawn", "sub-agent"),
              ("subagent", "review", "sub-agent"), ("subagent", "guardian", "permission check"),
              ("guardian_review", None, "permission check"),
              ("memory_consolidation", None, "auxiliary"), ("subagent", ["?"], "sub-agent"),
          )),
        pytest.param(codex(item("user", "Why?")), {"x-openai-subagent": "collab_spawn"},
                     "sub-agent", id="codex-header-alone"),
        pytest.param(codex(item("user", "Generate a concise, single-line task title of at most 36 "
                                        "characters.")), {}, "title", id="codex-title-by-words"),
        pytest.param(codex(item("user", "The following is the Codex agent history whose request "
                                        "action you are assessing.")), {}, "permission check",
                     id="codex-guardian-by-words"),
        pytest.param(codex(item("user", "Why?")), {"x-codex-turn-metadata": "{broken"}, "turn",
                     id="codex-broken-metadata"),
        pytest.param(chat(TASK.format("1-3 broad tags")), {}, "tags", id="open-webui-tags"),
        pytest.param(chat(TASK.format("a concise title")), {}, "title", id="open-webui-title"),
        pytest.param(chat(TASK.format("3-5 relevant follow-up questions")), {}, "follow-ups",
                     id="open-webui-follow-ups"),
        pytest.param(chat(f"Provide a concise title for the conversation.\n{QUOTED}"), {},
                     "title", id="librechat-title"),
        pytest.param(chat("### Task:\nWrite a title page in LaTeX."), {}, "turn",
                     id="a-person-writes-the-same-heading"),
        pytest.param(chat("Write a short title for this conversation."), {}, "turn", id="a-person"),
        pytest.param({"model": "m", "messages": []}, {}, "auxiliary", id="nothing"),
    ],
)  # fmt: skip
def test_the_kind_of_a_request_is_known(body, headers, kind):
    assert kind in KINDS
    assert kind_of(read_request(body), headers) == kind


@pytest.mark.parametrize(
    ("body", "said", "tools", "tokens"),
    [
        pytest.param(
            {"choices": [{"message": {"content": "Because.", "tool_calls": [
                {"function": {"name": "run"}}]}}],
             "usage": {"prompt_tokens": 50, "completion_tokens": 7,
                       "completion_tokens_details": {"reasoning_tokens": 5},
                       "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 8}}},
            "Because.", ("run",), (50, 7, 5, 40, 8), id="chat",
        ),
        pytest.param(
            {"output": [{"type": "reasoning"}, {"type": "message", "role": "assistant",
             "content": [{"type": "output_text", "text": "Because."}]},
             {"type": "function_call", "name": "run"}],
             "usage": {"input_tokens": 50, "output_tokens": 7,
                       "output_tokens_details": {"reasoning_tokens": 5},
                       "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 8}}},
            "Because.", ("run",), (50, 7, 5, 40, 8), id="responses",
        ),
        pytest.param(
            {"type": "message", "content": [{"type": "thinking", "thinking": "hm"},
             text("Because."), {"type": "tool_use", "name": "run"}],
             "usage": {"input_tokens": 2, "output_tokens": 7, "cache_read_input_tokens": 40,
                       "cache_creation_input_tokens": 8,
                       "output_tokens_details": {"thinking_tokens": 5}}},
            "Because.", ("run",), (50, 7, 5, 40, 8), id="messages-add-up-their-input",
        ),
    ],
)  # fmt: skip
def test_answers_of_every_format_say_the_same(body, said, tools, tokens):
    answer = read_answer(body)
    usage = answer.usage
    assert (answer.text, answer.tools, answer.failed) == (said, tools, False)
    assert tokens == (
        usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens,
        usage.cached_tokens, usage.cache_write_tokens,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"error": {"message": "overloaded"}}, id="openai"),
        pytest.param({"type": "error", "error": {"type": "overloaded_error"}}, id="anthropic"),
        pytest.param({"status": "failed", "output": []}, id="responses"),
    ],
)
def test_an_error_is_known_as_one(body):
    assert read_answer(body).failed
