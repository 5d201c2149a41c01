"""Whether the gateway's memory stays flat under mixed load.

`turnout serve` is asked on eight connections: decided in one of 1,000 named conversations, decided
without a name, a model named, whole and streamed; of ten requests one meets an upstream that
refuses, is full or breaks off. Resident memory is printed every half minute. The gateway remembers
2,000 conversations here rather than 100,000, so that a few minutes fill what it remembers.

    python benchmarks/gateway_memory.py ROUTER [--seconds 300]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import gateway
from gateway import PROMPT, Upstream, free_port, started, wait_for

N_NAMED = 1_000
PROGRAM = """
from turnout.routing.sessions import MemorySessions
given = MemorySessions.__init__
given.__defaults__ = (2_000, *given.__defaults__[1:])
from turnout.cli import main
main()
"""
N_CONNECTIONS = 8


class FailingUpstream(Upstream):
    """Fails where a message asks for it."""

    def data_received(self, data: bytes) -> None:
        """Answer, refuse or break off."""
        for status in (b"400", b"429", b"500"):
            if b"please " + status in data:
                self.transport.write(b"HTTP/1.1 %s X\r\ncontent-length: 2\r\n\r\n{}" % status)
                return
        if b"please break" in data:
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
            self.transport.close()
            return
        super().data_received(data)


async def run_upstream(port: int) -> None:
    """Serve the upstream."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FailingUpstream, "127.0.0.1", port)
    await server.serve_forever()


def request(draw: random.Random, number: int) -> tuple[str, bytes]:
    """The kind of a request, and the request."""
    kind = draw.choices(("named", "anonymous", "decided", "failing"), (4, 2, 3, 1))[0]
    failure = draw.choice(("400", "429", "500", "break"))
    text = f"{PROMPT} {number}" if kind != "failing" else f"please {failure}"
    model = "quick" if kind == "named" else "turnout"
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    if draw.random() < 0.5:
        body["stream"] = True
    sent = gateway.request_of(json.dumps(body).encode())
    if kind != "anonymous":
        name = b"x-session-id: s%d\r\nhost: " % draw.randrange(N_NAMED)
        sent = sent.replace(b"host: ", name, 1)
    return kind, sent


async def ask(port: int, seed: int, until: float, counts: Counter[str]) -> None:
    """Ask again and again; a connection that the gateway closes is replaced."""
    draw = random.Random(seed)
    numbers = itertools.count(seed, N_CONNECTIONS)
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        try:
            while time.monotonic() < until:
                kind, sent = request(draw, next(numbers))
                counts[kind] += 1
                writer.write(sent)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                begin = head.find(b"content-length:")
                if begin >= 0:
                    await reader.readexactly(int(head[begin + 15 :].split(b"\r\n")[0]))
                    continue
                while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
                    await reader.readexactly(size + 2)
                await reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            counts["closed"] += 1
        finally:
            writer.close()


async def run(port: int, pid: int, seconds: float) -> None:
    """Ask, and print memory."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    asking = [
        asyncio.ensure_future(ask(port, seed, began + seconds, counts))
        for seed in range(N_CONNECTIONS)
    ]
    print(f"{'seconds':>8}{'MB':>8}{'requests':>10}{'anonymous':>11}")
    while (passed := time.monotonic() - began) < seconds:
        await asyncio.sleep(min(30.0, seconds - passed))
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        passed = time.monotonic() - began
        n_all = counts.total() - counts["closed"]
        print(f"{passed:8.0f}{megabytes:8.1f}{n_all:10,}{counts['anonymous']:11,}", flush=True)
    await asyncio.gather(*asking)
    print(dict(counts))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("router", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    folder, upstream, port = Path(tempfile.mkdtemp()), free_port(), free_port()
    (folder / "turnout.toml").write_text(
        f'[upstreams.u]\nurl = "http://127.0.0.1:{upstream}/v1"\n'
        '[targets.reasoning]\nupstream = "u"\nmodel = "deep"\n'
        '[targets.fast]\nupstream = "u"\nmodel = "quick"\n'
        '[gateway]\njournal = "journal"\n'
    )
    serve = ["-c", PROGRAM, "serve", options.router, "-c", folder / "turnout.toml"]
    processes = [
        started(__file__, "_upstream", upstream),
        started(*serve, "--port", port, stderr=subprocess.DEVNULL),
    ]
    try:
        wait_for(upstream)
        wait_for(port)
        asyncio.run(run(port, processes[1].pid, options.seconds))
    finally:
        for process in processes:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["_upstream"]:
        asyncio.run(run_upstream(int(sys.argv[2])))
    else:
        main()
