"""What callers send before a request can be read: old HTTP, upgrades, heads that are too large."""

import contextlib
import json
import socket

import httpx
import pytest

from tests.gateway.conftest import eventually, options_for, user
from tests.gateway.upstream import PROTOCOLS, UpstreamApp
from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.gateway.connection import Connection
from turnout.routing import Router

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway on its own kind of connection: its port and its upstream."""
    router = Router.from_folder(write_router(tmp_path_factory.mktemp("gateway") / "router"))
    upstream = UpstreamApp()
    with running(upstream.app) as upstream_url:
        app = create_app(router, options_for(upstream_url))
        with running(app, http=Connection) as url:
            yield int(url.rpartition(":")[2]), upstream


def said_to(port, data):
    """What comes until the gateway closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                got += piece
    return got


def request(path, body, *lines, version="1.1", method="POST"):
    data = json.dumps(body).encode()
    heads = [f"{method} {path} HTTP/{version}", "host: localhost", f"content-length: {len(data)}"]
    return "\r\n".join([*heads, *lines, "", ""]).encode() + data


def asked(protocol, **more):
    name = "input" if protocol.__name__ == "Responses" else "messages"
    return {"model": "turnout", name: [user("hello")], **more}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stream_for_an_old_client_has_no_chunks_and_ends_with_the_connection(gateway, protocol):
    port, _ = gateway
    got = said_to(port, request(protocol.path, asked(protocol, stream=True), version="1.0"))
    head, _, body = got.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"transfer-encoding" not in head
    assert body.startswith((b"data:", b"event:"))
    assert body.endswith(b"\n\n")


def test_an_answer_for_an_old_client_has_its_length(gateway):
    port, _ = gateway
    head, _, body = said_to(
        port, request("/v1/messages", asked(PROTOCOLS[2]), version="1.0")
    ).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upgrade_that_is_not_served_is_ignored_and_the_body_is_read(gateway, is_chunked):
    port, upstream = gateway
    lines = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    data = request("/v1/chat/completions", asked(PROTOCOLS[0], seed=4), *lines)
    if is_chunked:
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
        data = b"%s\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (head, len(body), body)
    # The next request shows that the connection goes on.
    after = request("/v1/chat/completions", asked(PROTOCOLS[0], seed=5), "connection: close")
    got = said_to(port, data + after)
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert [body.get("seed") for body in upstream.bodies[-2:]] == [4, 5]
    assert "upgrade" not in upstream.headers[-1]


def test_a_websocket_is_refused_so_that_codex_goes_on_in_http(gateway):
    port, _ = gateway
    lines = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    got = said_to(port, request("/v1/responses", {}, *lines, method="GET"))
    assert got.startswith(b"HTTP/1.1 426 ")
    assert got.count(b"HTTP/1.1") == 2, "one answer, which names what to upgrade to"
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "websocket_not_served"


TOO_MUCH = {
    "one header": (b"x-long: " + b"a" * 300_000 + b"\r\n", b"", 431),
    "many headers": (b"".join(b"x-%d: %s\r\n" % (n, b"a" * 90) for n in range(3000)), b"", 431),
    "the URL": (b"", b"?a=" + b"b" * 60_000, 414),
    "no HTTP": (b"no header\r\n", b"", 400),
}


@pytest.mark.parametrize("case", TOO_MUCH)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_head_that_cannot_be_taken_is_refused_in_the_protocols_form(gateway, protocol, case):
    port, upstream = gateway
    lines, query, status = TOO_MUCH[case]
    n_before = len(upstream.bodies)
    path = protocol.path.encode() + query
    got = said_to(port, b"POST %s HTTP/1.1\r\nhost: localhost\r\n%s\r\n" % (path, lines))
    assert got.startswith(f"HTTP/1.1 {status} ".encode())
    body = json.loads(got.partition(b"\r\n\r\n")[2])
    assert ("code" in body["error"]) == (protocol.__name__ != "Messages")
    assert body.get("type") == ("error" if protocol.__name__ == "Messages" else None)
    assert len(upstream.bodies) == n_before


def test_a_caller_that_leaves_ends_the_request_before_its_last_one_too(gateway):
    port, upstream = gateway
    slow = asked(PROTOCOLS[0], seed=9)
    slow["messages"][0]["content"] = "be silent"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(2 * request("/v1/chat/completions", slow))
        assert eventually(lambda: upstream.bodies[-1].get("seed") == 9)

    def n_open():
        return httpx.get(f"http://127.0.0.1:{port}/healthz").json()["open_requests"]

    # The upstream is silent for longer than this waits.
    assert eventually(lambda: n_open() == 0)


def test_a_refusal_is_never_taken_for_the_answer_to_the_request_before_it(gateway):
    port, _ = gateway
    slow = asked(PROTOCOLS[0])
    slow["messages"][0]["content"] = "be silent"
    got = said_to(port, request("/v1/chat/completions", slow) + b"this is no HTTP\r\n\r\n")
    assert got == b""


def test_what_comes_after_a_request_never_lands_in_its_answer(gateway):
    port, upstream = gateway
    body = asked(PROTOCOLS[0], stream=True)
    body["messages"][0]["content"] = "wait for me"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request("/v1/chat/completions", body))
        got = connection.recv(65536)
        connection.sendall(b"\x00 this is no HTTP \r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                got += piece
    upstream.release()
    assert got.count(b"HTTP/1.1") == 1
