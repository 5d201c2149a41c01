"""Whatever a caller sends, the gateway answers, and never with an error of its own making."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.conftest import options_for
from tests.gateway.upstream import PROTOCOLS
from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.routing import Router

NAMES = st.sampled_from(
    ["model", "messages", "input", "stream", "role", "content", "type", "text", "metadata", "user",
     "tools", "tool_calls", "function", "name", "system", "output_config", "reasoning", "effort",
     "conversation", "previous_response_id", "conversation_id", "session_id", "prompt_cache_key"]
) | st.text(max_size=4)  # fmt: skip
VALUES = st.sampled_from(["turnout", "user", "assistant", "hello", "prove it", "text", "\ud83d"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | VALUES | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, JSON, max_size=8).map(
        lambda body: json.dumps({"messages": [], "input": "", "model": "turnout", **body}).encode()
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [b"x-turnout-conversation-id", b"session-id", b"x-claude-code-session-id", b"user-agent",
         b"x-codex-turn-metadata", b"x-claude-code-agent-id", b"authorization", b"origin", b"host",
         b"connection", b"content-type", b"x-user", b"x-turnout-threshold"]
    ),
    st.binary(max_size=30),
    max_size=5,
)  # fmt: skip


class Asked:
    """A gateway in this process, asked without a socket."""

    def __init__(self, app, journal):
        self.app, self.journal = app, journal
        self.loop = asyncio.new_event_loop()

    def status(self, path, body, headers):
        return self.loop.run_until_complete(self._status(path, body, headers))

    async def _status(self, path, body, headers):
        sent = [{"type": "http.request", "body": body, "more_body": False}]
        got = []

        async def receive():
            if sent:
                return sent.pop()
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message):
            got.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "root_path": "", "headers": list(headers.items()),
        }  # fmt: skip
        await asyncio.wait_for(self.app(scope, receive, send), 30)
        assert not got[-1].get("more_body")
        return got[0]["status"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("fuzz")
    router = Router.from_folder(write_router(folder / "router", "conversation"))

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    with running(app) as url:
        options = options_for(url, folder / "journal")
        one = Asked(create_app(router, options), folder / "journal")
        yield one
        one.loop.run_until_complete(one.app.state.gateway.close())
        one.loop.close()


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from([p.path for p in PROTOCOLS]), body=BODIES, headers=HEADERS)
def test_no_input_makes_an_error_of_the_gateways_own(asked, path, body, headers):
    assert asked.status(path, body, headers) < 500


@pytest.mark.slow
def test_the_journal_of_all_that_is_readable(asked):
    assert asked.app.state.gateway.runtime.journal.flush()
    for journal in asked.journal.glob("*.jsonl"):
        for line in journal.read_text().splitlines():
            json.loads(line)
