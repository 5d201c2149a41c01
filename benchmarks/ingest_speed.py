"""Rows a second, CPU time and peak memory of `turnout ingest`, by format and length of texts.

Usage: python benchmarks/ingest_speed.py FOLDER [--rows 1000000] [--chars 1000 10000 100000 1000000]

A row has a message and an answer of `chars` characters together, words drawn from 4,000, and the
usual columns; longer rows are fewer, so that every log has as many characters. Conversations have
1 to 7 turns, their rows lie in no order, one row in twenty is sent twice. Each log is deleted after
its measurement; one process at a time is measured, from its start to its end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dataset_scale import measured

INGEST = "from turnout.cli import main; main()"
TEXT_POOL_CHARS = 8_000_000
MODELS = ["claude-opus-4-5-20251101", "o3", "gpt-4o", "claude-sonnet-4-5-20250929"]
BATCH_CHARS = 20_000_000


def text_pool(rng: np.random.Generator) -> str:
    """Words of 2 to 9 letters, as in any other text drawn from a few thousand."""
    letters = rng.integers(97, 123, size=(4_000, 9), dtype=np.uint8)
    lengths = rng.integers(2, 10, size=4_000)
    words = [bytes(row[:n]).decode() for row, n in zip(letters, lengths, strict=True)]
    return " ".join(words[position] for position in rng.integers(0, 4_000, TEXT_POOL_CHARS // 6))


def batches(n_rows: int, chars: int) -> Iterator[list[dict[str, object]]]:
    """The rows of a log, some at a time."""
    rng = np.random.default_rng(0)
    pool = text_pool(rng)
    length = chars // 2
    places = rng.permutation(n_rows)
    size = max(1, BATCH_CHARS // chars)
    for first in range(0, n_rows, size):
        rows = []
        for place in places[first : first + size].tolist():
            # Every twentieth place repeats the one before it.
            turn = place - 1 if place % 20 == 19 else place
            start = turn * 7919 % (len(pool) - 2 * length)
            rows.append(
                {
                    "conversation_id": f"c{turn // 4 * 2654435761 % (1 << 32):08x}-{turn // 4}",
                    "turn_index": turn % 4 + 1,
                    "user_message": f"{turn} {pool[start : start + length]}",
                    "assistant_message": pool[start + length : start + 2 * length],
                    "model": MODELS[turn // 4 % 4],
                    "timestamp": f"2026-05-{turn % 28 + 1:02}T12:{turn % 60:02}:00Z",
                    "prompt_tokens": length // 4,
                    "completion_tokens": length // 4,
                    "user_id": f"u{turn // 20}",
                }
            )
        yield rows


def write_jsonl(path: Path, n_rows: int, chars: int) -> None:
    """As JSON Lines."""
    with path.open("w") as stream:
        for rows in batches(n_rows, chars):
            stream.writelines(json.dumps(row) + "\n" for row in rows)


def write_csv(path: Path, n_rows: int, chars: int) -> None:
    """As CSV with a header line."""
    with path.open("w", newline="") as stream:
        writer: csv.DictWriter[str] | None = None
        for rows in batches(n_rows, chars):
            if writer is None:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
            writer.writerows(rows)


def write_parquet(path: Path, n_rows: int, chars: int) -> None:
    """As Parquet, in row groups of about 20 MB of text."""
    writer: pq.ParquetWriter | None = None
    for rows in batches(n_rows, chars):
        table = pa.Table.from_pylist(rows)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


def measure(folder: Path, suffix: str, chars: int, n_rows: int, more: list[str]) -> str:
    """One row of the table."""
    log, out = folder / f"log.{suffix}", folder / "turns.parquet"
    WRITERS[suffix](log, n_rows, chars)
    load = os.getloadavg()[0]
    typed = ["ingest", str(log), "-o", str(out), *more]
    wall_s, cpu_s, peak_gb = measured([sys.executable, "-c", INGEST, *typed])
    n_kept = pq.read_metadata(out).num_rows
    size_gb = log.stat().st_size / 1e9
    for path in folder.iterdir():
        path.unlink()
    name = " ".join([suffix, *more])
    return (
        f"| {name} | {chars:,} | {n_rows:,} | {n_kept:,} | {size_gb:.2f} | {wall_s:.0f} "
        f"| {n_rows / wall_s:,.0f} | {cpu_s:.0f} | {n_rows / cpu_s:,.0f} | {peak_gb:.2f} "
        f"| {load:.1f} |"
    )


def main() -> None:
    """Print one row a log, as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder for the logs")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the shortest texts")
    parser.add_argument("--chars", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=list(WRITERS), choices=list(WRITERS))
    parser.add_argument("--redact", action="store_true", help="measure with --redact too")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    print(
        "| format | characters a row | rows | turns | GB | wall s | rows/s | CPU s | rows/CPU s "
        "| peak GB | load before |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for chars in arguments.chars:
        n_rows = arguments.rows * min(arguments.chars) // chars
        for suffix in arguments.formats:
            print(measure(arguments.folder, suffix, chars, n_rows, []), flush=True)
            if arguments.redact and suffix == "jsonl":
                print(measure(arguments.folder, suffix, chars, n_rows, ["--redact"]), flush=True)


if __name__ == "__main__":
    main()
