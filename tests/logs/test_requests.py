"""Requests that repeat their history become the conversations that they are, whatever their ids."""

import json
import random

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.catalog import load_catalog
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.switches import report_switches

pytestmark = pytest.mark.slow  # many seconds in all

JOINED = "request joined by its history to a conversation of another id"
SPLIT = "request split by its history from conversations that share its id or beginning"
OTHER_BRANCH = "another branch of the conversation (the person ended on a later one)"


class Client:
    """Writes the spend log of a proxy, a request at a time, a minute a request."""

    def __init__(self):
        self.rows = []

    def ask(self, history, message, answer, *, session=None, model="gpt-4o", keep=None, **more):
        """One request; the history with its turn, for the next one."""
        number = len(self.rows)
        shown = history if keep is None else history[-keep:] if keep else []
        messages = [
            {"role": role, "content": text}
            for turn in shown
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        messages.append({"role": "user", "content": message})
        row = {
            "request_id": f"r{number}", "model": model, "user": "service", "spend": 0.1,
            "messages": [*messages, *more.pop("then", [])],
            "response": {"choices": [{"message": {"content": answer}}]},
            "startTime": f"2026-05-04T{number // 60:02}:{number % 60:02}:00Z", "prompt_tokens": 10,
        }  # fmt: skip
        if session:
            row["session_id"] = session
        self.rows.append(row | more)
        return [*history, (message, answer)]

    def ingested(self, folder):
        """The report, and conversation → messages in order."""
        path = folder / "spend.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        report = ingest([path], folder / "turns.parquet")
        assert report.rows_read == report.rows_kept + sum(report.dropped.values())
        self.turns = pq.read_table(folder / "turns.parquet").to_pylist()
        conversations = {}
        for turn in self.turns:
            chat = conversations.setdefault(turn["conversation_id"], [])
            chat.append((turn["turn_index"], turn["user_message"]))
        return report, conversations


def test_an_id_for_each_request_is_joined_by_the_history(tmp_path):
    log, history = Client(), []
    for number in (1, 2, 3):
        history = log.ask(history, f"question {number}", "yes", session=f"s{number}")
    report, chats = log.ingested(tmp_path)
    assert chats == {"s1": [(1, "question 1"), (2, "question 2"), (3, "question 3")]}
    assert report.mended == {JOINED: 2}


@pytest.mark.parametrize("session", [None, "the-app"])
def test_chats_that_begin_alike_are_as_many_as_they_are(tmp_path, session):
    log = Client()
    begun = [log.ask([], "hi", "hello", session=session) for _ in range(20)]
    for number, history in enumerate(begun):
        log.ask(history, f"question {number}", "answer", session=session)
    report, chats = log.ingested(tmp_path)
    assert sorted(chats.values()) == sorted(
        [(1, "hi"), (2, f"question {number}")] for number in range(20)
    )
    assert (report.rows_kept, report.mended) == (40, {SPLIT: 38})


def test_an_id_without_any_history_is_numbered_by_time(tmp_path):
    log = Client()
    for number in (1, 2, 3):
        log.ask([], f"question {number}", "yes", session="s")
    _, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "question 1"), (2, "question 2"), (3, "question 3")]}


@pytest.mark.parametrize("session", [None, "s"])
def test_a_history_of_which_the_beginning_is_left_out_stays_one_conversation(tmp_path, session):
    log, history = Client(), []
    for number in range(1, 7):
        history = log.ask(
            history, f"question {number}", f"answer {number}", session=session, keep=2
        )
    _, chats = log.ingested(tmp_path)
    assert list(chats.values()) == [[(n, f"question {n}") for n in range(1, 7)]]


@pytest.mark.parametrize("session", [None, "s"])
def test_turns_that_the_log_lacks_leave_a_gap(tmp_path, session):
    log, history = Client(), []
    for number in range(1, 7):
        history = log.ask(history, f"question {number}", f"answer {number}", session=session)
    del log.rows[1:4]
    _, chats = log.ingested(tmp_path)
    assert [index for index, _ in next(iter(chats.values()))] == [1, 5, 6]
    assert len(chats) == 1


def test_answers_that_the_client_shortens_join_all_the_same(tmp_path):
    log, history = Client(), []
    for number in range(1, 5):
        log.ask(history, f"question {number}", f"<think>hm</think> {number}", session="s")
        history = [*history, (f"question {number}", str(number))]
    _, chats = log.ingested(tmp_path)
    assert chats == {"s": [(n, f"question {n}") for n in range(1, 5)]}


def test_a_compaction_stays_in_its_conversation(tmp_path):
    log, history = Client(), []
    for number in (1, 2):
        history = log.ask(history, f"question {number}", "yes", session="s")
    summary = "This session is being continued from a previous conversation: …"
    blocks = [{"type": "text", "text": summary}, {"type": "text", "text": "question 3"}]
    log.ask([], blocks, "yes", session="s")
    _, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "question 1"), (2, "question 2"), (3, "question 3")]}


def test_the_branch_stays_that_the_person_ended_on(tmp_path):
    log = Client()
    first = log.ask([], "plan it", "a plan", session="s")
    edited_away = log.ask(first, "shorter", "short", session="s")
    log.ask(edited_away, "shorter still", "s", session="s")
    second = log.ask(first, "longer", "long", session="s")
    log.ask(second, "thanks", "welcome", session="s")
    report, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "plan it"), (2, "longer"), (3, "thanks")]}
    assert report.dropped == {OTHER_BRANCH: 2}


def test_an_answer_made_again_on_another_model_is_the_turns_model(tmp_path):
    log = Client()
    first = log.ask([], "plan it", "a plan", session="s")
    answer = log.ask(first, "prove it", "proof", session="s", model="o3")
    log.ask(first, "prove it", "no proof", session="s", model="gpt-4o-mini")
    log.ask(answer, "thanks", "welcome", session="s", model="o3")
    report, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "plan it"), (2, "prove it"), (3, "thanks")]}
    assert [turn["model"] for turn in log.turns] == ["gpt-4o", "o3", "o3"]
    assert report.dropped == {"another model call of the turn (added to it)": 1}


AGAIN = {
    "went-on-from-it": ({}, {}, "proof", "gpt-4o"),
    "went-on-from-the-first": ({}, {}, "no proof", None),
    "never-went-on": ({}, {}, None, "gpt-4o"),
    "asked-at-the-same-time": ({"startTime": "2026-05-04T00:02:00Z"}, {}, "proof", None),
    "the-first-failed": ({"status": "failure"}, {}, "proof", None),
    "one-name-was-asked-for": ({"model_group": "auto"}, {"model_group": "auto"}, "proof", None),
    "a-router-chose": ({}, {"metadata": {"routing_decision": {"tier": "a"}}}, "proof", None),
}


@pytest.mark.parametrize(("first", "second", "went_on", "made_from"), AGAIN.values(), ids=AGAIN)
def test_an_answer_made_again_on_another_model_is_a_switch_of_its_turn(
    tmp_path, first, second, went_on, made_from
):
    log = Client()
    begun = log.ask([], "plan it", "a plan", session="s")
    log.ask(begun, "prove it", "no proof", session="s", **first)
    log.ask(begun, "prove it", "proof", session="s", model="o3", **second)
    if went_on:
        log.ask([*begun, ("prove it", went_on)], "thanks", "welcome", session="s", model="o3")
    log.ingested(tmp_path)
    assert log.turns[1]["regenerated_from"] == made_from


def test_models_that_are_compared_on_one_prompt_are_no_regeneration(tmp_path):
    log = Client()
    for model in ("gpt-4o", "o3"):
        log.ask([], "prove it", "proof", model=model)
    log.ingested(tmp_path)
    assert [turn["regenerated_from"] for turn in log.turns] == [None, None]


def test_calls_that_give_results_of_tools_back_are_one_turn(tmp_path):
    log = Client()
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "ls"}}]}
    result = {"role": "tool", "content": "a.py"}
    for _ in "ab":  # two chats, whose turns have two calls each
        log.ask([], "list it", "")
        log.ask([], "list it", "a.py", then=[called, result])
    _, chats = log.ingested(tmp_path)
    assert list(chats.values()) == [[(1, "list it")]] * 2
    assert [(turn["llm_calls"], turn["prompt_tokens"]) for turn in log.turns] == [(2, 20)] * 2


def labelled(tmp_path):
    """What `label` and `switches` say: turns without a voter, switches by people, votes."""
    turns, catalog = tmp_path / "turns.parquet", load_catalog()
    report = label_turns(turns, tmp_path / "labels.parquet", catalog)
    switches = report_switches(turns, catalog)
    by_people = sum(kind.count - kind.fallbacks for kind in switches.switches)
    moved = ("upgrade", "before_upgrade", "downgrade", "repeated_request")
    votes = {source.code: source.turns for source in report.sources if source.code in moved}
    return report.not_chosen, by_people, sum(votes.values())


def test_a_fallback_inside_a_request_is_the_products(tmp_path):
    log = Client()
    first = log.ask([], "prove one", "p1", session="s", model="o3")
    log.ask(first, "prove two", "", session="s", model="o3", status="failure", response={})
    second = log.ask(first, "prove two", "p2", session="s", model="gpt-4o-mini")
    log.ask(second, "prove three", "p3", session="s", model="o3")
    log.ingested(tmp_path)
    assert [(turn["model"], turn["chosen_by"]) for turn in log.turns] == [
        ("o3", None), ("gpt-4o-mini", "product"), ("o3", None),
    ]  # fmt: skip
    assert labelled(tmp_path) == (2, 0, 0)


FAILED_ROWS = {
    "with-its-messages": {},
    "under-another-id": {"session_id": "another"},
    "without-messages": {"messages": {}},
    "an-error-for-an-answer": {"status": None, "response": {"error": {"message": "overloaded"}}},
}


@pytest.mark.parametrize("failed", FAILED_ROWS.values(), ids=FAILED_ROWS)
def test_the_answer_after_a_row_that_failed_is_a_fallback(tmp_path, failed):
    log = Client()
    first = log.ask([], "prove one", "p1", session="s", model="o3")
    row = {"status": "failure", "response": {}, "startTime": "2026-05-04T00:02:00Z"}
    log.ask(first, "prove two", "", model="o3", **{"session": "s"} | row | failed)
    log.ask(first, "prove two", "p2", session="s", model="gpt-4o-mini")
    _, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "prove one"), (2, "prove two")]}
    assert [(turn["model"], turn["chosen_by"]) for turn in log.turns] == [
        ("o3", None), ("gpt-4o-mini", "product"),
    ]  # fmt: skip


def test_fallbacks_of_chats_that_are_alike_stay_in_their_chats(tmp_path):
    log = Client()
    begun = [log.ask([], "one", "1", session=f"s{n}", model="o3") for n in range(4)]
    for n, first in enumerate(begun):
        log.ask(first, "two", "", session=f"s{n}", model="o3", status="failure", response={})
    for n, first in enumerate(begun):
        log.ask(first, "two", "2", session=f"s{n}", model="gpt-4o-mini")
    _, chats = log.ingested(tmp_path)
    assert chats == {f"s{n}": [(1, "one"), (2, "two")] for n in range(4)}
    assert [turn["chosen_by"] for turn in log.turns] == [None, "product"] * 4


def test_a_person_may_choose_another_model_after_a_failure_without_messages(tmp_path):
    log = Client()
    first = log.ask([], "prove one", "p1", session="s", model="o3")
    log.ask(first, "prove two", "", session="s", model="o3", status="failure", messages={})
    log.ask(first, "prove two", "p2", session="s", model="gpt-4o-mini")  # a minute later
    log.ingested(tmp_path)
    assert [turn["chosen_by"] for turn in log.turns] == [None, None]


def test_a_row_may_say_in_its_metadata_that_it_failed(tmp_path):
    log = Client()
    log.ask([], "prove it", "p", model="gpt-4o-mini")
    failed = {"status": "failure", "error_information": {"error_code": "429"}}
    log.ask([], "prove it", "", model="o3", response={}, metadata=json.dumps(failed))
    log.rows[1]["startTime"] = log.rows[0]["startTime"]
    log.ingested(tmp_path)
    assert [(turn["model"], turn["chosen_by"]) for turn in log.turns] == [
        ("gpt-4o-mini", "product")
    ]


def test_reasoning_that_clients_leave_out_of_the_history_parts_no_conversation(tmp_path):
    log = Client()
    log.ask([], "one", "<think>\nhm\n</think>\n\nyes", session="s1")
    log.ask([("one", "yes")], "two", "<think></think>no", session="s2")
    _, chats = log.ingested(tmp_path)
    assert chats == {"s1": [(1, "one"), (2, "two")]}
    assert [turn["assistant_message"] for turn in log.turns] == ["yes", "no"]


@pytest.mark.parametrize(
    ("metadata", "chosen_by"),
    [
        ({"attempted_fallbacks": 1, "original_model_group": "smart"}, "product"),
        ({"routing_decision": {"tier": "SIMPLE"}, "original_model_group": "smart"}, "router"),
        ({"attempted_fallbacks": 0, "original_model_group": "smart"}, None),
        (
            {"hidden_params": {"x-litellm-attempted-fallbacks": "1"},
             "original_model_group": "smart"},
            "product",
        ),
        (
            {"hidden_params": {"additional_headers": {"x-litellm-attempted-fallbacks": 1}},
             "original_model_group": "smart"},
            "product",
        ),
        (
            {"previous_models": [{"model": "o3"}], "original_model_group": "smart"},
            "product",
        ),
    ],
)  # fmt: skip
def test_what_a_proxy_says_of_the_choice_is_kept(tmp_path, metadata, chosen_by):
    log = Client()
    log.ask([], "prove it", "p", metadata=json.dumps(metadata))
    log.ingested(tmp_path)
    assert [(t["requested_model"], t["chosen_by"]) for t in log.turns] == [("smart", chosen_by)]


def test_a_call_that_a_proxy_makes_for_itself_is_no_turn(tmp_path):
    log = Client()
    log.ask([], "prove it", "p")
    log.ask([], "which tier?", "SIMPLE", metadata={"internal_call_origin": "autorouter_classifier"})
    report, _ = log.ingested(tmp_path)
    assert report.dropped == {"a product's helper call: auxiliary": 1}


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    chats=st.integers(1, 6),
    ids=st.sampled_from(["none", "each request", "right", "one"]),
)
def test_interleaved_chats_come_back_whole(tmp_path_factory, seed, chats, ids):
    rng, log = random.Random(seed), Client()
    histories = {chat: [] for chat in range(chats)}
    lengths = {chat: rng.randint(2, 4) for chat in histories}
    while open_chats := [chat for chat in histories if len(histories[chat]) < lengths[chat]]:
        chat = rng.choice(open_chats)
        history = histories[chat]
        session = {
            "none": None, "each request": f"s{len(log.rows)}", "right": f"c{chat}", "one": "app",
        }[ids]  # fmt: skip
        # Two ways to begin, and after that every chat goes on in its own words.
        message = rng.choice(["hi", "hello"]) if not history else f"chat {chat}, {len(history)}"
        histories[chat] = log.ask(history, message, f"answer of {message}", session=session)
    rng.shuffle(log.rows)
    _, turns = log.ingested(tmp_path_factory.mktemp("log"))
    expected = [
        [(index, message) for index, (message, _) in enumerate(history, start=1)]
        for history in histories.values()
    ]
    assert sorted(turns.values()) == sorted(expected)


def test_a_tools_results_go_to_their_turn_though_each_request_has_an_id(tmp_path):
    log = Client()
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "read"}}]}
    result = {"role": "tool", "content": "42"}
    for number in range(3):
        then = [call, result] * number
        answer = "it is 42" if number == 2 else None
        log.ask([], "read it", answer, session=f"s{number}", then=then)
    log.ask([("read it", "it is 42")], "and why?", "so it is", session="s3")
    report, chats = log.ingested(tmp_path)
    assert chats == {"s0": [(1, "read it"), (2, "and why?")]}
    assert report.dropped == {"another model call of the turn (added to it)": 2}
    assert [turn["llm_calls"] for turn in log.turns] == [3, 1]


def test_a_request_goes_on_from_the_answer_that_it_names(tmp_path):
    log = Client()
    for chat in range(2):
        for number in range(3):
            body = {"model": "o3", "input": f"question {number}"}
            if number:
                body["previous_response_id"] = f"resp_{chat}_{number - 1}"
            answer = {"id": f"resp_{chat}_{number}", "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "yes"}]}
            ]}  # fmt: skip
            log.ask([], "", "", session=f"s{chat}{number}", messages={}, response=answer,
                    proxy_server_request=body)  # fmt: skip
    _, chats = log.ingested(tmp_path)
    turns = [(number + 1, f"question {number}") for number in range(3)]
    assert chats == {"s00": turns, "s10": turns}


SESSION = "6b1f1c6e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({"metadata": {"user_id": f"user_x_account__session_{SESSION}"}}, id="body"),
        pytest.param({"metadata": {"session_id": SESSION}}, id="metadata"),
        pytest.param({"headers": {"X-Claude-Code-Session-Id": SESSION}}, id="header"),
    ],
)
def test_the_conversation_that_a_client_names_counts_before_the_proxys_own(tmp_path, stored):
    log = Client()
    summary = "This session is being continued from a previous conversation that was long."
    for number, texts in enumerate((["fix it"], [summary, "document it"])):
        body = {"messages": [{"role": "user", "content": [
            {"type": "text", "text": text} for text in texts
        ]}]}  # fmt: skip
        sent = {**stored, "body": body} if "headers" in stored else {**body, **stored}
        log.ask([], "", "done", session=f"s{number}", messages={}, proxy_server_request=sent)
    _, chats = log.ingested(tmp_path)
    assert chats == {SESSION: [(1, "fix it"), (2, "document it")]}


def test_a_sub_agent_that_the_stored_headers_name_is_no_turn(tmp_path):
    log = Client()
    body = {"messages": [{"role": "user", "content": "explore"}]}
    sent = {"headers": {"X-Claude-Code-Agent-Id": "a1"}, "body": body}
    log.ask([], "fix it", "done", session="s0")
    log.ask([], "", "done", session="s1", messages={}, proxy_server_request=sent)
    report, _ = log.ingested(tmp_path)
    assert report.dropped == {"a product's helper call: sub-agent": 1}


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        ("aembedding", {"input": "a passage"}),
        ("embedding", {"input": ["a passage"]}),
        ("amoderation", {"input": "a passage"}),
        ("aspeech", {"input": "a passage", "voice": "x"}),
        ("aimage_generation", {"prompt": "a cat"}),
        ("arerank", {"query": "a", "documents": ["b"]}),
        ("acount_tokens", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_calls_that_are_no_chat_are_counted_as_such(tmp_path, call_type, body):
    log = Client()
    log.ask([], "hi", "hello", session="s")
    log.ask([], "", "", session="s", messages={}, proxy_server_request=body, call_type=call_type)
    report, chats = log.ingested(tmp_path)
    assert chats == {"s": [(1, "hi")]}
    (reason,) = report.dropped
    assert reason.startswith("a call that is no chat")


def test_a_request_whose_messages_were_not_stored_is_counted_as_that(tmp_path):
    log = Client()
    log.ask([], "hi", "hello", session="s")
    log.ask([], "", "", session="s", messages={}, proxy_server_request={})
    report, _ = log.ingested(tmp_path)
    assert report.dropped == {"a model call whose messages the proxy did not store": 1}


def test_a_text_completion_is_a_turn(tmp_path):
    log = Client()
    sent = {"model": "m", "prompt": "Once upon"}
    log.ask([], "", "", messages={}, response={"choices": [{"text": " a time"}]},
            proxy_server_request=sent)  # fmt: skip
    log.ingested(tmp_path)
    (turn,) = log.turns
    assert (turn["user_message"], turn["assistant_message"]) == ("Once upon", " a time")
