"""Rows on their way to the table: gathered on disk, so that memory stays small.

Keeps the account of what was dropped and mended on the way. Knows no file format and no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.logs.columns import CALL_ID
from turnout.schema import TURNS

POSITION = "position"
GATHERED = pa.schema(
    [
        *TURNS,
        pa.field(CALL_ID, pa.string()),  # null where the log has no calls
        pa.field(POSITION, pa.int64(), nullable=False),  # order of reading: the last tie-breaker
    ]
)
_CHUNK_ROWS = 20_000
_CHUNK_CHARS = 1 << 25


@dataclass(slots=True)
class Account:
    """What became of rows that are not simply kept.

    Attributes:
        dropped: Reason → rows.
        mended: What had to be mended or left out of a row that was read → rows.
        redacted: Kind of find → how often it was replaced.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)


class Spool:
    """A Parquet file that takes rows, and writes them when they are many or long.

    Args:
        path: A new file.
        schema: Of its rows, with `POSITION`, which it fills in.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.n_rows = 0
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        self._rows: list[dict[str, Any]] = []
        self._chars = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.flush()
        self._writer.close()

    def take(self, row: dict[str, Any], n_chars: int) -> None:
        """Take one row, about as long as that."""
        self._rows.append(row | {POSITION: self.n_rows})
        self.n_rows += 1
        self._chars += n_chars
        if len(self._rows) >= _CHUNK_ROWS or self._chars >= _CHUNK_CHARS:
            self.flush()

    def take_table(self, columns: Sequence[pa.ChunkedArray], n_rows: int) -> None:
        """Take many rows at once: all columns but the last, `POSITION`."""
        self.flush()
        positions = pa.array(range(self.n_rows, self.n_rows + n_rows), pa.int64())
        self._writer.write_table(pa.table([*columns, positions], self._schema))
        self.n_rows += n_rows

    def flush(self) -> None:
        """Write what was taken row by row."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()
            self._chars = 0


class Gathered(Spool):
    """Canonical rows.

    Args:
        path: A new file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, GATHERED)
        self.has_calls = False

    def add(self, row: dict[str, Any]) -> None:
        """Take one canonical row."""
        self.has_calls |= row[CALL_ID] is not None
        self.take(row, len(row["user_message"]) + len(row["assistant_message"] or ""))

    def add_table(self, turns: pa.Table) -> None:
        """Take rows in the columns of `TURNS`."""
        calls = pa.nulls(turns.num_rows, pa.string())
        self.take_table([*turns.columns, calls], turns.num_rows)
