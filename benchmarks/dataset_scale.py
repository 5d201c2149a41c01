"""Time and peak memory of `turnout build` on logs of growing length, beside a bare scan of them.

Usage: python benchmarks/dataset_scale.py FOLDER [--turns 1000000 10000000 50000000]

The logs are made here: distinct texts of 1 to 5 sentences, one in twelve copied from a pool of
common ones, conversations of 1 to 30 turns (4.1 on average), users of about five conversations,
two models in 4 % of the conversations; answers are null. Each is deleted after its measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.schema import TURNS

CHUNK = 500_000
SENTENCES = 300_000
COMMON = 20_000
MODELS = ["claude-opus-4-5-20251101", "o3", "gpt-4o", "claude-sonnet-4-5-20250929", "gpt-4.1"]
SHARES = [0.2, 0.15, 0.3, 0.25, 0.1]
SCAN = """
import sys, duckdb
columns = ("conversation_id, turn_index, user_message, assistant_message, model, "
           "reasoning_tokens, user_id")
query = f"SELECT count(*), bit_xor(hash({columns})) FROM read_parquet(?)"
print(duckdb.connect().execute(query, [sys.argv[1]]).fetchone())
"""
BUILD = "from turnout.cli import main; main()"


def sentences(rng: np.random.Generator) -> pa.Array:
    """Distinct sentences of 5 to 15 words, about 60 characters."""
    letters = rng.integers(97, 123, size=(4_000, 9), dtype=np.uint8)
    lengths = rng.integers(2, 10, size=4_000)
    words = [bytes(row[:n]).decode() for row, n in zip(letters, lengths, strict=True)]
    picked = rng.integers(0, len(words), size=(SENTENCES, 15))
    counts = rng.integers(5, 16, size=SENTENCES)
    made = (" ".join(words[w] for w in row[:n]) for row, n in zip(picked, counts, strict=True))
    return pa.array(list(made))


def messages(rng: np.random.Generator, pool: pa.Array, n: int) -> pa.Array:
    """Texts of 1 to 5 sentences; one in twelve is one of a few."""
    parts = [pool.take(pa.array(rng.integers(0, SENTENCES, n))) for _ in range(5)]
    counts = rng.choice(5, size=n, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    joined = [parts[0]]
    joined += [
        pc.if_else(pa.array(counts >= number), part, pa.scalar(None, pa.string()))
        for number, part in enumerate(parts[1:], start=1)
    ]
    text = pc.binary_join_element_wise(*joined, ". ", null_handling="skip")
    copied = pool.take(pa.array(rng.integers(0, COMMON, n)))
    return pc.if_else(pa.array(rng.random(n) < 0.08), copied, text)


def chunk(rng: np.random.Generator, pool: pa.Array, first: int) -> pa.Table:
    """About `CHUNK` turns of whole conversations, in no order."""
    lengths = np.minimum(30, rng.geometric(0.25, size=CHUNK // 4))
    lengths = np.where(rng.random(len(lengths)) < 0.02, rng.integers(11, 31, len(lengths)), lengths)
    conversation = np.repeat(np.arange(first, first + len(lengths)), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    index = np.arange(len(conversation)) - starts + 1
    n = len(index)
    # Spread over all digits, as hashed ids are.
    mixed = (conversation.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64) >> 1
    user = (conversation // 5 * 2654435761) % (1 << 40)
    model = rng.choice(len(MODELS), size=len(lengths), p=SHARES)
    switched = rng.random(len(lengths)) < 0.042
    other = rng.choice(len(MODELS), size=len(lengths), p=SHARES)
    late = index > np.repeat(lengths // 2, lengths)
    used = np.where(
        np.repeat(switched, lengths) & late, np.repeat(other, lengths), np.repeat(model, lengths)
    )
    columns = {
        "conversation_id": pc.binary_join_element_wise(
            "c", pa.array(mixed).cast(pa.string()), pa.array(conversation).cast(pa.string()), "-"
        ),
        "turn_index": pa.array(index, pa.int32()),
        "user_message": messages(rng, pool, n),
        "model": pa.array(MODELS).take(pa.array(used)),
        "timestamp": pa.array(np.arange(n) + 1_700_000_000_000_000, pa.timestamp("us", tz="UTC")),
        "user_id": pa.array(user).cast(pa.string()),
    }
    arrays = [columns.get(f.name, pa.nulls(n, f.type)) for f in TURNS]
    table = pa.Table.from_arrays(arrays, schema=TURNS)
    return table.take(pa.array(rng.permutation(n)))


def write_log(path: Path, turns: int) -> int:
    """Write a log of about `turns` turns; the number written."""
    rng = np.random.default_rng(0)
    pool = sentences(rng)
    written = first = 0
    with pq.ParquetWriter(path, TURNS, compression="zstd", compression_level=1) as writer:
        while written < turns:
            table = chunk(rng, pool, first)[: turns - written]
            writer.write_table(table, row_group_size=122_880)
            written += len(table)
            first += CHUNK // 4
    return written


def measured(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak resident gigabytes of a process."""
    start = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(running.pid, 0)
    if status:
        raise SystemExit(f"failed: {command[:4]}")
    wall = time.perf_counter() - start
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024**2


def main() -> None:
    """Measure each length and print one line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--size", type=int, default=100_000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log, out = arguments.folder / "turns.parquet", arguments.folder / "data"
    for turns in arguments.turns:
        written = write_log(log, turns)
        scan = measured([sys.executable, "-c", SCAN, str(log)])
        load = os.getloadavg()[0]
        verb = ["build", str(log), "-o", str(out), "--architecture", "conversation"]
        build = measured([sys.executable, "-c", BUILD, *verb, "--size", str(arguments.size)])
        rows = json.loads((out / "dataset.json").read_text())["rows"]
        print(
            json.dumps(
                {
                    "turns": written,
                    "file_gb": round(log.stat().st_size / 1e9, 2),
                    "rows": rows,
                    "load_before": round(load, 1),
                    "scan_s": round(scan[0], 1),
                    "scan_cpu_s": round(scan[1], 1),
                    "build_s": round(build[0], 1),
                    "build_cpu_s": round(build[1], 1),
                    "ratio": round(build[0] / scan[0], 1),
                    "cpu_ratio": round(build[1] / scan[1], 1),
                    "peak_gb": round(build[2], 2),
                }
            ),
            flush=True,
        )
        log.unlink()


if __name__ == "__main__":
    main()
