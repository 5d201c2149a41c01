"""A gateway in front of an upstream, both on real sockets."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path

import httpx
import pytest

from tests.gateway.upstream import UpstreamApp
from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing import Router


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def eventually(condition, seconds=10.0):
    """Wait for something that another thread does."""
    until = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return result


@dataclasses.dataclass
class Served:
    """A running gateway."""

    url: str
    upstream: UpstreamApp
    journal: Path

    def post(self, messages, headers=None, **body) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/chat/completions",
            json={"model": "turnout", "messages": messages, **body},
            headers=headers,
            timeout=20,
        )

    def lines(self, n: int = 1) -> list[dict]:
        """The journal, once it has so many lines."""

        def when_written():
            text = "".join(p.read_text() for p in sorted(self.journal.glob("*.jsonl")))
            lines = [json.loads(line) for line in text.splitlines()]
            return lines if len(lines) >= n else None

        return eventually(when_written) or []


def options_for(url: str, journal: Path | None = None, door=None, **upstream) -> GatewayOptions:
    return GatewayOptions(
        **(door or {}),
        upstreams={"local": Upstream(url=f"{url}/v1", **upstream)},
        targets={
            "reasoning": Target(
                upstream="local", model="deep-1", parameters={"reasoning_effort": "high"}
            ),
            "fast": Target(upstream="local", model="quick-1"),
        },
        journal=journal,
    )


@contextlib.contextmanager
def gateway_of(tmp_path, options_of, architecture="session"):
    """A gateway with options of its own: `options_of(upstream_url, journal)`."""
    router = Router.from_folder(write_router(tmp_path / "own-router", architecture))
    upstream = UpstreamApp()
    journal = tmp_path / "own-journal"
    with contextlib.ExitStack() as stack:
        upstream_url = stack.enter_context(running(upstream.app))
        app = create_app(router, options_of(upstream_url, journal))
        yield Served(stack.enter_context(running(app)), upstream, journal)


@pytest.fixture(params=["session"])
def served(request, tmp_path):
    router = Router.from_folder(write_router(tmp_path / "router", request.param))
    upstream = UpstreamApp()
    with running(upstream.app) as upstream_url:
        options = options_for(upstream_url, tmp_path / "journal")
        with running(create_app(router, options)) as url:
            yield Served(url, upstream, tmp_path / "journal")


conversation = pytest.mark.parametrize("served", ["conversation"], indirect=True)
