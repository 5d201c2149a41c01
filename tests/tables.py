"""Small canonical tables for tests."""

import datetime as dt
from pathlib import Path

import pyarrow as pa

from turnout.parquet import write_parquet
from turnout.schema import TURNS

NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)


def turn(conversation_id: str, turn_index: int, message: str, model: str | None, **more):
    """One row of the turns table; a minute a turn."""
    row = dict.fromkeys(TURNS.names)
    return row | {
        "conversation_id": conversation_id,
        "turn_index": turn_index,
        "user_message": message,
        "model": model,
        "timestamp": NOON + dt.timedelta(minutes=turn_index),
        **more,
    }


def write_turns(path: Path, rows) -> Path:
    """The rows as a turns table on disk."""
    write_parquet(pa.Table.from_pylist(list(rows), TURNS), path)
    return path
