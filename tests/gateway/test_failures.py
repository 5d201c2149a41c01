"""Upstreams that fail, and callers that leave."""

import asyncio
import contextlib
import datetime as dt
import gzip
import json
import socket
import time

import httpx
import pytest

from tests.gateway.conftest import eventually, gateway_of, options_for, user
from tests.gateway.raw_upstream import RawUpstream
from tests.gateway.upstream import PROTOCOLS, Chat, UpstreamApp
from tests.servers import free_port, running
from tests.tiny_router import write_router
from turnout.gateway import forward
from turnout.gateway.app import create_app
from turnout.gateway.breaker import MAX_RETRY_AFTER_S, N_FAILURES, OPEN_S, Breaker
from turnout.gateway.forward import Forwarder, Outgoing
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing import Router


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def stood_in(url, journal, port=None):
    """`fast` goes to an upstream that is down, then to one that is not."""
    return GatewayOptions(
        upstreams={
            "down": Upstream(url=f"http://127.0.0.1:{port or free_port()}/v1"),
            "local": Upstream(url=f"{url}/v1"),
        },
        targets={
            "reasoning": Target(upstream="local", model="deep-1"),
            "fast": Target(
                upstream="down",
                model="quick-1",
                stand_ins=(Target(upstream="local", model="quick-2"),),
            ),
        },
        journal=journal,
    )


def test_a_stand_in_of_the_class_answers_when_the_first_target_is_down(tmp_path):
    with gateway_of(tmp_path, stood_in) as served:
        response = served.post([user("hello")])
    assert served.upstream.models() == ["quick-2"]
    assert (response.status_code, response.headers["x-turnout-class"]) == (200, "fast")
    (line,) = served.lines()
    assert (line["chosen_by"], line["decided_class"]) == ("product", "fast")
    assert [a["target"] for a in line["attempts"]] == ["down/quick-1", "local/quick-2"]
    assert line["propensity"] is None


@pytest.mark.parametrize("asked", ["fail on quick-1", "break on quick-1"])
def test_the_other_class_answers_when_the_class_refuses(served, asked):
    response = served.post([user(asked)])
    assert response.status_code == 200
    assert served.upstream.models() == ["quick-1", "deep-1"]
    assert response.headers["x-turnout-class"] == "reasoning"
    (line,) = served.lines()
    assert (line["chosen_by"], line["model_class"], line["decided_class"]) == (
        "product", "reasoning", "fast",
    )  # fmt: skip


def test_a_refusal_of_all_targets_is_that_of_the_first(served):
    response = served.post([user("fail please")])
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.headers["x-turnout-model"] == "quick-1"
    assert response.json()["error"]["message"] == "slow down"
    assert len(served.lines()[0]["attempts"]) == 2


def test_a_target_that_asked_to_be_left_alone_is_passed_over(served):
    served.post([user("fail on quick-1")])
    served.post([user("hello")])
    assert served.upstream.models() == ["quick-1", "deep-1", "deep-1"]
    paused = httpx.get(f"{served.url}/healthz").json()["targets_paused"]
    assert paused == ["local/quick-1"]


def test_a_request_that_is_wrong_is_not_tried_elsewhere(served):
    assert served.post([user("refuse please")]).status_code == 400
    assert served.upstream.models() == ["quick-1"]


def test_a_model_asked_for_by_name_is_not_replaced_by_another(served):
    response = served.post([user("fail on quick-1")], model="quick-1")
    assert response.status_code == 429
    assert served.upstream.models() == ["quick-1"]


def test_a_target_is_passed_over_after_failures_in_a_row_and_tried_again():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(N_FAILURES - 1):
        breaker.failed("a")
    assert breaker.allows("a")
    breaker.failed("a")
    assert not breaker.allows("a")
    clock.now = OPEN_S
    assert breaker.allows("a"), "one request tries it again"
    assert not breaker.allows("a"), "the others wait for how that ends"
    breaker.succeeded("a")
    assert breaker.allows("a")


def test_retry_after_is_followed_within_bounds():
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed("a", retry_after_s=1e9)
    clock.now = MAX_RETRY_AFTER_S - 1
    assert not breaker.allows("a")
    clock.now = MAX_RETRY_AFTER_S
    assert breaker.allows("a")


def test_a_redirect_is_neither_followed_nor_relayed(served):
    response = served.post([user("redirect please")])
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_redirect"
    assert "location" not in response.headers
    assert served.lines()[0]["response_type"] == "failed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_before_the_first_byte_ends_the_upstream_call(served, stream):
    body = {"model": "turnout", "messages": [user("be silent")], "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}{Chat.path}", json=body, timeout=0.5)
    assert eventually(lambda: served.upstream.ended or served.lines()) is not None
    (line,) = served.lines()
    assert (line["response_type"], line["status"]) == ("cancelled", None)
    served.upstream.release()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_whose_last_event_came_is_a_success_whatever_the_caller_does(served, protocol):
    body = {"model": "turnout", "messages": [user("hello")], "stream": True}
    body["input"] = body["messages"]
    if protocol.__name__ == "Responses":
        del body["messages"]
    last = {"Chat": b"[DONE]", "Responses": b"response.completed", "Messages": b"message_stop"}
    with httpx.stream("POST", f"{served.url}{protocol.path}", json=body) as response:
        got = b""
        for chunk in response.iter_bytes():
            got += chunk
            if last[protocol.__name__] in got:
                break  # as official clients do
    assert served.lines()[0]["response_type"] == "success"


def raw_options(upstream, timeout_s=2):
    def options(url, journal):
        return GatewayOptions(
            upstreams={"raw": Upstream(url=f"{upstream.url}/v1", timeout_s=timeout_s)},
            targets={
                "reasoning": Target(upstream="raw", model="deep-1"),
                "fast": Target(upstream="raw", model="quick-1"),
            },
            journal=journal,
        )

    return options


def head(*lines):
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


JSON = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}'
EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\r\n\r\n'


@pytest.mark.parametrize(
    ("answer", "stream", "status", "ended"),
    [
        pytest.param(
            head("content-length: 9999", "content-type: application/json") + JSON,
            False, 502, "failed", id="a body shorter than it says",
        ),
        pytest.param(
            head("content-type: application/json", "transfer-encoding: chunked")
            + b"ffff\r\n" + JSON,
            False, 502, "failed", id="a chunk that is cut",
        ),
        pytest.param(
            head("content-type: text/event-stream", "transfer-encoding: chunked")
            + b"%x\r\n%s\r\n" % (len(EVENTS), EVENTS),
            True, 200, "failed", id="a stream that is cut",
        ),
        pytest.param(
            head("content-type: text/event-stream", "connection: close") + b"\x00\xff\n\ndata: {",
            True, 200, "failed", id="garbage in a stream",
        ),
        pytest.param(
            head("content-length: 5", "content-length: 6") + JSON,
            False, 502, "failed", id="two lengths",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", False, 502, "failed", id="no HTTP"),
        pytest.param(b"", False, 502, "failed", id="nothing"),
        pytest.param(
            b"HTTP/1.1 600 Strange\r\ncontent-length: 2\r\n\r\n{}",
            False, 502, "failed", id="a status that no answer can have",
        ),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            True, 502, "failed", id="an upgrade that nobody asked for",
        ),
        pytest.param(
            head("content-type: application/json", "connection: close") + JSON,
            False, 200, "success", id="a body without a length",
        ),
        pytest.param(
            head("content-type: application/json", "connection: close")
            + b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
            False, 200, "failed", id="an answer nested deeply",
        ),
    ],
)  # fmt: skip
def test_an_upstream_that_lies_or_breaks_gives_one_clear_end(
    tmp_path, answer, stream, status, ended
):
    with RawUpstream(*[answer] * 4) as upstream:
        with gateway_of(tmp_path, raw_options(upstream)) as served:
            response = served.post([user("hello")], stream=stream)
        (line,) = served.lines()
    assert (response.status_code, line["response_type"]) == (status, ended)
    if status == 502:
        assert response.json()["error"]["code"] == "upstream_error"


def test_what_an_upstream_sends_unasked_is_nobodys_answer(tmp_path):
    whole = head(f"content-length: {len(JSON)}", "content-type: application/json") + JSON
    other = whole.replace(b"hi", b"no")
    upstream = RawUpstream(whole, whole, idle_s=1.0, unasked=other)
    with upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        first = served.post([user("hello")])
        assert upstream.has_sent_unasked.wait(10)
        time.sleep(0.3)  # the other answer comes while the connection is idle
        second = served.post([user("hello")])
    assert [each.content for each in (first, second)] == [JSON, JSON]


def test_an_answer_without_a_body_has_no_length(tmp_path):
    empty = b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"
    with RawUpstream(empty) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        response = served.post([user("hello")])
    assert response.status_code == 204
    assert "content-length" not in response.headers


def test_a_status_without_an_address_is_not_called_a_redirect(tmp_path):
    answer = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        response = served.post([user("hello")])
    assert response.status_code == 502
    assert "answers with status 304" in response.json()["error"]["message"]


def test_a_time_out_that_an_upstream_reports_goes_to_the_next_target(tmp_path):
    late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 2\r\n\r\n{}"
    whole = head(f"content-length: {len(JSON)}", "content-type: application/json") + JSON
    with (
        RawUpstream(late, whole) as upstream,
        gateway_of(tmp_path, raw_options(upstream)) as served,
    ):
        response = served.post([user("hello")])
    assert (response.status_code, response.headers["x-turnout-model"]) == (200, "deep-1")


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_ends_before_its_body_begins_goes_to_the_next_target(
    tmp_path, stream, is_silent
):
    empty = head("content-length: 100", "content-type: application/json")
    whole = head(f"content-length: {len(JSON)}", "content-type: application/json") + JSON
    # Kept open, it is silent for longer than the time-out.
    upstream = RawUpstream(empty, whole, idle_s=2.0 if is_silent else 0.0)
    with upstream, gateway_of(tmp_path, raw_options(upstream, timeout_s=0.8)) as served:
        response = served.post([user("hello")], stream=stream)
        (line,) = served.lines()
    assert (response.content, response.headers["x-turnout-model"]) == (JSON, "deep-1")
    assert [each["status"] for each in line["attempts"]] == [200, 200]
    assert line["attempts"][0]["error"] is not None
    assert (line["chosen_by"], line["response_type"]) == ("product", "success")


def test_a_caller_that_leaves_before_the_body_begins_ends_the_upstream_call(tmp_path):
    upstream = RawUpstream(head("content-length: 100"), waits_for_close=True)
    with upstream, gateway_of(tmp_path, raw_options(upstream, timeout_s=60)) as served:
        with contextlib.suppress(httpx.TimeoutException):
            body = {"model": "turnout", "messages": [user("hello")]}
            httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=0.3)
        assert upstream.is_closed.wait(5)
        assert served.lines()[0]["response_type"] == "cancelled"


def test_a_refusal_whose_body_never_comes_does_not_hold_up_the_next_target(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "_ERROR_BODY_S", 0.2)
    stuck = b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\n{"
    whole = head(f"content-length: {len(JSON)}", "content-type: application/json") + JSON
    upstream = RawUpstream(stuck, whole, idle_s=2.0)
    with upstream, gateway_of(tmp_path, raw_options(upstream, timeout_s=60)) as served:
        assert served.post([user("hello")]).content == JSON


def test_an_idle_connection_that_the_upstream_has_closed_is_replaced(tmp_path):
    whole = head(f"content-length: {len(JSON)}", "content-type: application/json") + JSON
    upstream = RawUpstream(whole, whole, idle_s=0.2)
    with upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        first = served.post([user("hello")])
        time.sleep(0.3)
        second = served.post([user("hello")])
    assert (first.status_code, second.status_code) == (200, 200)
    assert upstream.n_requests == 2


def test_a_response_that_goes_on_in_the_background_is_no_success_yet(tmp_path):
    body = json.dumps({"id": "r1", "status": "queued", "background": True, "output": []}).encode()
    answers = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)] * 2
    with (
        RawUpstream(*answers) as upstream,
        gateway_of(tmp_path, lambda _, journal: options_for(upstream.url, journal)) as served,
    ):
        asked = {"model": "turnout", "input": "hello", "background": True}
        first = httpx.post(f"{served.url}/v1/responses", json=asked)
        after = {"model": "turnout", "input": "thanks", "previous_response_id": "r1"}
        httpx.post(f"{served.url}/v1/responses", json=after)
        lines = served.lines(2)
    assert first.json()["status"] == "queued"
    assert [line["response_type"] for line in lines] == ["pending"] * 2
    assert [line["turn_index"] for line in lines] == [1, 2]


def test_a_compressed_answer_is_relayed_as_it_is_and_read_all_the_same(tmp_path):
    packed = gzip.compress(JSON)
    lines = (f"content-length: {len(packed)}", "content-type: application/json")
    answer = head(*lines, "content-encoding: gzip") + packed
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        assert served.post([user("hello")]).content == JSON
        assert served.lines()[0]["assistant_message"] == "hi"


def test_choices_are_kept_apart_and_a_call_is_counted_once(tmp_path):
    def chunk(index, delta):
        choice = {"index": index, "delta": delta, "finish_reason": None}
        return httpx.Response(200, json={"choices": [choice]}).content

    name = {"index": 0, "id": "t1", "function": {"name": "ls"}}
    deltas = [
        chunk(0, {"content": "He"}), chunk(1, {"content": "wo"}), chunk(0, {"content": "llo"}),
        *[chunk(0, {"tool_calls": [name]})] * 3,
    ]  # fmt: skip
    stream = b"".join(b"data: " + delta + b"\n\n" for delta in deltas) + b"data: [DONE]\n\n"
    answer = head("content-type: text/event-stream", "connection: close") + stream
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        assert served.post([user("hello")], stream=True, n=2).content == stream
        (line,) = served.lines()
    assert (line["assistant_message"], line["tool_counts"]) == ("Hello", {"ls": 1})


def test_one_long_line_in_any_pieces_takes_linear_time(served):
    from turnout.protocols import WIRE_FORMATS, AnswerReader

    reader = AnswerReader(WIRE_FORMATS["chat"], streamed=True)
    for _ in range(200_000):
        reader.feed(b"x" * 20)
    assert reader.answer().text == ""


def test_a_slow_upstream_delays_nobody_else(served):
    async def asked():
        async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
            body = {"model": "turnout", "messages": [user("be silent")]}
            slow = [asyncio.create_task(client.post(Chat.path, json=body)) for _ in range(20)]
            await asyncio.sleep(0.2)
            quick = await client.post(Chat.path, json=body | {"messages": [user("hello")]})
            still_waiting = not any(task.done() for task in slow)
            served.upstream.release()
            return quick, still_waiting, await asyncio.gather(*slow)

    quick, still_waiting, slow = asyncio.run(asked())
    assert quick.status_code == 200
    assert still_waiting
    assert {response.status_code for response in slow} == {200}


def test_nothing_is_mixed_between_requests_at_the_same_time(served):
    async def asked(n, client):
        model = ("deep-1", "quick-1")[n % 2]
        body = {"model": model, "messages": [user(f"message {n}")], "stream": n % 3 == 0}
        response = await client.post(Chat.path, json=body)
        return n, model, response.text

    async def all_asked():
        async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
            return await asyncio.gather(*(asked(n, client) for n in range(60)))

    for _, model, text in asyncio.run(all_asked()):
        assert model in text
        assert ("deep-1" in text) != ("quick-1" in text)
    lines = served.lines(60)
    assert len({line["conversation_id"] for line in lines}) == 60
    assert {line["response_type"] for line in lines} == {"success"}


def test_times_in_the_journal_are_in_utc(served):
    served.post([user("hello")])
    when = dt.datetime.fromisoformat(served.lines()[0]["timestamp"])
    assert when.utcoffset() == dt.timedelta(0)


def test_a_trial_is_used_up_only_by_a_request_that_makes_it(served):
    clock = Clock()
    options = stood_in("http://127.0.0.1:1", None)
    targets = options.targets_of("fast")

    async def sent(candidates):
        forwarder = Forwarder(options)
        forwarder.breaker = Breaker(clock)
        forwarder.breaker.failed("local/quick-2", retry_after_s=7)
        clock.now = 8.0
        listed = list(forwarder._tried(Outgoing("POST", "", "", [], lambda _: b""), candidates))
        return forwarder, listed

    forwarder, listed = asyncio.run(sent(targets))
    assert [target.name for target in listed] == ["down/quick-1", "local/quick-2"]
    assert not forwarder.breaker.allows("local/quick-2"), "the trial is under way"
    clock.now = 0.0
    forwarder, _ = asyncio.run(sent(targets[:1]))
    assert forwarder.breaker.allows("local/quick-2")


def test_one_callers_limit_at_a_vendor_is_not_that_of_others(served):
    ann, ben = {"authorization": "Bearer ann"}, {"authorization": "Bearer ben"}
    served.post([user("fail on quick-1")], headers=ann)
    assert served.post([user("hello")], headers=ben).headers["x-turnout-model"] == "quick-1"
    assert served.post([user("hello")], headers=ann).headers["x-turnout-model"] == "deep-1"


def complete(served, prompt):
    body = {"model": "quick-1", "prompt": prompt, "stream": True}
    return httpx.stream("POST", f"{served.url}/v1/completions", json=body, timeout=20)


def test_a_redirect_is_not_relayed_by_endpoints_without_a_decision_either(served):
    with complete(served, "redirect please") as response:
        assert json.loads(response.read())["error"]["code"] == "upstream_redirect"
    assert "location" not in response.headers


def test_a_caller_that_leaves_a_completion_ends_the_upstream_call(served):
    with complete(served, "never stop") as response:
        next(response.iter_bytes())
    assert eventually(lambda: served.upstream.ended) == ["cancelled"]


def test_a_completion_that_breaks_off_is_seen_to_break_off(served):
    with complete(served, "break off") as response, pytest.raises(httpx.RemoteProtocolError):
        response.read()


BROKEN = '{"choices": [{"index": 0, "message": {"content": "half of it'


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        pytest.param([], BROKEN.encode(), id="an object where events were asked for"),
        pytest.param(["content-encoding: gzip"], gzip.compress(EVENTS * 9)[:-9], id="packed"),
    ],
)
def test_an_answer_that_no_event_can_end_is_seen_to_break_off(tmp_path, lines, body):
    answer = head("content-type: text/event-stream", "transfer-encoding: chunked", *lines)
    answer += b"%x\r\n%s\r\n" % (len(body), body)
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        with pytest.raises(httpx.RemoteProtocolError):
            served.post([user("hello")], stream=True)
        assert served.lines()[0]["response_type"] == "failed"


def test_events_that_are_called_an_object_are_read_as_events(tmp_path):
    answer = head("content-type: application/json", "connection: close")
    answer += EVENTS + b"data: [DONE]\n\n"
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        assert b"[DONE]" in served.post([user("hello")], stream=True).content
        (line,) = served.lines()
    assert (line["assistant_message"], line["response_type"]) == ("hi", "success")


def test_an_upstream_that_accepts_no_connection_is_said_to_be_unreachable(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        with gateway_of(tmp_path, lambda *_: options_for(url)) as served:
            response = served.post([user("hello")])
        for each in waiting:
            each.close()
    assert response.status_code == 502
    assert "cannot be reached" in response.json()["error"]["message"]


def test_after_a_failed_request_only_one_asks_again_and_others_begin_anew(tmp_path):
    """Three people of one key say the same; the first one's request fails."""
    refusal = b'{"error": {"message": "no"}}'
    length = f"content-length: {len(refusal)}"
    refused = f"HTTP/1.1 400 Bad Request\r\n{length}\r\n\r\n".encode() + refusal
    answers = [refused, refused, *[head("connection: close") + JSON] * 3]
    with RawUpstream(*answers) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        asked = [served.post([user("hello")]) for _ in range(5)]
    ids = [response.headers["x-turnout-conversation-id"] for response in asked]
    assert ids[0] == ids[1] == ids[2]
    assert len({ids[2], ids[3], ids[4]}) == 3


def test_requests_that_say_nothing_and_fail_are_no_one_conversation(served):
    body = {"model": "turnout", "messages": []}
    asked = [httpx.post(f"{served.url}{Chat.path}", json=body) for _ in range(2)]
    assert len({response.headers["x-turnout-conversation-id"] for response in asked}) == 2


def test_counts_that_no_answer_can_have_are_not_journalled(tmp_path):
    usage = b'"usage": {"prompt_tokens": 1e999, "completion_tokens": 5.0, "total_tokens": -1}'
    answer = head("connection: close", "content-type: application/json")
    answer += JSON[:-1] + b", " + usage + b"}"
    with RawUpstream(answer) as upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        served.post([user("hello")])
        (line,) = served.lines()
    assert (line["prompt_tokens"], line["completion_tokens"]) == (None, 5)


def test_an_upstream_that_speaks_no_http_is_not_said_to_be_down(tmp_path):
    upstream = RawUpstream(*[b"SSH-2.0-OpenSSH_9.2\r\n"] * 4)
    with upstream, gateway_of(tmp_path, raw_options(upstream)) as served:
        message = served.post([user("hello")]).json()["error"]["message"]
    assert "no whole HTTP message" in message
    assert "cannot be reached" not in message


def test_a_request_whose_answer_cannot_be_sent_is_recorded_all_the_same(tmp_path):
    router = Router.from_folder(write_router(tmp_path / "router"))
    body = json.dumps({"model": "turnout", "messages": [user("hello")]}).encode()
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip

    async def receive():
        if received:
            await asyncio.sleep(60)
        received.append(body)
        return {"type": "http.request", "body": body}

    async def send(message):
        raise RuntimeError("the connection is closed")

    received = []
    upstream = UpstreamApp()
    with running(upstream.app) as url:
        app = create_app(router, options_for(url, tmp_path / "journal"))

        async def serve():
            await app(scope, receive, send)
            await app.state.gateway.close()

        asyncio.run(serve())
    (line,) = (tmp_path / "journal").glob("*.jsonl")
    assert json.loads(line.read_text())["response_type"] == "failed"
    assert upstream.models() == ["quick-1"]
