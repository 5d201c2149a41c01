"""How long the gateway's event loop is held while large requests are served.

The gateway runs in this process beside a watcher that wants to run every millisecond; upstream and
caller are processes of their own. What the watcher waits beyond that is the hold. An idle loop in
another process is watched at the same time: it says what the machine itself takes. Two numbers do
not depend on the machine's other work: the processor time of the loop's thread between two looks of
the watcher, and that of one garbage collection, which stops every thread.

    python benchmarks/loop_holds.py ROUTER [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
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


@dataclass
class Longest:
    """The longest of each kind in one round, in ms."""

    hold: float = 0.0
    idle_hold: float = 0.0
    loop_work: float = 0.0
    collection: float = 0.0

    async def watch(self) -> None:
        """Note how much later than asked for this runs, and what the thread did meanwhile."""
        while True:
            began, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.hold = max(self.hold, 1000 * (time.perf_counter() - began) - 1)
            self.loop_work = max(self.loop_work, 1000 * (time.thread_time() - worked))

    def note_collection(self, phase: str, _: dict[str, int]) -> None:
        """Note how long a garbage collection takes."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.collection = max(self.collection, 1000 * (time.thread_time() - self._began))


async def watch_idle() -> None:
    """Watch an idle loop until standard input ends; say its longest hold."""
    longest = Longest()
    watching = asyncio.ensure_future(longest.watch())
    await asyncio.to_thread(sys.stdin.read)
    watching.cancel()
    print(longest.hold)


async def measured_once(port: int, path: Path) -> Longest:
    """Send a body, and watch until its memory was freed."""
    idle = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "_idle", stdin=PIPE, stdout=PIPE
    )
    await asyncio.sleep(0.3)
    longest = Longest()
    gc.callbacks.append(longest.note_collection)
    watching = asyncio.ensure_future(longest.watch())
    caller = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "_ask", str(port), str(path)
    )
    if await caller.wait():
        raise SystemExit(f"{path}: not answered")
    await asyncio.sleep(2)
    watching.cancel()
    gc.callbacks.remove(longest.note_collection)
    said, _ = await idle.communicate(b"")
    longest.idle_hold = float(said)
    return longest


async def measured(port: int, folder: Path, n_rounds: int) -> dict[str, list[Longest]]:
    """Every round of every case."""
    longest: dict[str, list[Longest]] = {}
    for name, messages in bodies().items():
        path = folder / "body.json"
        path.write_text(json.dumps({"model": "turnout", "messages": messages}))
        longest[name] = [await measured_once(port, path) for _ in range(n_rounds)]
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
    columns = ("hold", "idle_hold", "loop_work", "collection")
    print(f"{'longest, ms (median of rounds)':32}{''.join(f'{c:>12}' for c in columns)}")
    for name, rounds in (await measured(port, folder, n_rounds)).items():
        medians = (statistics.median(getattr(each, c) for each in rounds) for c in columns)
        print(f"{name:32}{''.join(f'{value:12.1f}' for value in medians)}")
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
    elif sys.argv[1:2] == ["_idle"]:
        asyncio.run(watch_idle())
    else:
        main()
