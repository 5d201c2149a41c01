"""The gateway between real clients and a real upstream, over sockets."""

import json

import httpx
import openai
import pyarrow.parquet as pq
import pytest

from tests.gateway.conftest import assistant, conversation, eventually, options_for, user
from tests.servers import free_port, running
from tests.tiny_router import write_router
from turnout.errors import ListenError, SettingsError
from turnout.gateway.app import create_app
from turnout.gateway.server import serve
from turnout.logs import ingest
from turnout.routing import Router


def client_of(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-caller", max_retries=0)


def test_the_official_client_gets_the_reasoning_model_for_a_hard_message(served):
    with client_of(served) as client:
        answer = client.chat.completions.create(model="turnout", messages=[user("prove it")])
    assert answer.choices[0].message.content == "from deep-1"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3
    assert served.upstream.bodies[0]["reasoning_effort"] == "high"


def test_the_official_client_streams_the_fast_model_for_an_easy_message(served):
    with client_of(served) as client:
        stream = client.chat.completions.create(
            model="turnout", messages=[user("hello")], stream=True
        )
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert text == "from quick-1"
    assert "reasoning_effort" not in served.upstream.bodies[0]


def test_a_stream_is_relayed_as_it_arrives(served):
    body = {"model": "turnout", "messages": [user("wait for me")], "stream": True}
    url = f"{served.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=20) as response:
        chunks = response.iter_bytes()
        assert b"from " in next(chunks)
        # The upstream waits for this: had the gateway gathered the answer, nothing had come yet.
        served.upstream.release()
        assert b"[DONE]" in b"".join(chunks)


def test_nothing_but_model_and_parameters_of_the_request_changes(served):
    sent = {
        "messages": [{"role": "system", "content": "be brief"}, user("hello")],
        "temperature": 0.25,
        "max_completion_tokens": 9,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": 1}}}],
        "vendor_field": {"nested": [1, None, "ü"]},
    }
    served.post(**sent, headers={"authorization": "Bearer sk-caller", "x-vendor": "1"})
    assert served.upstream.bodies[0] == {**sent, "model": "quick-1"}
    headers = served.upstream.headers[0]
    assert (headers["authorization"], headers["x-vendor"]) == ("Bearer sk-caller", "1")
    assert not [name for name in headers if name.startswith("x-turnout")]


def test_the_decision_and_the_upstreams_own_headers_come_with_the_answer(served):
    headers = served.post([user("prove it")]).headers
    assert headers["x-request-id"] == "up-1"
    assert headers["x-turnout-class"] == "reasoning"
    assert headers["x-turnout-model"] == "deep-1"
    assert float(headers["x-turnout-p-reasoning"]) == pytest.approx(0.8808, abs=1e-3)
    assert headers["x-turnout-population"] == "balanced"
    assert headers["x-turnout-reason"].endswith(">= threshold 0.500 (population: balanced)")


def test_a_session_stays_where_its_first_message_put_it(served):
    served.post([user("hello")])
    later = served.post([user("hello"), assistant("hi"), user("now prove it")])
    assert later.headers["x-turnout-class"] == "fast"
    assert "keeps the class chosen at turn 1" in later.headers["x-turnout-reason"]


@conversation
def test_a_conversation_router_switches_with_the_turn(served):
    served.post([user("hello")])
    later = served.post([user("hello"), assistant("hi"), user("now prove and derive it")])
    assert later.headers["x-turnout-class"] == "reasoning"
    assert later.headers["x-turnout-switched"] == "true"
    assert later.headers["x-turnout-turn"] == "2"


def test_conversations_of_different_callers_with_one_first_message_are_kept_apart(served):
    ids = {
        served.post([user("hello")], headers={"authorization": f"Bearer {key}"}).headers[
            "x-turnout-conversation-id"
        ]
        for key in ("a", "b")
    }
    assert len(ids) == 2


@pytest.mark.parametrize(
    "named",
    [{"headers": {"x-turnout-conversation-id": "c7"}}, {"metadata": {"conversation_id": "c7"}}],
)
def test_the_caller_may_name_the_conversation(served, named):
    assert served.post([user("prove it")], **named).headers["x-turnout-conversation-id"] == "c7"
    # Only the newest message is sent: the name alone ties it to the session.
    again = served.post([user("hello")], **named)
    assert again.headers["x-turnout-class"] == "reasoning"


def test_a_model_asked_for_by_name_is_served_without_a_decision(served):
    response = served.post([user("hello")], model="deep-1")
    assert served.upstream.bodies[0]["model"] == "deep-1"
    assert response.headers["x-turnout-policy"] == "asked"
    (line,) = eventually(served.lines)
    assert (line["chosen_by"], line["p_reasoning"]) == ("person", None)


def test_an_unknown_model_is_refused_with_what_is_served(served):
    with client_of(served) as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=[user("hello")])
    assert "found 'gpt-9'; expected turnout" in caught.value.message
    assert caught.value.code == "model_not_found"
    assert not served.upstream.bodies


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"messages": ' + b"[" * 600 + b"]" * 600 + b"}", "nested deeper"),
        (b'{"messages": ' + b"[" * 100_000, "nested deeper"),
        (b'{"metadata": {"conversation_id": "\\u4f1a\\u8a71"}}', "metadata.conversation_id"),
        (b"\xff\xfe{", "not UTF-8"),
        (b'{"model": 5, "messages": []}', "expected the name of a model"),
        (b'{"model": ["turnout"]}', "expected the name of a model"),
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong(served, body, said):
    response = httpx.post(f"{served.url}/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_an_upstreams_refusal_reaches_the_caller_as_it_is(served):
    with client_of(served) as client, pytest.raises(openai.RateLimitError, match="slow down"):
        client.chat.completions.create(model="turnout", messages=[user("fail please")])
    assert eventually(served.lines)[0]["response_type"] == "failed"


def test_an_answer_that_cannot_be_read_is_relayed_all_the_same(served):
    assert served.post([user("not json please")]).content == b"\xff\xfe"


def test_an_upstream_that_is_down_gives_a_502_that_says_what_to_do(tmp_path):
    router = Router.from_folder(write_router(tmp_path / "router"))
    options = options_for(f"http://127.0.0.1:{free_port()}", tmp_path / "journal")
    with running(create_app(router, options)) as url:
        body = {"model": "turnout", "messages": [user("hello")]}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20)
    assert response.status_code == 502
    assert "upstream local" in response.json()["error"]["message"]
    assert "Check that it runs" in response.json()["error"]["message"]
    files = eventually(lambda: list((tmp_path / "journal").glob("*.jsonl")))
    line = json.loads(files[0].read_text())
    assert (line["response_type"], line["user_message"]) == ("failed", "hello")


def post_through(options, tmp_path, text, **more):
    """One message through another gateway."""
    router = Router.from_folder(write_router(tmp_path / "other"))
    body = {"messages": [user(text)], **more}
    headers = {"authorization": "Bearer sk-caller"}
    with running(create_app(router, options)) as url:
        target = f"{url}/v1/chat/completions"
        return httpx.post(target, json=body, headers=headers, timeout=20)


def test_an_upstream_that_is_silent_gives_a_504(served, tmp_path):
    with running(served.upstream.app) as upstream_url:
        options = options_for(upstream_url, timeout_s=0.3)
        late = post_through(options, tmp_path, "be silent")
        served.upstream.release()
    assert late.status_code == 504
    assert "did not answer within" in late.json()["error"]["message"]


def test_a_stream_that_breaks_off_is_an_error_for_the_official_client(served):
    # Were it ended quietly, the caller would take half an answer for a whole one.
    with client_of(served) as client, pytest.raises(openai.APIError, match="broke off"):
        list(
            client.chat.completions.create(
                model="turnout", messages=[user("break off")], stream=True
            )
        )
    assert eventually(served.lines)[0]["response_type"] == "failed"


def test_a_caller_that_goes_away_is_noted_and_the_upstream_is_let_go(served):
    body = {"model": "turnout", "messages": [user("never stop")], "stream": True}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body) as response:
        next(response.iter_bytes())
    (line,) = eventually(served.lines)
    assert line["response_type"] == "cancelled"
    assert line["assistant_message"].startswith("from ")


def test_ingest_reads_the_journal_back(served, tmp_path):
    served.post([user("hello")])
    served.post([user("hello"), assistant("from quick-1"), user("thanks")], user="ann")
    served.post([user("prove it")], stream=True)
    eventually(lambda: len(served.lines()) == 3)
    report = ingest(sorted(served.journal.glob("*.jsonl")), tmp_path / "turns.parquet")
    assert (report.rows_read, report.rows_kept) == (3, 3)
    rows = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    by_message = {row["user_message"]: row for row in rows}
    assert by_message["hello"]["model"] == "quick-1"
    assert by_message["hello"]["reasoning_tokens"] == 3
    assert by_message["hello"]["cached_tokens"] == 2
    assert by_message["thanks"]["turn_index"] == 2
    assert by_message["thanks"]["user_id"] not in (None, "ann"), (
        "user ids are pseudonymised on read"
    )
    assert by_message["prove it"]["assistant_message"] == "from deep-1"
    assert by_message["prove it"]["completion_tokens"] == 2
    assert {row["response_type"] for row in rows} == {"success"}


def test_the_journal_is_for_its_owner_alone(served):
    served.post([user("hello")])
    eventually(served.lines)
    (path,) = served.journal.glob("*.jsonl")
    assert path.stat().st_mode & 0o077 == 0


def test_decisions_can_be_had_without_forwarding(served):
    body = {"messages": [user("prove it")]}
    decided = httpx.post(f"{served.url}/v1/route", json=body).json()
    assert (decided["model_class"], decided["target"]["model"]) == ("reasoning", "deep-1")
    assert not served.upstream.bodies


def test_models_are_listed_for_clients_that_ask(served):
    with client_of(served) as client:
        assert [m.id for m in client.models.list()] == ["turnout", "deep-1", "quick-1"]


def test_health_names_the_router(served):
    health = httpx.get(f"{served.url}/healthz").json()
    assert health["status"] == "ok"
    assert len(health["router"]) == 64


def test_what_is_not_served_says_what_is(served):
    response = httpx.get(f"{served.url}/v1/embedding")
    assert response.status_code == 404
    assert "/v1/chat/completions" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "is_anthropic"),
    [
        ("GET", "/v1/responses/resp_1", False),
        ("POST", "/v1/responses/resp_1/cancel", False),
        ("POST", "/v1/files", False),
        ("POST", "/v1/messages/batches", True),
    ],
)
def test_what_is_not_served_is_refused_in_the_form_of_its_protocol(
    served, method, path, is_anthropic
):
    response = httpx.request(method, f"{served.url}{path}")
    error = response.json()["error"]
    assert response.status_code == 404
    assert error["type"] == ("not_found_error" if is_anthropic else "invalid_request_error")
    assert f"{method} {path} is not served here" in error["message"]


def test_a_method_that_is_not_served_says_which_is(served):
    response = httpx.get(f"{served.url}/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert "expected POST" in response.json()["error"]["message"]


def test_a_key_from_the_environment_replaces_the_callers(tmp_path, served, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", "sk-own")
    with running(served.upstream.app) as upstream_url:
        options = options_for(upstream_url, api_key_env="UPSTREAM_KEY")
        post_through(options, tmp_path, "hello")
    assert served.upstream.headers[-1]["authorization"] == "Bearer sk-own"


def test_a_key_that_is_not_in_the_environment_is_missed_at_the_start(tmp_path):
    router = Router.from_folder(write_router(tmp_path / "router"))
    with pytest.raises(SettingsError, match="has no NO_SUCH_KEY"):
        create_app(router, options_for("http://127.0.0.1:1", api_key_env="NO_SUCH_KEY"))


def test_a_port_in_use_is_said_in_one_message(tmp_path, served):
    router = Router.from_folder(write_router(tmp_path / "other"))
    port = int(served.url.rpartition(":")[2])
    options = options_for("http://127.0.0.1:1")
    options = options.model_copy(update={"port": port})
    with pytest.raises(ListenError, match=f"127.0.0.1:{port}: cannot listen"):
        serve(router, options, lambda url: None)
