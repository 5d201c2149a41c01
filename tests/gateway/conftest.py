"""An upstream that speaks chat completions, and a gateway in front of it, both on real sockets."""

import asyncio
import dataclasses
import json
import threading
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing import Router


class UpstreamApp:
    """Remembers what it was sent; answers with the name of the model that was asked for."""

    def __init__(self):
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self._released = threading.Event()
        self.app = Starlette(
            routes=[Route("/v1/chat/completions", self.completions, methods=["POST"])]
        )

    def release(self):
        """Let answers that wait go on; from any thread."""
        self._released.set()

    async def _wait(self):
        while not self._released.is_set():
            await asyncio.sleep(0.01)

    async def completions(self, request):
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        asked = body["messages"][-1]["content"]
        if asked == "fail please":
            return JSONResponse({"error": {"message": "slow down", "type": "rate"}}, 429)
        if asked == "be silent":
            await asyncio.wait_for(self._wait(), 20)
        if asked == "not json please":
            return Response(b"\xff\xfe", headers={"content-type": "application/json"})
        if body.get("stream"):
            return StreamingResponse(self._events(body, asked), media_type="text/event-stream")
        return JSONResponse(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": f"from {body['model']}"},
                    }
                ],
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 5,
                    "total_tokens": 12,
                    "completion_tokens_details": {"reasoning_tokens": 3},
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            },
            headers={"x-request-id": "up-1"},
        )

    async def _events(self, body, asked):
        def event(delta, **more):
            chunk = {
                "id": "c1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
            }
            return f"data: {json.dumps(chunk | more)}\n\n".encode()

        yield event({"role": "assistant", "content": "from "})
        if asked == "wait for me":
            await asyncio.wait_for(self._wait(), 20)
        if asked == "break off":
            raise ConnectionError("the upstream's process died")
        if asked == "never stop":
            while True:
                await asyncio.sleep(0.01)
                yield event({"content": "more "})
        yield event({"content": body["model"]})
        yield event({}, choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2})
        yield b"data: [DONE]\n\n"


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

    def lines(self) -> list[dict]:
        text = "".join(p.read_text() for p in sorted(self.journal.glob("*.jsonl")))
        return [json.loads(line) for line in text.splitlines()]


def options_for(url: str, journal: Path | None = None, **upstream) -> GatewayOptions:
    return GatewayOptions(
        upstreams={"local": Upstream(url=f"{url}/v1", **upstream)},
        targets={
            "reasoning": Target(
                upstream="local", model="deep-1", parameters={"reasoning_effort": "high"}
            ),
            "fast": Target(upstream="local", model="quick-1"),
        },
        journal=journal,
    )


@pytest.fixture(params=["session"])
def served(request, tmp_path):
    router = Router.from_folder(write_router(tmp_path / "router", request.param))
    upstream = UpstreamApp()
    with running(upstream.app) as upstream_url:
        options = options_for(upstream_url, tmp_path / "journal")
        with running(create_app(router, options)) as url:
            yield Served(url, upstream, tmp_path / "journal")


conversation = pytest.mark.parametrize("served", ["conversation"], indirect=True)
