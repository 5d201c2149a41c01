"""A gateway in front of an upstream that speaks three protocols, both on real sockets."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import pytest

from tests.servers import running
from tests.tiny_router import write_router
from tests.upstream import Upstream as UpstreamServer
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing import Router


@dataclasses.dataclass
class Served:
    """A running gateway."""

    url: str
    upstream: UpstreamServer
    journal: Path

    def lines(self, conversation: str, n: int) -> list[dict]:
        """The journal's lines of a conversation and its sub-agents, once there are so many."""
        until = time.monotonic() + 10
        while True:
            text = "".join(path.read_text() for path in sorted(self.journal.glob("*.jsonl")))
            lines = [json.loads(line) for line in text.splitlines()]
            own = [line for line in lines if conversation in line["conversation_id"]]
            if len(own) >= n or time.monotonic() > until:
                return own
            time.sleep(0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    router = Router.from_folder(write_router(folder / "router"))
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(UpstreamServer())
        options = GatewayOptions(
            upstreams={"local": Upstream(url=f"{upstream.url}/v1")},
            targets={
                "reasoning": Target(upstream="local", model="deep-1", effort="high"),
                "fast": Target(upstream="local", model="quick-1"),
            },
            journal=folder / "journal",
        )
        url = stack.enter_context(running(create_app(router, options)))
        yield Served(url, upstream, folder / "journal")


@pytest.fixture(autouse=True)
def behaves_well_again(request):
    yield
    if "served" in request.fixturenames:
        request.getfixturevalue("served").upstream.behaviours.clear()
