"""Claude Code and Codex through the gateway, request by request as they send them."""

import pytest

from tests.integrations.agents import ClaudeCode, Codex
from tests.upstream import Status

HARD, EASY = "prove it", "hello"


def kinds(lines):
    return [(line["kind"], line["turn_index"], line["model_class"]) for line in lines]


def test_a_session_of_claude_code_stays_on_the_class_of_its_first_ask(served):
    claude = ClaudeCode(served.url)
    answers = [claude.ask(EASY), claude.give_result(), claude.ask(HARD)]
    assert [a.headers["x-turnout-model"] for a in answers] == ["quick-1"] * 3
    assert kinds(served.lines(claude.session, 3)) == [
        ("turn", 1, "fast"), ("continuation", 1, "fast"), ("turn", 2, "fast"),
    ]  # fmt: skip


def test_what_claude_code_asks_beside_is_no_turn(served):
    claude = ClaudeCode(served.url)
    claude.ask(EASY)
    claude.title()
    claude.sub_agent("agent-1", HARD)
    assert claude.count_tokens().json() == {"input_tokens": 42}
    claude.ask(EASY)
    lines = served.lines(claude.session, 5)
    turns = [line["turn_index"] for line in lines if line["kind"] == "turn"]
    assert turns == [1, 2]
    assert {line["kind"] for line in lines} >= {"title", "sub-agent"}
    assert all(line["p_reasoning"] is None for line in lines if line["kind"] != "turn")


def test_a_compaction_keeps_the_session(served):
    claude = ClaudeCode(served.url)
    claude.ask(HARD)
    claude.compact()
    after = claude.ask(EASY, x_claude_code_context_compacted="auto")
    assert after.headers["x-turnout-class"] == "reasoning"
    lines = served.lines(claude.session, 3)
    assert kinds(lines)[1:] == [("compaction", 1, "reasoning"), ("turn", 2, "reasoning")]


def test_six_replays_of_a_refused_request_are_one_turn(served):
    claude = ClaudeCode(served.url)
    served.upstream.behaviours["deep-1"] = [Status(400)] * 6
    claude.messages.append({"role": "user", "content": [{"type": "text", "text": HARD}]})
    body = claude.body(claude.messages)
    changed = [{}, {"thinking": {"type": "adaptive"}}, {"tools": []}, {"max_tokens": 9}, {}, {}]
    refused = [claude.post(body | change) for change in changed]
    assert [answer.status_code for answer in refused] == [400] * 6
    claude.messages.pop()
    claude.ask(HARD)
    claude.ask(EASY)
    lines = served.lines(claude.session, 8)
    assert [line["turn_index"] for line in lines] == [1] * 7 + [2]
    assert [line["response_type"] for line in lines] == ["failed"] * 6 + ["success"] * 2


def test_beta_headers_and_the_query_reach_the_upstream_and_no_id_of_ours_does(served):
    claude = ClaudeCode(served.url)
    claude.ask(EASY)
    request = served.upstream.requests[-1]
    assert request.path == "/v1/messages?beta=true"
    assert request.header("anthropic-beta") == "claude-code-20250219"
    assert request.json["system"][0]["text"].startswith("x-anthropic-billing-header")
    assert not [name for name, _ in request.headers if name.startswith("x-turnout")]


def test_a_session_of_codex_stays_on_its_class_through_tools_and_a_compaction(served):
    codex = Codex(served.url)
    codex.ask(HARD)
    codex.give_result()
    codex.compact()
    assert codex.ask(EASY).headers["x-turnout-class"] == "reasoning"
    assert [kind for kind, _, _ in kinds(served.lines(codex.session, 4))] == [
        "turn", "continuation", "compaction", "turn",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["thread_spawn", "review"])
def test_a_sub_agent_of_codex_is_no_turn_of_its_session(served, kind):
    codex = Codex(served.url)
    codex.ask(EASY)
    assert codex.sub_agent(HARD, kind).headers["x-turnout-class"] == "fast"
    codex.ask(EASY)
    lines = served.lines(codex.session, 3)
    assert kinds(lines) == [("turn", 1, "fast"), ("sub-agent", 1, "fast"), ("turn", 2, "fast")]
    assert lines[1]["p_reasoning"] is None
    assert len({line["conversation_id"] for line in lines}) == 2


def test_after_a_compaction_of_codex_the_new_words_alone_are_the_message(served):
    codex = Codex(served.url)
    codex.ask(HARD)
    codex.compact()
    codex.ask(EASY)
    assert [line["user_message"] for line in served.lines(codex.session, 3)][::2] == [HARD, EASY]


def test_a_turn_that_was_stopped_before_its_answer_keeps_its_number(served):
    codex = Codex(served.url)
    codex.ask(EASY)
    codex.interrupt(HARD)
    codex.ask("thanks")
    lines = served.lines(codex.session, 2)
    assert [(line["turn_index"], line["user_message"]) for line in lines] == [
        (1, EASY), (3, "thanks"),
    ]  # fmt: skip


def test_a_title_of_codex_is_scored_by_nobody(served):
    answer = Codex(served.url).title()
    assert answer.headers.get("x-turnout-request-kind") == "title"
    assert "x-turnout-p-reasoning" not in answer.headers


@pytest.mark.parametrize("agent", [ClaudeCode, Codex])
def test_harness_text_and_system_prompts_are_not_scored(served, agent):
    assert agent(served.url).ask(EASY).headers["x-turnout-class"] == "fast"
    assert agent(served.url).ask(HARD).headers["x-turnout-class"] == "reasoning"


def test_two_sessions_with_the_same_words_are_two_conversations(served):
    first, other = ClaudeCode(served.url), ClaudeCode(served.url)
    ids = {agent.ask(EASY).headers["x-turnout-conversation-id"] for agent in (first, other)}
    assert len(ids) == 2
