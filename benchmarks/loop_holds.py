"""How long the gateway's event loop is held while large requests are served.

The gateway runs in this process beside a watcher that wants to run every millisecond; upstream and
caller are processes of their own. What the watcher waits beyond that is the hold. The first row, a
small request, says what the machine itself takes.

    python benchmarks/loop_holds.py ROUTER [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvicorn

from gateway import free_port, started, wait_for
from turnout.gateway import connection, server
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.routing import Router

WORDS = "some words of a message "


def bodies() -> dict[str, list[dict[str, str]]]:
    """Messages of each case."""
    short = [{"role": ("user", "assistant")[n % 2], "content": "hi there"} for n in range(200_000)]
    return {
        "small": [{"role": "user", "content": WORDS}],
        "1 MB in one message": [{"role": "user", "content": WORDS * 42_000}],
        "10 MB in one message": [{"role": "user", "content": WORDS * 420_000}],
        "10 MB in 1,000 messages": [{"role": "user", "content": WORDS * 420}] * 1_000,
        "200,000 messages": [*short, {"role": "user", "content": "hello"}],
    }


def ask(port: int, path: Path) -> None:
    """Send a body once, in a process of its own."""
    import http.client

    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    head = {"content-type": "application/json"}
    caller.request("POST", "/v1/chat/completions", path.read_bytes(), head)
    if caller.getresponse().status != 200:
        raise SystemExit("not answered")


async def watch(holds_s: list[float]) -> None:
    """Note how much later than asked for this runs."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        holds_s.append(time.perf_counter() - began - 0.001)


async def measured(port: int, folder: Path, n_rounds: int) -> dict[str, list[float]]:
    """The longest hold of each round, in ms."""
    holds_s: list[float] = []
    watching = asyncio.ensure_future(watch(holds_s))
    longest: dict[str, list[float]] = {}
    for name, messages in bodies().items():
        path = folder / "body.json"
        path.write_text(json.dumps({"model": "turnout", "messages": messages}))
        for _ in range(n_rounds):
            await asyncio.sleep(0.2)
            holds_s.clear()
            caller = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "_ask", str(port), str(path)
            )
            if await caller.wait():
                raise SystemExit(f"{name}: not answered")
            longest.setdefault(name, []).append(1000 * max(holds_s))
    watching.cancel()
    return longest


async def run(router: Path, upstream: int, n_rounds: int) -> None:
    """Serve, ask, print."""
    folder, port = Path(tempfile.mkdtemp()), free_port()
    options = GatewayOptions(
        upstreams={"u": Upstream(url=f"http://127.0.0.1:{upstream}/v1")},
        targets={
            "reasoning": Target(upstream="u", model="deep"),
            "fast": Target(upstream="u", model="quick"),
        },
        journal=folder / "journal",
    )
    app = create_app(Router.from_folder(router), options)
    config = uvicorn.Config(app, port=port, log_level="error", http=connection.Connection)
    serving = uvicorn.Server(config)
    task = asyncio.ensure_future(serving.serve())
    await asyncio.sleep(1)
    server._give_way()
    print(f"{'request':28}{'median':>8}{'most':>8}   longest hold, ms")
    for name, each in (await measured(port, folder, n_rounds)).items():
        print(f"{name:28}{statistics.median(each):8.1f}{max(each):8.1f}")
    serving.should_exit = True
    await task


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("router", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    port = free_port()
    upstream = started(Path(__file__).parent / "gateway.py", "_upstream", port)
    try:
        wait_for(port)
        asyncio.run(run(options.router, port, options.rounds))
    finally:
        upstream.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["_ask"]:
        ask(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
