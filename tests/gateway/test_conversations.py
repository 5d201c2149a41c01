"""Which conversation a request belongs to: ids of clients, and transcripts."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateway.conftest import assistant, conversation, gateway_of, options_for, user
from turnout.gateway.conversations import Conversations, Identity
from turnout.protocols import Answer, Message
from turnout.routing.sessions import CachedPrompt, MemorySessions, Session

pytestmark = pytest.mark.slow  # many seconds in all

CHOSEN = "x-turnout-conversation-id"
AGENT = "x-claude-code-agent-id"


def place(response):
    """Conversation and turn of an answer."""
    return response.headers[CHOSEN], int(response.headers["x-turnout-turn"])


def answered(response):
    """The answer as a client gives it back."""
    return assistant(response.json()["choices"][0]["message"]["content"])


def test_the_answer_in_the_history_ties_a_turn_to_its_conversation(served):
    first = served.post([user("hello")])
    second = served.post([user("hello"), answered(first), user("prove it")])
    history = [user("hello"), answered(first), user("prove it"), answered(second)]
    third = served.post([*history, user("thanks")])
    assert place(first)[0] == place(second)[0] == place(third)[0]
    assert [place(each)[1] for each in (first, second, third)] == [1, 2, 3]


def test_two_people_of_one_key_who_begin_alike_are_two_conversations(served):
    ann, ben = served.post([user("hello")]), served.post([user("hello")])
    assert place(ann)[0] != place(ben)[0]
    ann2 = served.post([user("hello"), answered(ann), user("thanks")])
    ben2 = served.post([user("hello"), answered(ben), user("prove it")])
    assert {place(ann2), place(ben2)} == {(place(ann)[0], 2), (place(ben)[0], 2)}
    assert len(served.lines(4)) == 4


@conversation
def test_a_stranger_with_the_same_first_words_is_not_said_to_have_switched(served):
    served.post([user("hello")])
    other = served.post([user("hello")])
    assert other.headers["x-turnout-switched"] == "false"


def test_a_regenerated_turn_keeps_its_number_and_an_edited_one_is_a_branch_of_it(served):
    first = served.post([user("hello")])
    history = [user("hello"), answered(first)]
    turn2 = served.post([*history, user("thanks")])
    again = served.post([*history, user("thanks")])
    edited = served.post([*history, user("rename it")])
    assert place(turn2) == place(again) == place(edited) == (place(first)[0], 2)
    after = served.post([*history, user("rename it"), answered(edited), user("thanks")])
    assert place(after) == (place(first)[0], 3)


def grown(served, n_turns):
    """A conversation of so many turns: its messages and its last answer."""
    messages = []
    for n in range(n_turns):
        messages.append(user(f"question number {n}" if n else "prove question number 0"))
        response = served.post(messages)
        messages.append(answered(response))
    return messages, response


def test_a_client_that_drops_old_turns_stays_in_its_conversation(served):
    messages, last = grown(served, 4)
    shortened = served.post([*messages[4:], user("hello")])
    assert place(shortened) == (place(last)[0], 5)
    assert shortened.headers["x-turnout-class"] == "reasoning"


def test_a_summary_before_the_last_turns_stays_in_its_conversation(served):
    messages, last = grown(served, 4)
    summary = [user("Summary: we spoke of numbers."), assistant("Understood.")]
    compacted = served.post([*summary, *messages[-2:], user("hello")])
    assert place(compacted) == (place(last)[0], 5)


def test_answers_given_back_in_other_words_stay_in_their_conversation(served):
    first = served.post([user("prove it")])
    second = served.post([user("prove it"), assistant("in other words"), user("hello")])
    assert place(second) == (place(first)[0], 2)


def test_a_history_that_never_came_through_here_is_a_conversation_of_its_own(served):
    first = served.post([user("prove it")])
    served.post([user("prove it"), answered(first), user("go on")])
    other = [user("prove it"), assistant("said elsewhere"), user("hello")]
    assert place(served.post(other))[0] != place(first)[0]


def test_a_tool_loop_stays_in_its_turn_and_is_not_scored(served):
    call = {"id": "t1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    first = served.post([user("prove it")], headers={CHOSEN: "loop"})
    loop = [
        user("prove it"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "hello hello hello"},
    ]
    second = served.post(loop, headers={CHOSEN: "loop"})
    assert place(first) == place(second) == ("loop", 1)
    assert second.headers["x-turnout-class"] == "reasoning"
    assert "x-turnout-p-reasoning" not in second.headers
    assert [line["kind"] for line in served.lines(2)] == ["turn", "continuation"]


def test_an_image_alone_is_a_turn_of_its_own(served):
    first = served.post([user("prove it")])
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    second = served.post([user("prove it"), answered(first), image])
    assert place(second) == (place(first)[0], 2)
    assert second.headers["x-turnout-class"] == "reasoning"
    assert served.lines(2)[1]["user_message"] == ""


def test_one_id_of_two_callers_is_two_conversations(served):
    for key, text in (("a", "prove it"), ("b", "hello")):
        headers = {CHOSEN: "c7", "authorization": f"Bearer {key}"}
        assert served.post([user(text)], headers=headers).headers[CHOSEN] == "c7"
    ids = {line["conversation_id"] for line in served.lines(2)}
    classes = [line["model_class"] for line in served.lines(2)]
    assert len(ids) == 2
    assert classes == ["reasoning", "fast"]


def test_requests_that_only_ask_for_a_decision_remember_nothing(served):
    url = f"{served.url}/v1/route"
    for _ in range(2):
        body = {"messages": [user("prove it")]}
        assert httpx.post(url, json=body, headers={CHOSEN: "c8"}).json()["turn_index"] == 1
    later = served.post([user("hello")], headers={CHOSEN: "c8"})
    assert (later.headers["x-turnout-class"], place(later)) == ("fast", ("c8", 1))
    first = served.post([user("prove this")])
    history = [user("prove this"), answered(first), user("hello")]
    httpx.post(url, json={"messages": history})
    assert place(served.post(history)) == (place(first)[0], 2)


@pytest.mark.parametrize("bad", ["x" * 129, "a b", "会話-1", "🚀"])
def test_an_id_of_ones_own_that_does_not_fit_is_refused_before_anything_is_paid(served, bad):
    response = served.post([user("hello")], metadata={"conversation_id": bad})
    assert response.status_code == 400
    assert "metadata.conversation_id" in response.json()["error"]["message"]
    assert not served.upstream.bodies


def test_first_requests_of_one_id_at_the_same_time_get_one_decision(served):
    def asked(n):
        text = "prove it" if n % 2 else "hello"
        return served.post([user(text)], headers={CHOSEN: "crowd"}).headers["x-turnout-class"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(asked, range(24)))) == 1


def test_a_refused_request_that_is_sent_six_times_is_one_turn(served):
    headers = {"x-claude-code-session-id": "0a1b2c3d-0000-4000-8000-000000000001"}
    for n in range(6):
        again = served.post([user("refuse please")], headers=headers, attempt=n)
        assert again.status_code == 400
    lines = served.lines(6)
    assert {(line["conversation_id"], line["turn_index"]) for line in lines} == {
        (lines[0]["conversation_id"], 1)
    }


def test_a_client_that_sends_the_newest_message_alone_goes_on_turn_by_turn(served):
    texts = ["prove it", "hello", "go on", "go on"]
    turns = [place(served.post([user(text)], headers={CHOSEN: "new"}))[1] for text in texts]
    assert turns == [1, 2, 3, 4]


CODEX = {"user-agent": "codex_exec/0.171.0", "originator": "codex_exec"}


def codex(served, session, items, **metadata):
    headers = CODEX | {
        "session-id": session,
        "x-codex-turn-metadata": json.dumps({"request_kind": "turn", **metadata}),
    }
    body = {"model": "turnout", "input": items, "store": False, "prompt_cache_key": session}
    return httpx.post(f"{served.url}/v1/responses", json=body, headers=headers)


def test_codex_keeps_its_session_through_titles_and_a_compaction(served):
    environment = user("<environment_context>cwd: /tmp hello hello</environment_context>")
    first = codex(served, "s1", [environment, user("prove it")], window_number=0)
    title = codex(served, "s2", [user("name this")], thread_source="thread_title")
    items = [environment, user("prove it"), assistant("from deep-1"), user("hello")]
    second = codex(served, "s1", items, window_number=0)
    compacting = codex(
        served, "s1", [*items, user("summarise")], request_kind="compaction", window_number=0
    )
    after = codex(served, "s1", [user("prove it"), user("summary"), user("hello")], window_number=1)
    assert [r.headers["x-turnout-class"] for r in (first, second, compacting, after)] == [
        "reasoning"
    ] * 4
    assert title.headers["x-turnout-class"] == "fast"
    kinds = [line["kind"] for line in served.lines(5)]
    assert kinds == ["turn", "title", "turn", "compaction", "turn"]
    assert [line["turn_index"] for line in served.lines(5)] == [1, 1, 2, 2, 3]
    assert served.lines(5)[0]["user_message"] == "prove it"


def claude_code(served, content, **headers):
    headers = {"x-claude-code-session-id": "0a1b2c3d-0000-4000-8000-000000000002", **headers}
    body = {"model": "turnout", "max_tokens": 9, "messages": [user(content)], "tools": [{}]}
    return httpx.post(f"{served.url}/v1/messages?beta=true", json=body, headers=headers)


def test_claude_codes_sub_agents_titles_and_reminders_are_told_apart(served):
    reminder = "<system-reminder>hello hello hello hello</system-reminder>"
    ask = [{"type": "text", "text": reminder}, {"type": "text", "text": "prove it"}]
    turn = claude_code(served, ask)
    agent = claude_code(served, "hello, list the files", **{AGENT: "a1"})
    title = claude_code(served, "<session>prove it</session>")
    assert served.upstream.urls[0].endswith("/v1/messages?beta=true")
    assert turn.headers["x-turnout-class"] == "reasoning"
    # Not scored: on its own words it would go to fast.
    assert agent.headers["x-turnout-class"] == "reasoning"
    assert title.headers["x-turnout-class"] == "fast"
    lines = served.lines(3)
    assert [line["kind"] for line in lines] == ["turn", "sub-agent", "title"]
    assert lines[0]["user_message"] == "prove it"
    assert lines[0]["conversation_id"] != lines[1]["conversation_id"]


def test_a_chain_of_stored_responses_stays_at_its_upstream(served):
    url = f"{served.url}/v1/responses"
    first = httpx.post(url, json={"model": "turnout", "input": "hello"})
    body = {"model": "turnout", "input": "prove it", "previous_response_id": first.json()["id"]}
    second = httpx.post(url, json=body)
    assert place(second) == (place(first)[0], 2)
    assert second.headers["x-turnout-class"] == "fast"


@conversation
def test_a_chain_is_locked_even_where_every_turn_is_decided(served):
    url = f"{served.url}/v1/responses"
    first = httpx.post(url, json={"model": "turnout", "input": "hello"})
    body = {"model": "turnout", "input": "prove it", "previous_response_id": first.json()["id"]}
    assert httpx.post(url, json=body).headers["x-turnout-class"] == "fast"


@conversation
def test_a_model_chosen_by_a_person_is_kept_for_the_conversation(served):
    first = served.post([user("hello")])
    history = [user("hello"), answered(first)]
    second = served.post([*history, user("thanks")], model="deep-1")
    history += [user("thanks"), answered(second)]
    third = served.post([*history, user("hello again")])
    assert place(third)[0] == place(first)[0]
    assert third.headers["x-turnout-class"] == "reasoning"
    assert [line["chosen_by"] for line in served.lines(3)] == ["router", "person", "person"]


def test_many_small_messages_are_read_in_linear_time(served):
    body = {"model": "turnout", "messages": [user("a") for _ in range(100_000)]}
    response = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 200


def test_ends_of_forgotten_conversations_are_forgotten_too(tmp_path):
    def options(url, journal):
        return options_for(url, journal, {"session_lifetime_s": 0.001})

    with gateway_of(tmp_path, options) as served:
        first = served.post([user("hello")])
        second = served.post([user("hello"), answered(first), user("thanks")])
    assert place(second) != (place(first)[0], 2)


def test_ids_of_two_vendors_name_one_conversation_in_any_order(served):
    both = [("x-acme-session-id", "one"), ("x-zeta-session-id", "two")]
    first = served.post([user("hello")], headers=dict(both))
    second = served.post([user("thanks")], headers=dict(reversed(both)))
    assert place(second) == (place(first)[0], 2)


def test_a_chain_goes_on_where_its_last_answer_was_stored(served):
    url = f"{served.url}/v1/responses"
    first = httpx.post(url, json={"model": "turnout", "input": "fail on quick-1"})
    assert first.headers["x-turnout-model"] == "deep-1"
    body = {"model": "turnout", "input": "hello", "previous_response_id": first.json()["id"]}
    assert httpx.post(url, json=body).headers["x-turnout-model"] == "deep-1"


def test_a_model_without_a_class_warms_no_classs_cache():
    conversations = Conversations(MemorySessions())
    identity = Identity("ann", "c1", "a header", "", "turn")
    place = conversations.place(identity, [Message("user", "hello")])
    conversations.store.replace(None, Session.begun(place.conversation_id, "fast", 1, 0.0))
    cached = CachedPrompt(1000, 0.0)
    conversations.answered(place, Answer("hi", complete=True), cached, None, "local/other")
    assert conversations.store.get(place.conversation_id).caches == {}
    conversations.answered(place, Answer("hi", complete=True), cached, "fast", "local/quick-1")
    assert conversations.store.get(place.conversation_id).caches == {"fast": cached}


def test_an_answer_begun_by_the_client_stays_in_its_conversation(served):
    first = served.post([user("hello")])
    history = [user("hello"), answered(first), user("thanks")]
    begun = served.post([*history, assistant("Sure, ")])
    assert place(begun)[0] == place(first)[0]
    assert begun.headers["x-turnout-class"] == "fast"
    whole = assistant("Sure, " + answered(begun)["content"])
    after = served.post([*history, whole, user("prove it")])
    apart = served.post([*history, assistant("Sure, "), answered(begun), user("rename it")])
    assert place(after)[0] == place(apart)[0] == place(first)[0]


def test_a_first_answer_begun_by_the_client_begins_a_conversation(served):
    first = served.post([user("hello"), assistant("Sure, ")])
    whole = assistant("Sure, " + answered(first)["content"])
    second = served.post([user("hello"), whole, user("thanks")])
    assert place(second)[0] == place(first)[0]


def test_answers_to_nobodys_words_are_no_one_conversation(served):
    first = served.post([user(" ")])
    second = served.post([user(" "), assistant("what somebody else was answered"), user("hello")])
    assert place(second)[0] != place(first)[0]


def test_a_conversation_with_an_id_is_found_by_nobody_who_only_words_it_alike(served):
    named = served.post([user("hello")], headers={"x-session-id": "s-1"})
    other = served.post([user("hello"), assistant("in other words"), user("thanks")])
    assert place(other)[0] != place(named)[0]
