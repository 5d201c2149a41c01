"""Megabytes a CPU second of `turnout ingest`, by layout, beside a bare JSON parse of the same file.

Usage: python benchmarks/layout_speed.py FOLDER [--mb 60] [--rounds 3] [--beside SRC]

Layouts: flat rows with an index, the same with times alone, a message a row, LiteLLM spend logs
(requests that repeat their history), a Claude Code session, OpenTelemetry spans. Each is read in a
process of its own, from its start to its end; the least CPU time of the rounds counts. With
--beside the source folder of another version is measured too, in turns with this one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dataset_scale import measured
from ingest_speed import MODELS, text_pool

INGEST = "from turnout.cli import main; main()"
PARSE = "import json, sys; [json.loads(line) for line in open(sys.argv[1])]"
START_S = 1_790_000_000
N_TURNS = 4


def chats(seed: int = 0) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Conversations without end: number, and messages with their answers."""
    pool = text_pool(np.random.default_rng(seed))
    n_chars = 300
    for number in range(1 << 40):
        start = number * 7919 % (len(pool) - 8 * n_chars)
        pieces = [pool[start + n * n_chars : start + (n + 1) * n_chars] for n in range(2 * N_TURNS)]
        exchanges = [(f"{number} {n} {pieces[2 * n]}", pieces[2 * n + 1]) for n in range(N_TURNS)]
        yield number, exchanges


def flat(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A turn a row."""
    for index, (question, answer) in enumerate(exchanges, start=1):
        yield {
            "conversation_id": f"c{number}", "turn_index": index, "user_message": question,
            "assistant_message": answer, "model": MODELS[number % 4],
            "timestamp": START_S + number * 600 + index * 60, "prompt_tokens": 100,
        }  # fmt: skip


def timed(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The same without an index."""
    for row in flat(number, exchanges):
        yield {name: value for name, value in row.items() if name != "turn_index"}


def message_rows(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A message a row."""
    for index, exchange in enumerate(exchanges):
        for role, text in zip(("user", "assistant"), exchange, strict=True):
            answers = role == "assistant"
            yield {
                "id": f"{number}-{index}-{role}", "conversation_id": f"c{number}", "role": role,
                "content": text, "model": MODELS[number % 4] if answers else None,
                "created_at": START_S + number * 600 + index * 60 + 5 * answers,
            }  # fmt: skip


def messages_of(exchanges: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Chat messages; the last one has no answer yet."""
    listed = [
        {"role": role, "content": text}
        for turn in exchanges
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return listed[:-1]


def litellm(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A request a row, with an id for each."""
    for index, (_, answer) in enumerate(exchanges):
        start_s = START_S + number * 600 + index * 60
        yield {
            "request_id": f"r{number}-{index}", "session_id": f"s{number}-{index}", "spend": 0.1,
            "model": MODELS[number % 4], "messages": messages_of(exchanges[: index + 1]),
            "startTime": start_s, "endTime": start_s + 5, "user": "app", "prompt_tokens": 100,
            "response": {"choices": [{"message": {"role": "assistant", "content": answer}}]},
        }  # fmt: skip


def claude_code(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Events of one session."""
    parent = f"{number - 1}-{N_TURNS - 1}-a" if number else None
    for index, (question, answer) in enumerate(exchanges):
        common = {"sessionId": "s", "timestamp": START_S + number * 600 + index * 60}
        user, assistant = f"{number}-{index}-u", f"{number}-{index}-a"
        yield common | {"type": "user", "uuid": user, "parentUuid": parent,
                        "message": {"role": "user", "content": question}}  # fmt: skip
        message = {
            "id": assistant, "role": "assistant", "model": MODELS[0],
            "content": [{"type": "text", "text": answer}], "usage": {"input_tokens": 9},
        }  # fmt: skip
        yield common | {"type": "assistant", "uuid": assistant, "parentUuid": user,
                        "message": message}  # fmt: skip
        parent = assistant


def otel(number: int, exchanges: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A span a row."""
    for index, (_, answer) in enumerate(exchanges):
        start_ns = (START_S + number * 600 + index * 60) * 10**9
        facts = {
            "gen_ai.request.model": MODELS[number % 4], "gen_ai.conversation.id": f"c{number}",
            "gen_ai.input.messages": json.dumps(messages_of(exchanges[: index + 1])),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": answer}]),
        }  # fmt: skip
        span = {
            "traceId": f"{number:032x}", "spanId": f"{index + 1:016x}",
            "startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + 10**9),
            "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in facts.items()],
        }  # fmt: skip
        yield {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


LAYOUTS: dict[str, Callable[[int, list[tuple[str, str]]], Iterator[dict[str, Any]]]] = {
    "flat": flat, "flat, by time": timed, "a message a row": message_rows, "LiteLLM": litellm,
    "Claude Code": claude_code, "OpenTelemetry": otel,
}  # fmt: skip


def write_log(path: Path, layout: str, mb: float) -> int:
    """Write a log of about that size; how many rows it has."""
    n_rows = 0
    with path.open("w") as stream:
        for number, exchanges in chats():
            for row in LAYOUTS[layout](number, exchanges):
                stream.write(json.dumps(row) + "\n")
                n_rows += 1
            if stream.tell() > mb * 1e6:
                return n_rows
    return n_rows


def ingested(log: Path, src: Path, out: Path) -> tuple[float, float]:
    """CPU seconds and peak gigabytes of reading a log; nan where a version does not know it."""
    os.environ["PYTHONPATH"] = str(src)
    try:
        _, cpu_s, peak_gb = measured(
            [sys.executable, "-c", INGEST, "ingest", str(log), "-o", str(out)]
        )
    except SystemExit:
        return math.nan, math.nan
    return cpu_s, peak_gb


def main() -> None:
    """Print one row a layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder for the logs")
    parser.add_argument("--mb", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--beside", type=Path, help="the src folder of another version")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    this = Path(__file__).resolve().parents[1] / "src"
    log, out = options.folder / "log.jsonl", options.folder / "turns.parquet"
    print(
        "| layout | MB | rows | parse MB/CPU s | ingest MB/CPU s | peak GB | other / this, CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    for layout in options.layouts:
        n_rows = write_log(log, layout, options.mb)
        parses, reads, beside_s = list[float](), list[tuple[float, float]](), list[float]()
        for _ in range(options.rounds):
            parses.append(measured([sys.executable, "-c", PARSE, str(log)])[1])
            for path in options.folder.glob("turns*"):
                path.unlink()
            reads.append(ingested(log, this, out))
            if options.beside:
                out.unlink()
                beside_s.append(ingested(log, options.beside, out)[0])
        mb, (cpu_s, peak_gb) = log.stat().st_size / 1e6, min(reads)
        print(
            f"| {layout} | {mb:.0f} | {n_rows:,} | {mb / min(parses):.0f} | {mb / cpu_s:.1f} "
            f"| {peak_gb:.2f} | {min(beside_s, default=math.nan) / cpu_s:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
