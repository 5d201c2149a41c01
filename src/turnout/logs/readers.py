"""A log file → raw rows with their place; one reader a format; knows no canonical column.

To add a format, write a function from a path to rows and name its suffixes in `READERS`.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RecordError
from turnout.logs.specstory import conversation


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it.

    Attributes:
        where: File and line or row, for messages.
        values: Column → value; empty where `problem` is set.
        problem: Why the row cannot be read; None where it can.
    """

    where: str
    values: dict[str, Any]
    problem: str | None = None


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """JSON Lines, plain or gzip: one object a line; blank lines are passed over."""
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _json_row(f"{path}:{number}", line)


def read_csv(path: Path) -> Iterator[RawRow]:
    """CSV with a header line, plain or gzip."""
    csv.field_size_limit(sys.maxsize)  # messages are longer than the module's 128 kB
    with _opened(path) as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                yield RawRow(where, {}, "another number of fields than the header")
            else:
                yield RawRow(where, {k: v if v != "" else None for k, v in row.items()})


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Parquet, a batch of rows at a time."""
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=10_000):
                for values in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path}: row {number}", values)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]}); expected a whole "
            "Parquet file. If it was copied, copy it again."
        ) from error


def read_json(path: Path) -> Iterator[RawRow]:
    """One JSON document, plain or gzip: a list of objects, or an object that is one row."""
    with _opened(path) as stream:
        try:
            document = json.load(stream)
        except (ValueError, RecursionError) as error:
            raise RecordError(
                f"{path}: not JSON ({error}); expected a list of objects. If every line is an "
                "object of its own, name the file .jsonl."
            ) from error
    rows = document if isinstance(document, list) else [document]
    for number, values in enumerate(rows, start=1):
        where = f"{path}: item {number}"
        if isinstance(values, dict):
            yield RawRow(where, values)
        else:
            yield RawRow(where, {}, f"a JSON {type(values).__name__}, not an object")


def read_specstory(path: Path) -> Iterator[RawRow]:
    """A SpecStory session in Markdown; nothing where the file is other Markdown."""
    with _opened(path) as stream:
        found = conversation(stream.read(), path.stem)
    if found is not None:
        yield RawRow(str(path), found)


READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".json": read_json,
    ".json.gz": read_json,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".md": read_specstory,
    ".parquet": read_parquet,
}


def files_of(sources: Sequence[Path]) -> list[Path]:
    """The files that the sources name: files as they are, folders' and globs' readable ones sorted.

    Raises:
        RecordError: If a source names nothing, or a file of an unknown format.
    """
    files: list[Path] = []
    for source in sources:
        if source.is_dir():
            found = sorted(p for p in source.rglob("*") if p.is_file() and _reader(p) is not None)
        elif any(c in source.name for c in "*?["):
            found = sorted(p for p in source.parent.glob(source.name) if _reader(p) is not None)
        else:
            found = [source]
        if not found or not found[0].exists():
            raise RecordError(
                f"{source}: no log there; expected a file, a folder or a pattern of "
                f"{', '.join(READERS)}. Check the path."
            )
        files += found
    return files


def read_rows(path: Path) -> Iterator[RawRow]:
    """Rows of one file, by the reader of its suffix.

    Raises:
        RecordError: If the format is unknown or the file cannot be read at all.
    """
    reader = _reader(path)
    if reader is None:
        raise RecordError(
            f"{path}: an unknown format; expected one of {', '.join(READERS)}. "
            "Convert it, or rename it to what it is."
        )
    try:
        yield from reader(path)
    except (OSError, EOFError, csv.Error) as error:
        raise RecordError(
            f"{path}: cannot be read ({error}); expected a whole, readable file. Copy it again or "
            "check its permissions."
        ) from error


def _reader(path: Path) -> Callable[[Path], Iterator[RawRow]] | None:
    suffixes = "".join(path.suffixes[-2:]).lower()
    return READERS.get(suffixes) or READERS.get(path.suffix.lower())


def _opened(path: Path) -> TextIO:
    # A byte that is no UTF-8 costs one character, not the file. A byte-order mark is dropped.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _json_row(where: str, line: str) -> RawRow:
    try:
        values = json.loads(line)
    except ValueError as error:
        return RawRow(where, {}, f"not JSON ({error})")
    except RecursionError:
        return RawRow(where, {}, "JSON nested too deep")
    if not isinstance(values, dict):
        return RawRow(where, {}, f"a JSON {type(values).__name__}, not an object")
    return RawRow(where, values)
