"""Keys: whose goes where, who may ask, and from which pages."""

import gzip
import hashlib
import http.client
import json
import zlib

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.gateway.conftest import gateway_of, options_for, user
from tests.gateway.raw_upstream import RawUpstream
from tests.servers import running
from tests.tiny_router import write_router
from turnout.errors import SettingsError
from turnout.gateway.app import create_app
from turnout.gateway.forward import Forwarder
from turnout.gateway.options import Caller, GatewayOptions, Target, Upstream
from turnout.gateway.server import refuse_open_door
from turnout.routing import Router

KEY = "sk-own-key"
CREDENTIALS = {
    "authorization": "Bearer sk-caller",
    "x-api-key": "sk-caller",
    "api-key": "sk-caller",
    "x-goog-api-key": "sk-caller",
    "cookie": "sk-caller=1",
    "openai-organization": "org-sk-caller",
    "openai-project": "proj-sk-caller",
    "x-litellm-api-key": "sk-caller",
    "x-amz-security-token": "sk-caller",
    "x_api_key": "sk-caller",
    "x-apikey": "sk-caller",
    "ocp-apim-subscription-key": "sk-caller",
    "x-auth-user": "sk-caller",
    "cf-access-jwt-assertion": "sk-caller",
    "anthropic-organization-id": "org-sk-caller",
    "x-workspace": "sk-caller",
    "chatgpt-account-id": "sk-caller",
    "dpop": "sk-caller",
    "openai-key": "sk-caller",
    "remote-user": "sk-caller",
    "x-bearer": "sk-caller",
    "x-client-cert": "sk-caller",
    "x-forwarded-email": "sk-caller",
    "x-functions-key": "sk-caller",
    "x-ms-client-principal": "sk-caller",
    "x-passwd": "sk-caller",
    "x-signature": "sk-caller",
    "proxy-authorization": "Basic sk-caller",
}
HARMLESS = {"x-vendor": "1", "idempotency-key": "2", "anthropic-beta": "3", "x-user-name": "4"}


@pytest.fixture
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    caller = Caller(name="ann", key_sha256=hashlib.sha256(b"door").hexdigest())

    def options(url, journal):
        door = {"callers": (caller,), "allowed_origins": ("https://app.example",)}
        return options_for(url, journal, door, api_key_env="UPSTREAM_KEY")

    with gateway_of(tmp_path, options) as served:
        yield served


def test_nothing_of_the_callers_credentials_goes_upstream_with_a_key_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)

    def options(url, journal):
        return options_for(url, journal, api_key_env="UPSTREAM_KEY")

    with gateway_of(tmp_path, options) as served:
        served.post([user("hello")], headers={**CREDENTIALS, **HARMLESS})
        body = {"model": "turnout", "messages": [user("hello")]}
        httpx.post(f"{served.url}/v1/messages", json=body, headers=CREDENTIALS)
    chat, messages = served.upstream.headers
    assert "sk-caller" not in json.dumps([chat, messages])
    assert chat["authorization"] == f"Bearer {KEY}"
    assert HARMLESS.items() <= chat.items()
    assert messages["x-api-key"] == KEY


def test_without_a_key_of_ours_the_callers_own_is_passed_on(served):
    served.post([user("hello")], headers={"authorization": "Bearer sk-caller", "cookie": "a=1"})
    assert served.upstream.headers[0]["authorization"] == "Bearer sk-caller"
    assert "cookie" not in served.upstream.headers[0]


def test_cookies_of_an_answer_reach_nobody_else(served):
    first = served.post([user("hello")])
    served.post([user("hello")])
    assert "set-cookie" not in first.headers
    assert "cookie" not in served.upstream.headers[1]


def test_a_server_that_needs_no_key_gets_none(tmp_path):
    def options(url, journal):
        return options_for(url, journal, needs_key=False)

    with gateway_of(tmp_path, options) as served:
        served.post([user("hello")], headers=CREDENTIALS)
    assert "sk-caller" not in json.dumps(served.upstream.headers)


def two_vendors(**second):
    return GatewayOptions(
        upstreams={
            "openai": Upstream(url="https://api.openai.com/v1"),
            "other": Upstream(url="https://api.anthropic.com/v1", **second),
        },
        targets={
            "reasoning": Target(upstream="openai", model="deep"),
            "fast": Target(upstream="other", model="quick"),
        },
    )


def test_a_callers_key_is_not_sent_to_two_vendors(monkeypatch):
    with pytest.raises(
        SettingsError, match=r"would be sent to api.anthropic.com and to api.openai"
    ):
        Forwarder(two_vendors())
    Forwarder(two_vendors(needs_key=False))
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    Forwarder(two_vendors(api_key_env="UPSTREAM_KEY"))


@pytest.mark.parametrize("key", ["sk\n", " sk", "sk\r\nx: y", "schlüssel", ""])
def test_a_key_that_cannot_be_one_is_refused_at_the_start(monkeypatch, key):
    monkeypatch.setenv("UPSTREAM_KEY", key)
    with pytest.raises(SettingsError, match="UPSTREAM_KEY") as caught:
        Forwarder(two_vendors(api_key_env="UPSTREAM_KEY"))
    assert not key.strip() or key not in str(caught.value)


def test_callers_keys_are_not_passed_on_so_every_upstream_needs_one(monkeypatch):
    caller = Caller(name="ann", key_sha256="0" * 64)
    options = options_for("http://127.0.0.1:1", None, {"callers": (caller,)})
    with pytest.raises(SettingsError, match="are not passed on"):
        Forwarder(options)


def test_the_gateway_is_not_opened_to_others_without_callers_keys():
    open_door = options_for("http://127.0.0.1:1", None, {"host": "0.0.0.0"})
    with pytest.raises(SettingsError, match="which others can reach"):
        refuse_open_door(open_door)
    refuse_open_door(options_for("http://127.0.0.1:1", None, {"host": "127.0.0.1"}))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic door"}, 401),
        ({"authorization": "Bearer door"}, 200),
        ({"x-api-key": "door"}, 200),
        ({"authorization": "Bearer of-a-vendor", "x-api-key": "door"}, 200),
    ],
)
def test_only_callers_with_a_key_are_served(own_key, headers, status):
    response = own_key.post([user("hello")], headers=headers)
    assert response.status_code == status
    if status == 200:
        assert "door" not in json.dumps(own_key.upstream.headers)
        assert own_key.lines()[0]["caller"] == "ann"
    else:
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert not own_key.upstream.bodies


def test_models_and_decisions_need_a_key_too(own_key):
    assert httpx.get(f"{own_key.url}/v1/models").status_code == 401
    assert httpx.post(f"{own_key.url}/v1/route", json={"messages": []}).status_code == 401
    assert httpx.get(f"{own_key.url}/healthz").status_code == 200


def test_further_routes_stand_behind_the_same_door(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    caller = Caller(name="ann", key_sha256=hashlib.sha256(b"door").hexdigest())
    door = {"callers": (caller,)}
    options = options_for("http://127.0.0.1:1", None, door, api_key_env="UPSTREAM_KEY")
    router = Router.from_folder(write_router(tmp_path / "router"))

    async def extra(request):
        return JSONResponse({})

    def more(router):
        return [Route("/v1/extra", extra, methods=["POST"])]

    with running(create_app(router, options, more)) as url:
        assert httpx.post(f"{url}/v1/extra").status_code == 401
        assert httpx.post(f"{url}/v1/extra", headers={"x-api-key": "door"}).status_code == 200
        evil = {"x-api-key": "door", "origin": "https://evil.example"}
        assert httpx.post(f"{url}/v1/extra", headers=evil).status_code == 403


def test_a_caller_that_asks_too_often_is_told_when_to_ask_again(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    hashed = hashlib.sha256(b"door").hexdigest()
    caller = Caller(name="ann", key_sha256=hashed, requests_per_minute=2)

    def options(url, journal):
        return options_for(url, journal, {"callers": (caller,)}, api_key_env="UPSTREAM_KEY")

    with gateway_of(tmp_path, options) as served:
        codes = [served.post([user("hello")], headers={"x-api-key": "door"}) for _ in range(3)]
    assert [response.status_code for response in codes] == [200, 200, 429]
    assert 0 < int(codes[2].headers["retry-after"]) <= 60


PAGE = {"origin": "https://evil.example"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (PAGE, "origin_not_allowed"),
        ({"origin": "null"}, "origin_not_allowed"),
        ({"host": "evil.example"}, "host_not_allowed"),
        ({"host": "localhost.evil.example"}, "host_not_allowed"),
        ({"host": "[evil.example"}, "host_not_allowed"),
        ({"host": "evil.example@127.0.0.1"}, "host_not_allowed"),
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, "unsupported_media_type"),
    ],
)
def test_a_page_in_a_browser_cannot_spend_a_key(served, headers, code):
    response = served.post([user("hello")], headers=headers)
    assert response.status_code in (403, 415)
    assert response.json()["error"]["code"] == code
    assert not served.upstream.bodies


def test_an_allowed_page_may_ask_and_read_the_answer(own_key):
    headers = {"origin": "https://app.example", "x-api-key": "door"}
    asked = httpx.options(f"{own_key.url}/v1/chat/completions", headers=headers)
    answer = own_key.post([user("hello")], headers=headers)
    for response in (asked, answer):
        assert response.headers["access-control-allow-origin"] == "https://app.example"
    refused = httpx.options(f"{own_key.url}/v1/chat/completions", headers=PAGE)
    assert "access-control-allow-origin" not in refused.headers


def test_no_upstream_learns_which_page_or_proxy_a_request_came_from(served):
    headers = {
        "referer": "http://localhost:3000/?key=1",
        "sec-fetch-site": "same-site", "x-forwarded-for": "10.0.0.7", "forwarded": "for=10.0.0.7",
        "via": "1.1 inside", "x-real-ip": "10.0.0.7",
    }  # fmt: skip
    served.post([user("hello")], headers=headers)
    assert not headers.keys() & served.upstream.headers[0].keys()


def test_an_allowed_pages_origin_stays_behind(own_key):
    headers = {"origin": "https://app.example", "x-api-key": "door"}
    own_key.post([user("hello")], headers=headers)
    assert "origin" not in own_key.upstream.headers[0]


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_that_an_upstream_repeats_is_shown_to_nobody(tmp_path, monkeypatch, status):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    body = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    answer = (
        f"HTTP/1.1 {status} Refused\r\ncontent-length: {len(body)}\r\nx-seen: Bearer {KEY}\r\n\r\n"
    ).encode() + body
    with RawUpstream(answer, answer) as upstream:

        def options(url, journal):
            return options_for(upstream.url, journal, api_key_env="UPSTREAM_KEY")

        with gateway_of(tmp_path, options) as served:
            response = served.post([user("hello")])
            served.lines()
            journal = "".join(path.read_text() for path in served.journal.glob("*"))
    assert response.json()["error"]["message"] == "bad key ***"
    assert response.headers["x-seen"] == "Bearer ***"
    assert KEY not in journal


def refusal(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Refused", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


REPEATED = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()


@pytest.mark.parametrize(
    ("packed", "encoding", "status"),
    [(gzip.compress(REPEATED), "gzip", 400), (zlib.compress(REPEATED), "deflate", 400),
     (b"\x8b\x02" + REPEATED, "br", 502)],
)  # fmt: skip
def test_a_key_in_a_compressed_refusal_is_shown_to_nobody(
    tmp_path, monkeypatch, packed, encoding, status
):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    answer = refusal(400, packed, f"content-encoding: {encoding}")
    with RawUpstream(answer, answer) as upstream:

        def options(url, journal):
            return options_for(upstream.url, journal, api_key_env="UPSTREAM_KEY")

        with gateway_of(tmp_path, options) as served:
            response = served.post([user("hello")])
    assert response.status_code == status
    assert KEY not in response.text
    assert ("bad key ***" in response.text) == (status == 400)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_of_our_own_key_is_no_callers_fault(tmp_path, monkeypatch, status):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    body = json.dumps({"error": {"message": "Incorrect API key provided: sk-o***key"}}).encode()
    answer = refusal(status, body)
    with RawUpstream(answer, answer) as upstream:

        def options(url, journal):
            return options_for(upstream.url, journal, api_key_env="UPSTREAM_KEY")

        with gateway_of(tmp_path, options) as served:
            response = served.post([user("hello")])
            (line,) = served.lines()
    assert (response.status_code, response.headers["x-should-retry"]) == (502, "false")
    assert response.json()["error"]["code"] == "upstream_credentials"
    assert f"HTTP {status}" in response.text
    assert "sk-o" not in response.text
    assert [attempt["status"] for attempt in line["attempts"]] == [status] * 2
    assert (line["status"], line["response_type"]) == (502, "failed")


def test_where_our_key_is_refused_the_next_target_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    with RawUpstream(refusal(401, b"{}")) as refusing:

        def options(url, journal):
            whole = options_for(url, journal, api_key_env="UPSTREAM_KEY")
            other = Upstream(url=refusing.url, api_key_env="UPSTREAM_KEY")
            fast = Target(upstream="refusing", model="quick-1")
            return GatewayOptions(
                upstreams={**whole.upstreams, "refusing": other},
                targets={**whole.targets, "fast": fast},
                journal=journal,
            )

        with gateway_of(tmp_path, options) as served:
            response = served.post([user("hello")])
            (line,) = served.lines()
    assert response.json()["model"] == "deep-1"
    assert (line["chosen_by"], line["response_type"]) == ("product", "success")


def test_what_is_refused_for_its_content_does_not_close_the_target_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    whole = b'{"choices": [{"message": {"content": "hi"}}]}'
    with RawUpstream(*[refusal(403, b"{}")] * 12, refusal(200, whole)) as upstream:

        def options(url, journal):
            return options_for(upstream.url, journal, api_key_env="UPSTREAM_KEY")

        with gateway_of(tmp_path, options) as served:
            refused = {served.post([user("hello")]).status_code for _ in range(6)}
            assert refused == {502}
            assert served.post([user("hello")]).headers["x-turnout-model"] == "quick-1"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refusal_of_the_callers_own_key_is_relayed_to_it(tmp_path, status):
    answer = refusal(status, b'{"error": {"message": "your key"}}')
    with RawUpstream(answer) as upstream:

        def options(url, journal):
            return options_for(upstream.url, journal)

        with gateway_of(tmp_path, options) as served:
            response = served.post([user("hello")], headers={"authorization": "Bearer sk-caller"})
    assert (response.status_code, response.json()["error"]["message"]) == (status, "your key")


def test_headers_for_one_connection_stay_behind(served):
    headers = {
        "connection": "x-private, close", "x-private": "1", "te": "trailers",
        "proxy-connection": "keep-alive", "expect": "", "x-kept": "1",
    }  # fmt: skip
    served.post([user("hello")], headers=headers)
    got = served.upstream.headers[0]
    assert got["x-kept"] == "1"
    assert not {"x-private", "te", "proxy-connection", "expect"} & set(got)


@pytest.mark.parametrize("value", ["Jörg".encode(), "Jörg".encode("latin-1"), "会".encode()])
def test_headers_outside_ascii_survive(served, value):
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
    body = json.dumps({"model": "turnout", "messages": [user("hello")]})
    headers = {"content-type": "application/json", "x-user-name": value}
    connection.request("POST", "/v1/chat/completions", body, headers)
    assert connection.getresponse().status == 200
    connection.close()
    got = served.upstream.headers[0]["x-user-name"].encode("latin-1")
    assert got in (value, value.decode("latin-1").encode())


@pytest.mark.parametrize("name", ["key", "api_key", "api%5Fkey", "access_token", "X-Goog-Api-Key"])
def test_a_key_in_the_url_is_refused_before_anything_is_sent(served, name):
    body = {"model": "quick-1", "messages": [user("hello")], "input": "hello"}
    for path in ("chat/completions", "embeddings"):
        response = httpx.post(f"{served.url}/v1/{path}?beta=true&{name}=sk-secret", json=body)
        assert response.status_code == 400
        assert "keys in URLs" in response.json()["error"]["message"]
        assert "sk-secret" not in response.text
    assert not served.upstream.bodies


SPELLINGS = ("authorization", "x-api-key", "api-key", "x-litellm-api-key")


@pytest.mark.parametrize("name", SPELLINGS)
def test_one_id_of_two_callers_is_two_conversations_however_keys_are_sent(served, name):
    def asked(text, key):
        headers = {"x-turnout-conversation-id": "shared", name: key}
        return served.post([user(text)], headers=headers).headers["x-turnout-class"]

    assert [asked("hello", "ann"), asked("prove it", "ben")] == ["fast", "reasoning"]


def test_one_key_is_one_caller_in_whichever_header_it_comes(served):
    for n, headers in enumerate(({"authorization": "Bearer k"}, {"x-api-key": "k"}), start=1):
        response = served.post([user(f"hello {n}")], {"x-turnout-conversation-id": "a", **headers})
        assert response.headers["x-turnout-turn"] == str(n)


def test_which_pages_may_read_an_answer_only_the_gateway_says(tmp_path):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            response = JSONResponse({}, headers={"access-control-allow-origin": "*"})
            await response(scope, receive, send)

    def options(url, journal):
        return options_for(url, journal, {"allowed_origins": ("https://app.example",)})

    with running(app) as url, gateway_of(tmp_path, lambda *_: options(url, None)) as served:
        answer = served.post([user("hello")], headers={"origin": "https://app.example"})
    assert answer.headers.get_list("access-control-allow-origin") == ["https://app.example"]
