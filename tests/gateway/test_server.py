"""The gateway as a process: signals, connections, files."""

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateway.conftest import eventually, user
from tests.gateway.upstream import Chat, UpstreamApp
from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway import server

pytestmark = pytest.mark.slow

# The gateway as `turnout serve` runs it, with shorter patience.
PROGRAM = """
import sys, turnout.gateway.connection as connection, turnout.gateway.server as server
stop_s, connection.IDLE_S = float(sys.argv.pop(1)), float(sys.argv.pop(1))
serve = server.serve
server.serve = lambda *given, **more: serve(*given, **more, stop_s=stop_s)
from turnout.cli import main
main()
"""


class Process:
    """A running gateway."""

    def __init__(self, folder, upstream, stop_s=30.0, idle_s=75.0, limit_files=None):
        self.folder, self.upstream = folder, upstream
        self.router = folder / "router"
        if not self.router.exists():
            write_router(self.router)
        self.config = folder / "turnout.toml"
        self.write_config()
        self.errors = (folder / "stderr.txt").open("w+")

        def limited():
            if limit_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit_files, limit_files))

        command = [
            sys.executable, "-c", PROGRAM, str(stop_s), str(idle_s), "serve", str(self.router),
            "-c", str(self.config), "--port", "0",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=self.errors, preexec_fn=limited)
        line = eventually(lambda: "serves at " in self.said() and self.said(), 60)
        self.url = line.partition("serves at ")[2].split()[0].removesuffix("/v1")
        assert eventually(lambda: self.answers("/healthz"), 30)

    def write_config(self, fast="quick-1"):
        self.config.write_text(
            f'[upstreams.u]\nurl = "{self.upstream.url}/v1"\n'
            '[targets.reasoning]\nupstream = "u"\nmodel = "deep-1"\n'
            f'[targets.fast]\nupstream = "u"\nmodel = "{fast}"\n'
            '[gateway]\njournal = "journal"\n'
        )

    def said(self):
        return (self.folder / "stderr.txt").read_text()

    def answers(self, path):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}{path}").status_code == 200
        return False

    def post(self, text, **more):
        body = {"model": "turnout", "messages": [user(text)], **more}
        return httpx.post(f"{self.url}{Chat.path}", json=body, timeout=20)

    def stream(self, text):
        body = {"model": "turnout", "messages": [user(text)], "stream": True}
        return httpx.stream("POST", f"{self.url}{Chat.path}", json=body, timeout=30)

    def lines(self):
        paths = sorted((self.folder / "journal").glob("*.jsonl"))
        return [json.loads(line) for p in paths for line in p.read_text().splitlines()]


@pytest.fixture
def started(tmp_path):
    upstream = UpstreamApp()
    processes = []

    def start(**options):
        processes.append(Process(tmp_path, upstream, **options))
        return processes[-1]

    with running(upstream.app) as url:
        upstream.url = url
        yield start
        for each in processes:
            each.process.kill()
            each.process.wait()
            each.errors.close()


def test_a_stop_lets_answers_end_and_journals_them(started):
    gateway = started()
    with gateway.stream("wait for me") as response:
        chunks = response.iter_bytes()
        next(chunks)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert not gateway.answers("/healthz"), "no new requests are taken"
        gateway.upstream.release()
        assert b"[DONE]" in b"".join(chunks)
    gateway.process.wait(timeout=20)
    assert [line["response_type"] for line in gateway.lines()] == ["success"]


def test_streams_that_outlast_a_stop_are_told_and_journalled(started):
    gateway = started(stop_s=0.5)
    with gateway.stream("never stop") as response:
        got = b""
        for chunk in response.iter_bytes():
            if not got:
                gateway.process.send_signal(signal.SIGTERM)
            got += chunk
    assert b"the gateway is stopping" in got
    gateway.process.wait(timeout=20)
    assert [line["response_type"] for line in gateway.lines()] == ["failed"]
    assert "Traceback" not in gateway.said()


def test_a_kill_under_load_leaves_only_whole_lines(started):
    gateway = started()
    answered = [gateway.post(f"hello {n}").status_code for n in range(30)]
    eventually(lambda: len(gateway.lines()) == 30)
    gateway.process.kill()
    gateway.process.wait()
    assert answered == [200] * 30
    assert len(gateway.lines()) == 30


def under_load(gateway, stop, n_callers=4):
    """How many answers came whole while callers ask until the gateway is stopped."""

    def ask(caller):
        n_whole = 0
        with contextlib.suppress(httpx.TransportError):
            while gateway.post(f"hello {caller} {n_whole}", stream=caller % 2 == 0).is_success:
                n_whole += 1
        return n_whole

    with ThreadPoolExecutor(n_callers) as pool:
        asking = [pool.submit(ask, caller) for caller in range(n_callers)]
        assert eventually(lambda: len(gateway.upstream.bodies) > 40)
        stop()
        gateway.process.wait(timeout=30)
        return sum(each.result() for each in asking)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_and_a_kill_under_load_lose_no_line_of_an_answer(started, number):
    gateway = started()
    n_whole = under_load(gateway, lambda: gateway.process.send_signal(number))
    outcomes = [line["response_type"] for line in gateway.lines()]
    assert n_whole > 20
    # A kill comes between an answer's last byte and its line; a stop does not.
    n_between = 4 if number == signal.SIGKILL else 0
    assert outcomes.count("success") >= n_whole - n_between


def test_a_hangup_reads_settings_and_router_again(started):
    gateway = started()
    assert gateway.post("hello").headers["x-turnout-model"] == "quick-1"
    gateway.write_config(fast="quick-2")
    gateway.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: gateway.post("hello").headers["x-turnout-model"] == "quick-2")
    gateway.config.write_text("[gateway]\nprot = 1\n")
    gateway.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: "nothing has changed" in gateway.said())
    assert gateway.post("hello").headers["x-turnout-model"] == "quick-2"


def test_requests_under_way_survive_a_hangup(started):
    gateway = started()
    with gateway.stream("wait for me") as response:
        chunks = response.iter_bytes()
        next(chunks)
        gateway.write_config(fast="quick-2")
        gateway.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "were read again" in gateway.said())
        gateway.upstream.release()
        assert b"[DONE]" in b"".join(chunks)
    assert eventually(lambda: [line["response_type"] for line in gateway.lines()] == ["success"])


def test_an_access_log_has_a_line_a_request_and_no_text(started):
    gateway = started()
    gateway.post("hello, my secret is rosebud")
    line = eventually(
        lambda: [line for line in gateway.said().splitlines() if "/chat/completions" in line]
    )[0]
    assert "200 success turn fast u/quick-1" in line
    assert "rosebud" not in gateway.said()


def test_a_refused_request_has_a_line_that_says_why_and_no_key_or_line_end(started):
    gateway = started()
    asked = {"model": "nobody-serves-this", "messages": []}
    httpx.post(f"{gateway.url}/v1/messages?key=rosebud", json=asked)
    httpx.post(f"{gateway.url}/v1/messages", json=asked)
    httpx.get(f"{gateway.url}/v1/%0Aforged")
    lines = eventually(
        lambda: (
            (refusals := [x for x in gateway.said().splitlines() if "refused: " in x])[2:]
            and refusals
        )
    )
    assert [line.partition(",")[2].partition(" ")[2] for line in lines] == [
        "POST /v1/messages 400 refused: invalid_request_error",
        "POST /v1/messages 404 refused: model_not_found",
        "GET /v1/%0Aforged 404 refused: not_found",
    ]
    assert "rosebud" not in gateway.said()


def test_idle_connections_are_closed_and_a_full_table_of_files_does_not_spin(started):
    gateway = started(idle_s=2.0, limit_files=128)
    port = int(gateway.url.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    time.sleep(0.5)
    assert (gateway.folder / "stderr.txt").stat().st_size < 20_000
    # They are closed when nothing comes on them; then callers are served again.
    assert eventually(lambda: gateway.answers("/healthz"), 20)
    for each in idle:
        each.close()
    assert gateway.post("hello").status_code == 200


def test_small_answers_are_sent_at_once():
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(server._listening("127.0.0.1", 0))
        stack.enter_context(socket.create_connection(listening.getsockname()))
        connection = stack.enter_context(listening.accept()[0])
        assert connection.proto == socket.IPPROTO_TCP
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


HEADS = {
    "two framings": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "folded": b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "two hosts": b"Host: other\r\nContent-Length: 2\r\n\r\n{}",
    "long header": b"X: " + b"a" * 400_000 + b"\r\n\r\n",
}


def test_heads_that_two_servers_could_read_differently_are_refused(started):
    gateway = started()
    port = int(gateway.url.rpartition(":")[2])
    for name, raw in HEADS.items():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" + raw)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(4096).startswith(b"HTTP/1.1 4"), name
    assert not gateway.upstream.bodies


def test_an_answer_that_outlasts_a_stop_is_refused_in_its_protocols_form(started):
    gateway = started(stop_s=0.5)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(gateway.post, "be silent")
        assert eventually(lambda: gateway.upstream.bodies)
        gateway.process.send_signal(signal.SIGTERM)
        response = asked.result()
    gateway.process.wait(timeout=20)
    assert response.status_code == 503
    assert "the gateway is stopping" in response.json()["error"]["message"]
    (line,) = gateway.lines()
    assert (line["response_type"], line["status"]) == ("failed", 503)
    gateway.upstream.release()


def test_requests_that_are_not_decided_survive_a_hangup(started):
    gateway = started()
    body = {"model": "quick-1", "prompt": "never stop", "stream": True}
    url = f"{gateway.url}/v1/completions"
    with httpx.stream("POST", url, json=body, timeout=30) as response:
        chunks = response.iter_bytes()
        next(chunks)
        gateway.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "were read again" in gateway.said())
        time.sleep(0.3)
        assert next(chunks)


def test_a_head_that_is_too_large_is_refused_with_an_error(started):
    gateway = started()
    address = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as caller:
        caller.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-long: ")
        with contextlib.suppress(OSError):
            for _ in range(20):
                caller.sendall(b"x" * 32_768)
        got = caller.recv(65536)
    assert b" 431 " in got
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
