"""Rows on their way to the table: gathered on disk, so that memory stays small.

Long texts lie in a file of their own: an engine sorts thousands of rows at a time, whatever their
length. Keeps the account of what was dropped and mended on the way. Knows no file format and no
engine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.logs.columns import CALL_ID
from turnout.schema import TURNS

POSITION = "position"
N_CHARS = "n_chars"
# Where a long text of a row lies in the file of texts; its column then holds its digest.
TEXT_AT = {"user_message": "user_message_at", "assistant_message": "assistant_message_at"}
_LONG_CHARS = 1 << 13
_LENGTH_BYTES = 8
GATHERED = pa.schema(
    [
        *TURNS,
        pa.field(CALL_ID, pa.string()),  # null where the log has no calls
        pa.field(N_CHARS, pa.int64(), nullable=False),  # of the user's message
        *(pa.field(at, pa.int64()) for at in TEXT_AT.values()),
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
        passed_over: File of a folder that is no log → why.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    passed_over: dict[str, str] = field(default_factory=dict)


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


class Texts:
    """A file of texts, each found again by where it begins.

    Args:
        path: A new file, or one that was filled before.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, text: str) -> int:
        """Where it begins."""
        at = self._file.tell()
        stored = text.encode()
        self._file.write(len(stored).to_bytes(_LENGTH_BYTES) + stored)
        return at

    def at(self, at: int) -> str:
        """The text that begins there."""
        self._file.seek(at)
        n_bytes = int.from_bytes(self._file.read(_LENGTH_BYTES))
        return self._file.read(n_bytes).decode()


class Gathered(Spool):
    """Canonical rows.

    Args:
        path: A new file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, GATHERED)
        self.texts = path.with_suffix(".texts")
        self.has_calls = False
        self._texts = Texts(self.texts)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._texts:
            super().__exit__(kind, error, trace)

    def add(self, row: dict[str, Any]) -> None:
        """Take one canonical row."""
        self.has_calls |= row[CALL_ID] is not None
        row = row | {N_CHARS: len(row["user_message"])}
        for name, at in TEXT_AT.items():
            row[name], row[at] = self._put_aside(row[name])
        self.take(row, sum(len(row[name] or "") for name in TEXT_AT))

    def add_table(self, turns: pa.Table) -> None:
        """Take rows in the columns of `TURNS`."""
        n_rows = turns.num_rows
        n_chars = pc.utf8_length(turns["user_message"]).cast(pa.int64())
        places = []
        for name in TEXT_AT:
            found = pa.nulls(n_rows, pa.int64())
            if (pc.max(pc.utf8_length(turns[name])).as_py() or 0) > _LONG_CHARS:
                held, ats = zip(*map(self._put_aside, turns[name].to_pylist()), strict=True)
                field = turns.schema.get_field_index(name)
                turns = turns.set_column(field, turns.field(name), pa.array(held, pa.string()))
                found = pa.array(ats, pa.int64())
            places.append(found)
        calls = pa.nulls(n_rows, pa.string())
        self.take_table([*turns.columns, calls, n_chars, *places], n_rows)

    def _put_aside(self, text: str | None) -> tuple[str | None, int | None]:
        """A text as the row holds it, and where it lies if that is not all of it."""
        if text is None or len(text) <= _LONG_CHARS:
            return text, None
        return hashlib.sha256(text.encode()).hexdigest(), self._texts.put(text)
