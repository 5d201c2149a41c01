"""Reads tables that users bring (Parquet, CSV, JSON Lines): all rows, or an error with its place.

Rows of a log that cannot be read may be left out and counted. These tables are read to their last
row or not at all: labels, scores or texts with rows missing would give a wrong answer.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RecordError, first_line
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.schema import TURN_KEYS, stored_text

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_LABELS = {
    "0": LABEL_REASONING,
    "reasoning": LABEL_REASONING,
    "1": LABEL_FAST,
    "fast": LABEL_FAST,
}
_BATCH_ROWS = 10_000
_BUFFER_BYTES = 1 << 20
_MAX_TURN_INDEX = 2**31 - 1  # the turns table holds 32 bits
_INTEGER = re.compile(r"\d{1,18}(\.0*)?", re.ASCII)  # where a column has gaps, 3 is written 3.0
_Item = TypeVar("_Item")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        where: File and line, or row, for messages.
        values: Column → value as the file has it; an empty CSV field is None.
    """

    where: str
    values: Mapping[str, Any]

    def refused(self, name: str, expected: str) -> RecordError:
        """The error for a value that is not what was expected."""
        value = reprlib.repr(self.values.get(name))
        return RecordError(f"{self.where}: {name} is {value}; expected {expected}. Fix the row.")

    def text(self, name: str) -> str | None:
        """Text as it is written; None where there is none.

        Raises:
            RecordError: If it is no text.
        """
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.refused(name, "text")

    def identity(self, name: str) -> str | None:
        """Text as `turnout ingest` stores it, or a whole number's digits; None where there is none.

        Raises:
            RecordError: If it is neither.
        """
        value = without_fraction(self.values.get(name))
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        text = self.text(name)
        return text and stored_text(text)

    def integer(self, name: str) -> int | None:
        """A whole number from 0; None where it is anything else."""
        match = _INTEGER.fullmatch(str(self.values.get(name)))
        return int(match[0].partition(".")[0]) if match else None

    def number(self, name: str) -> float | None:
        """A number; None where it is anything else."""
        value = self.values.get(name)
        if isinstance(value, str):
            return float(value) if _NUMBER.fullmatch(value) else None
        try:
            return float(value) if isinstance(value, int | float | Decimal) else None
        except OverflowError:
            return None

    def turn(
        self, conversation: str = "conversation_id", turn: str = "turn_index"
    ) -> tuple[str, int]:
        """Conversation id and turn index, from columns of these names.

        Raises:
            RecordError: If one of them is missing or not valid.
        """
        conversation_id, index = self.identity(conversation), self.integer(turn)
        if conversation_id is None:
            raise self.refused(conversation, "an id")
        if index is None or not 1 <= index <= _MAX_TURN_INDEX:
            raise self.refused(turn, "a whole number from 1")
        return conversation_id, index

    def label(self, name: str = "label") -> int | None:
        """0 = reasoning, 1 = fast; None where it is not known yet.

        Raises:
            RecordError: If it is none of these.
        """
        value = self.values.get(name)
        if value is None or not str(value).strip():
            return None
        label = _LABELS.get(str(value).strip().lower().removesuffix(".0"))
        if label is None:
            raise self.refused(
                name, "0 or reasoning, 1 or fast, or nothing where it is not known yet"
            )
        return label


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a file: all, or some of them.

    Attributes:
        path: The file.
        names: All of its columns.
        columns: Those asked for, as far as it has them: one value a row.
        places: Line or row of each; of a file 1-based.
        by_line: Whether places are lines.
    """

    path: Path
    names: Sequence[str]
    columns: Mapping[str, list[Any]]
    places: Sequence[int]
    by_line: bool

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Row]:
        between = ":" if self.by_line else ": row "
        for place, *values in zip(self.places, *self.columns.values(), strict=True):
            named = dict(zip(self.columns, values, strict=True))
            yield Row(f"{self.path}{between}{place}", named)


def table_batches(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), *, remedy: str
) -> Iterator[Table]:
    """Every row of a file, in its order, some thousand at a time; at least one batch.

    A name that ends in .csv, .jsonl or .ndjson (also with .gz or .zst behind it) says the format;
    any other file is Parquet.

    Args:
        path: The file.
        required: Columns without which it is another table.
        optional: Columns to take where there are any.
        remedy: What to do where a column is missing.

    Raises:
        RecordError: If the file is absent, cannot be read to its end or, after the last row, lacks
            a column.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "not found"
        raise RecordError(f"{path}: {problem}; expected a table's file. Check the path.")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSIONS]
    reader = _READERS.get(suffixes[-1] if suffixes else "", _parquet)
    try:
        for batch in reader(path, (*required, *optional)):
            yield batch
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecordError(
            f"{path}: not readable ({first_line(error)}); expected a complete table: Parquet, or "
            "CSV or JSON Lines named .csv, .jsonl or .ndjson (also .gz, .zst). Copy it again, or "
            "give it the ending of its format."
        ) from error
    # Of JSON Lines the last row may name a column that no other has.
    require_columns(batch, required, remedy)


def read_whole_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), *, remedy: str
) -> Table:
    """Every row of a file at once; as `table_batches`.

    Raises:
        RecordError: If the file is absent, cannot be read to its end or lacks a column.
    """
    columns: dict[str, list[Any]] = {}
    places: list[int] = []
    for batch in table_batches(path, required, optional, remedy=remedy):
        for name, values in batch.columns.items():
            columns.setdefault(name, []).extend(values)
        places.extend(batch.places)
    return Table(path, batch.names, columns, places, batch.by_line)


def require_columns(table: Table, required: Sequence[str], remedy: str) -> None:
    """Refuse a table without these columns.

    Raises:
        RecordError: If it lacks one.
    """
    if missing := [name for name in required if name not in table.names]:
        names = ", ".join(table.names) or "none"
        raise RecordError(f"{table.path}: no column {', '.join(missing)}; found {names}. {remedy}")


def read_known_labels(path: Path) -> dict[tuple[str, int], int]:
    """Conversation and turn index → label, for turns whose need is labels.

    Raises:
        RecordError: If the file cannot be read, lacks a column or contradicts itself.
    """
    remedy = "Give turns whose need is labels, such as the truth that `turnout simulate` writes."
    labels: dict[tuple[str, int], int] = {}
    for row in read_whole_table(path, (*TURN_KEYS, "label"), remedy=remedy):
        label = row.label()
        if label is None:
            continue
        turn = row.turn()
        if labels.setdefault(turn, label) != label:
            raise row.refused("label", f"{labels[turn]}, as an earlier row has it for {turn}")
    return labels


def without_fraction(value: object) -> object:
    """3 for 3.0, which pandas makes of 3 where a column has gaps; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def decompressed(stream: pa.NativeFile, compression: str | None) -> io.BufferedReader:
    """The stream's bytes, decompressed; a file that ends early raises `OSError` when read."""
    if compression is None:
        return io.BufferedReader(stream, _BUFFER_BYTES)
    if stream.size() == 0:
        stream.close()
        raise OSError("it is empty, and even an empty compressed file has a header")
    return io.BufferedReader(pa.CompressedInputStream(stream, compression), _BUFFER_BYTES)


def _parquet(path: Path, requested: Sequence[str]) -> Iterator[Table]:
    with pq.ParquetFile(path) as file:
        names = _named_once(path, file.schema_arrow.names)
        present = [name for name in requested if name in names]
        start = 1
        for batch in file.iter_batches(_BATCH_ROWS, columns=present):
            columns = {name: batch[name].to_pylist() for name in present}
            yield Table(path, names, columns, range(start, start + len(batch)), by_line=False)
            start += len(batch)
    yield Table(path, names, {name: [] for name in present}, (), by_line=False)


def _csv(path: Path, requested: Sequence[str]) -> Iterator[Table]:
    with _opened(path) as stream:
        records = _records(path, stream)
        names = _named_once(path, next(records, (0, []))[1])
        positions = {name: names.index(name) for name in requested if name in names}
        for rows in _batched(records):
            for place, fields in rows:
                if len(fields) != len(names):
                    raise RecordError(
                        f"{path}:{place}: {len(fields)} fields; expected {len(names)}, as the "
                        "header names. Fix the row; a text with commas or line ends needs quotes."
                    )
            columns = {
                name: [fields[position] or None for _, fields in rows]
                for name, position in positions.items()
            }
            yield Table(path, names, columns, [place for place, _ in rows], by_line=True)


def _batched(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    """Lists of a batch's length; the last is shorter, and may be empty."""
    full = True
    while full:
        batch = list(itertools.islice(items, _BATCH_ROWS))
        full = len(batch) == _BATCH_ROWS
        yield batch


def _records(path: Path, stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """The first line of each record and its fields; empty lines at the end are ignored."""
    csv.field_size_limit(sys.maxsize)  # messages are longer than the module's 128 kB
    reader = csv.reader(_lines(path, stream), strict=True)
    start, width, blank = 1, 0, 0
    try:
        for fields in reader:
            width = width or len(fields)
            if blank and fields and width == 1:
                raise RecordError(
                    f"{path}:{blank}: a line without a value between rows; expected one a row, "
                    'written "" where it is empty. Fix the line.'
                )
            if fields:
                yield start, fields
            elif width:
                blank = blank or start
            start = reader.line_num + 1
    except csv.Error as error:
        raise RecordError(
            f"{path}:{start}: not CSV from this row on ({error}); expected every quote closed, and "
            "doubled inside a text. Fix the row, or copy the file again if it was cut."
        ) from error


def _json_lines(path: Path, requested: Sequence[str]) -> Iterator[Table]:
    names: dict[str, None] = {}
    with _opened(path) as stream:
        lines = (
            (place, _object(f"{path}:{place}", line))
            for place, line in enumerate(_lines(path, stream), start=1)
            if line.strip()
        )
        for rows in _batched(lines):
            for _, row in rows:
                names.update(dict.fromkeys(row))
            # A row that lacks a value may lack its name too.
            columns = {name: [row.get(name) for _, row in rows] for name in requested}
            yield Table(path, list(names), columns, [place for place, _ in rows], by_line=True)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line, strict=False)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{where}: not JSON ({error}); expected one object a line. Fix the line, or "
            "copy the file again if it was cut."
        ) from error
    if not isinstance(value, dict):
        raise RecordError(
            f"{where}: a JSON {type(value).__name__}; expected an object, column to value. Write "
            "one object a line."
        )
    return value


def _lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    """Lines with their line ends, without a byte order mark."""
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"{path}:{number}: not UTF-8 (byte 0x{error.object[error.start]:02x}); expected a "
                "complete file in UTF-8. Save it as UTF-8."
            ) from error


def _named_once(path: Path, names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise RecordError(
            f"{path}: a column is named twice ({', '.join(names)}); expected each name once. "
            "Rename one."
        )
    return names


def _opened(path: Path) -> io.BufferedReader:
    return decompressed(pa.OSFile(str(path)), COMPRESSIONS.get(path.suffix.lower()))


_READERS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Table]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
