"""Throughput and added time of the gateway, beside a bare relay and LiteLLM, on one machine.

Upstream, gateway and relays are processes of their own; the load comes from this one. All are asked
in turns, round after round, so that what else the machine does falls on each alike.

    python benchmarks/gateway.py ROUTER [--rounds 5] [--seconds 3] [--json results.json]

With `--litellm .venv/litellm/bin/litellm` (`make test-litellm` installs it) the LiteLLM proxy is
asked too, as a relay of a named model. With `--memory` the gateway's memory after 5,000 and after
20,000 requests is printed, each request a conversation of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = 24  # about 32 tokens
PROMPT = "Explain in a few words why the second of these two queries is slower than the first " * 2
ANSWER = json.dumps(
    {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "quick",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "Because it scans. " * 10}}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 40, "total_tokens": 70},
    }
).encode()  # fmt: skip
EVENTS = [
    b"data: " + json.dumps(
        {"id": "c1", "model": "quick", "choices": [{"index": 0, "delta": {"content": "word "}}]}
    ).encode() + b"\n\n"
] * 20  # fmt: skip
EVENTS += [
    b'data: {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b"data: [DONE]\n\n",
]


class Upstream(asyncio.Protocol):
    """Answers at once; as little work as can be."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401
        """Begin."""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.data += data
        while True:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            lower = head.lower()
            begin = lower.find(b"content-length:")
            length = int(lower[begin + 15 :].split(b"\r\n")[0]) if begin >= 0 else 0
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            self.answer(b'"stream": true' in body)

    def answer(self, streamed: bool) -> None:
        """Send an answer, whole or as events."""
        if streamed:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            for event in EVENTS:
                self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.transport.write(b"0\r\n\r\n")
        else:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
            )


async def run_upstream(port: int) -> None:
    """Serve the upstream."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


def run_relay(port: int, upstream: str) -> None:
    """What any Starlette gateway costs: body in, body out."""
    import aiohttp
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    sessions = []

    async def relay(request: Request) -> StreamingResponse:
        if not sessions:
            connector = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        body = await request.body()
        headers = {"content-type": "application/json"}
        answer = await sessions[0].post(upstream + request.url.path, data=body, headers=headers)
        return StreamingResponse(
            answer.content.iter_any(),
            answer.status,
            {"content-type": answer.headers["content-type"]},
        )

    app = Starlette(routes=[Route("/v1/chat/completions", relay, methods=["POST"])])
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


async def one_connection(port: int, request: bytes, until: float, times: list[float]) -> None:
    """Ask again and again on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"port {port}: {head!r}")
        begin = head.find(b"content-length:")
        if begin >= 0:
            await reader.readexactly(int(head[begin + 15 :].split(b"\r\n")[0]))
        else:
            while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        times.append(time.perf_counter() - began)
    writer.close()


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_of(body: bytes) -> bytes:
    """A request of HTTP."""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"content-type: application/json\r\nauthorization: Bearer sk-x\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )


async def load(port: int, body: bytes, n_connections: int, seconds: float) -> dict[str, float]:
    """Requests a second, and what one takes."""
    request = request_of(body)
    times = []
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    await asyncio.gather(
        *(one_connection(port, request, until, times) for _ in range(n_connections))
    )
    took = time.perf_counter() - began
    times.sort()
    return {
        "n": len(times),
        "per_s": len(times) / took,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[min(len(times) - 1, int(len(times) * 0.99))],
    }


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def wait_for(port: int) -> None:
    """Wait until something listens."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"nothing listens on {port}")


def started(*arguments: object, **more: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
    """A Python process."""
    return subprocess.Popen([sys.executable, *map(str, arguments)], **more)


def started_litellm(program: Path, port: int, url: str, folder: Path) -> subprocess.Popen[bytes]:
    """The LiteLLM proxy, with one model at the upstream."""
    (folder / "litellm.yaml").write_text(
        "model_list:\n"
        "  - model_name: quick\n"
        f'    litellm_params: {{model: openai/quick, api_base: "{url}/v1", api_key: k}}\n'
    )
    own = {"LITELLM_MASTER_KEY": "sk-x", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [program, "--config", folder / "litellm.yaml", "--host", "127.0.0.1", "--port"]
    log = (folder / "litellm.log").open("wb")
    return subprocess.Popen(
        [*map(str, command), str(port)], env=os.environ | own, stdout=log, stderr=log
    )


async def ask_apart(port: int, first: int, last: int, n_connections: int = 8) -> None:
    """Ask so many requests, each the beginning of a conversation of its own."""
    numbers = iter(range(first, last))

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        for number in numbers:
            message = {"role": "user", "content": f"{PROMPT} {number}"}
            body = json.dumps({"model": "quick", "messages": [message]}).encode()
            writer.write(request_of(body))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            begin = head.find(b"content-length:")
            await reader.readexactly(int(head[begin + 15 :].split(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(ask() for _ in range(n_connections)))


def show_memory(port: int, pid: int) -> None:
    """Print the gateway's resident memory after so many requests."""
    before = 0
    for n in (1_000, 5_000, 20_000):
        asyncio.run(ask_apart(port, before, n))
        before = n
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        print(
            f"memory after {n:6,} conversations: {pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.1f} MB"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("router", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--litellm", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = ("upstream", "relay", "gateway", *(["litellm"] if options.litellm else []))
    ports = {name: free_port() for name in names}
    folder = Path(tempfile.mkdtemp())
    url = f"http://127.0.0.1:{ports['upstream']}"
    (folder / "turnout.toml").write_text(
        f'[upstreams.u]\nurl = "{url}/v1"\n'
        '[targets.reasoning]\nupstream = "u"\nmodel = "deep"\n'
        '[targets.fast]\nupstream = "u"\nmodel = "quick"\n'
        '[gateway]\njournal = "journal"\n'
    )
    serve = ["-m", "turnout", "serve", options.router, "-c", folder / "turnout.toml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stderr": subprocess.DEVNULL}
    processes = [
        started(__file__, "_upstream", ports["upstream"]),
        started(__file__, "_relay", ports["relay"], url),
        started(*serve, "--port", ports["gateway"], env=environment, **quiet),
    ]
    if options.litellm:
        processes.append(started_litellm(options.litellm, ports["litellm"], url, folder))
    try:
        for port in ports.values():
            wait_for(port)
        pids = dict(zip(names, (process.pid for process in processes), strict=True))
        results = measured(ports, pids, options)
        if options.memory:
            show_memory(ports["gateway"], pids["gateway"])
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def measured(
    ports: dict[str, int], pids: dict[str, int], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Medians over rounds."""
    message = {"messages": [{"role": "user", "content": PROMPT}]}
    bodies = {
        "named": json.dumps({"model": "quick", **message}).encode(),
        "decided": json.dumps({"model": "turnout", **message}).encode(),
        "named, streamed": json.dumps({"model": "quick", "stream": True, **message}).encode(),
    }
    cases = [
        ("upstream alone", "upstream", "named"),
        ("bare relay", "relay", "named"),
        ("gateway, named", "gateway", "named"),
        ("gateway, decided", "gateway", "decided"),
        ("bare relay, streamed", "relay", "named, streamed"),
        ("gateway, named, streamed", "gateway", "named, streamed"),
    ]
    if "litellm" in ports:
        cases.append(("litellm, named", "litellm", "named"))
    results = {}
    for _ in range(options.rounds):
        for n in options.connections:
            for name, port, body in cases:
                before_s = cpu_s(pids[port])
                result = asyncio.run(load(ports[port], bodies[body], n, options.seconds))
                result["cpu_ms"] = 1000 * (cpu_s(pids[port]) - before_s) / result.pop("n")
                results.setdefault(f"{name} / {n}", []).append(result)
    return {
        name: {key: statistics.median(result[key] for result in each) for key in each[0]}
        for name, each in results.items()
    }


def show(results: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    columns = ("per_s", "p50_ms", "p99_ms", "cpu_ms")
    print(f"{'case / connections':34}", *(f"{name:>8}" for name in columns))
    for name, result in results.items():
        print(f"{name:34}", *(f"{result[column]:8.2f}" for column in columns))


if __name__ == "__main__":
    if sys.argv[1:2] == ["_upstream"]:
        asyncio.run(run_upstream(int(sys.argv[2])))
    elif sys.argv[1:2] == ["_relay"]:
        run_relay(int(sys.argv[2]), sys.argv[3])
    else:
        main()
