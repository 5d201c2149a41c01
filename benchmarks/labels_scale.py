"""Time and peak memory of `turnout label` and `turnout switches` on logs of growing length.

Usage: python benchmarks/labels_scale.py FOLDER [--turns 1000000 10000000]

One log of 50,000 conversations (241,226 turns) is simulated, then written as often as it takes,
each time with ids, messages and durations of its own. Each is deleted after its measurement.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from dataset_scale import measured

from turnout.logs import ingest
from turnout.simulation import simulate

COMMAND = "from turnout.cli import main; main()"
COPY = """
COPY (
  SELECT * REPLACE (
    conversation_id || '-' || copy AS conversation_id,
    CASE WHEN length(user_message) < 12 THEN user_message
         ELSE user_message || ' ' || md5(conversation_id || copy)[:6] END AS user_message,
    CAST(duration_ms * (1 + copy / 1000) AS BIGINT) AS duration_ms)
  FROM read_parquet('{base}'), (SELECT unnest(range(CAST(ceil({times}) AS INT))) AS copy)
  WHERE copy + ('0x' || md5(conversation_id)[:8])::UBIGINT / 4294967296 < {times}
  ORDER BY md5(conversation_id || turn_index || copy)
) TO '{log}' (FORMAT parquet, COMPRESSION zstd)
"""


def write_base(folder: Path, base: Path) -> None:
    """The log of which the longer ones are copies."""
    simulate(folder, n_conversations=50_000, seed=3)
    ingest([folder / "turns.parquet"], base)


def write_log(base: Path, log: Path, turns: int) -> int:
    """A log of about so many turns, in no order, out of copies of a shorter one; the number."""
    connection = duckdb.connect()
    connection.execute(f"SET temp_directory = '{log.parent / 'spill'}'")
    connection.execute("SET memory_limit = '6GB'")
    connection.execute("SET TimeZone = 'UTC'")
    (n,) = connection.execute(f"SELECT count(*) FROM read_parquet('{base}')").fetchone()
    connection.execute(COPY.format(base=base, times=turns / n, log=log))
    return pq.read_metadata(log).num_rows


def main() -> None:
    """Measure each length and print one line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, nargs="+", default=[1_000_000, 10_000_000])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    base, log = folder / "base.parquet", folder / "turns.parquet"
    # The peak memory of a process begins with that of the one which starts it.
    maker = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    maker.submit(write_base, folder / "simulated", base).result()
    for turns in arguments.turns:
        measures: dict[str, float] = {"turns": maker.submit(write_log, base, log, turns).result()}
        measures["file_gb"] = round(log.stat().st_size / 1e9, 2)
        for stage, out in (("label", folder / "labels.parquet"), ("switches", folder / "switches")):
            load = os.getloadavg()[0]
            typed = [stage, str(log), "-o", str(out)]
            wall_s, cpu_s, peak_gb = measured([sys.executable, "-c", COMMAND, *typed])
            measures |= {
                f"{stage}_load_before": round(load, 1),
                f"{stage}_s": round(wall_s, 1),
                f"{stage}_cpu_s": round(cpu_s, 1),
                f"{stage}_peak_gb": round(peak_gb, 2),
            }
        print(json.dumps(measures), flush=True)
        log.unlink()


if __name__ == "__main__":
    main()
