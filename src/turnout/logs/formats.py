"""Reads log files into raw rows, each with its place: one function a file format.

To add a format, write a function from a file to rows and name its suffix in `FORMATS`. Files are
decompressed before: `.gz` and `.zst` may follow any suffix but Parquet's, which compresses itself.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RecordError
from turnout.logs.archives import ARCHIVE
from turnout.logs.columns import DECODER, NOT_UTF8, NotALogError
from turnout.logs.places import LogFile
from turnout.logs.stores import reason

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

# A longer line is no row of a log but another kind of file; it must not fill the memory.
MAX_ROW_CHARS = 1 << 28
_CHUNK_CHARS = 1 << 20
_HEADER_CHARS = 1 << 16
_BATCH_BYTES = 1 << 25
_BATCH_ROWS = 10_000
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
# Excel says which separator it wrote in a line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_SEPARATORS = (",", ";", "\t", "|")
_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_SHOWN_CHARS = 80
# What JSON text begins with after its first bracket.
_JSON_BEGINS = re.compile(r"\s*[\[{]\s*[\"\[{\]}\d.tfn-]|\s*[\[{]?\s*\Z|\s*[\d\"tfn-]")
_CUT_WORDS = ("-", *(word[:n] for word in ("true", "false", "null") for n in range(1, len(word))))
_RECORD_SEPARATOR = "\x1e"  # before each line of a JSON text sequence (RFC 7464)
_LINES_THAT_TELL = 20


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it.

    Attributes:
        where: File and line or row, for messages.
        values: Column → value; empty where `problem` is set. Of a row with `dropped_as`, those of a
            call that failed; else empty too.
        problem: Why the row cannot be read; None where it can.
        mended: What had to be mended to read it.
        dropped_as: The reason why it is left out though nothing is wrong with it; None where it is
            not.
        is_read: Whether a reader of its source made it: the person's words are taken apart from a
            product's, and helper calls are gone.
    """

    where: str
    values: dict[str, Any]
    problem: str | None = None
    mended: tuple[str, ...] = ()
    dropped_as: str | None = None
    is_read: bool = False


def read_jsonl(file: LogFile) -> Iterator[RawRow]:
    """JSON Lines: one object a line, or several; blank lines are passed over.

    A file that is one JSON document under this suffix is read as such.
    """
    with file.opened() as stream:
        is_document = _begins_document(next(_text(stream), ("", False))[0])
    if is_document:
        yield from read_json(file)
        return
    with file.opened() as stream:
        for number, line in enumerate(_lines(stream), start=1):
            where = f"{file.name}:{number}"
            if len(line) > MAX_ROW_CHARS:
                yield RawRow(where, {}, f"a line of more than {MAX_ROW_CHARS:,} characters")
            elif line.strip():
                text, mended = _mended(line.lstrip(_RECORD_SEPARATOR))
                yield from _json_rows(where, text, mended)


def _begins_document(text: str) -> bool:
    """Whether a text begins with a list, or with an object over several lines."""
    lines = [line.strip() for line in text.split("\n", maxsplit=_LINES_THAT_TELL) if line.strip()]
    if not lines or lines[0].startswith("["):
        return bool(lines)
    if not lines[0].startswith("{") or len(lines) == 1:
        return False
    # Half an object with whole ones after it is a row that is broken.
    return not lines[0].endswith("}") and not lines[1].startswith("{")


def read_csv(file: LogFile) -> Iterator[RawRow]:
    """CSV with a header line, from which the separator is recognised."""
    with file.opened() as stream:
        lines = _lines(stream, newline="")  # the ends of old Macs too
        first, lines_before = _first_line(lines)
        if said := _SEPARATOR_LINE.fullmatch(first.strip("\r\n\ufeff ")):
            first, blank = _first_line(lines)
            lines_before += 1 + blank
        separator = said[1] if said else _separator(first)
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        header = _csv_header(reader, file.name, lines_before)
        csv.field_size_limit(sys.maxsize)  # messages are longer than the module's 128 kB
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{file.name}:{reader.line_num + lines_before}"
                yield RawRow(where, {}, f"not CSV ({error})")
                continue
            if any(fields):  # a spreadsheet writes the separators of empty rows
                yield _csv_row(f"{file.name}:{reader.line_num + lines_before}", header, fields)


def _first_line(lines: Iterator[str]) -> tuple[str, int]:
    """The first line that is not blank, and the number of lines before it."""
    for number, line in enumerate(lines):
        if line.strip():
            return line, number
    return "", 0


def _csv_header(reader: CsvReader, name: str, lines_before: int) -> list[str]:
    csv.field_size_limit(_HEADER_CHARS)  # an unclosed quote must not take the whole file
    where = f"{name}:{lines_before + 1}"
    try:
        fields = [_mended(field)[0] for field in next(reader, [])]
    except csv.Error as error:
        raise RecordError(
            f"{where}: the header is not CSV ({error}); expected the names of the columns between "
            "commas, semicolons, tabs or bars. Fix its quotes."
        ) from error
    # Spreadsheets write columns without a name after the last one.
    header = [name or f"column {number}" for number, name in enumerate(fields, start=1)]
    if len(set(header)) < len(header):
        raise RecordError(
            f"{where}: a column is named twice ({', '.join(header)}); expected each name once. "
            "Rename one."
        )
    return header


def _separator(header: str) -> str:
    """The separator of a header line; a comma if it has one."""
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(
        _SEPARATORS, key=lambda mark: (mark == "," and mark in unquoted, unquoted.count(mark))
    )


def read_json(file: LogFile) -> Iterator[RawRow]:
    """JSON: a list of objects, an item at a time, or one object after the other, a row each."""
    with file.opened() as stream:
        pieces = _text(stream)
        first = next(pieces, ("", False))
        if not _JSON_BEGINS.match(first[0]):
            raise NotALogError(
                f"{file.name}: it does not begin as JSON does; expected a list of objects, or one "
                "object after the other. Rename it to what it is."
            )
        yield from _document_rows(file.name, chain([first], pieces))


def _document_rows(name: str, pieces: Iterator[tuple[str, bool]]) -> Iterator[RawRow]:
    items = _items(pieces)
    for number in range(1, sys.maxsize):
        try:
            values, mended = next(items)
        except StopIteration:
            return
        except (ValueError, RecursionError) as error:
            kind = NotALogError if number == 1 and not _is_cut(error) else RecordError
            raise kind(
                f"{name}: not JSON at item {number} ({error}); expected a whole list of objects, "
                "or one object after the other. Copy it again."
            ) from error
        yield _object_row(f"{name}: item {number}", values, mended)


def _is_cut(error: Exception) -> bool:
    """Whether the text is JSON that ends too early, and not another format."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    rest = error.doc[error.pos :].strip()
    return error.msg.startswith("Unterminated") or rest in ("", *_CUT_WORDS)


def read_markdown(file: LogFile) -> Iterator[RawRow]:
    """A Markdown file as one row: its text and its name."""
    with file.opened() as stream:
        chunks = list(_text(stream))
    mended = (NOT_UTF8,) if any(mended for _, mended in chunks) else ()
    text = "".join(text for text, _ in chunks)
    yield RawRow(file.name, {"markdown": text, "name": file.stem}, mended=mended)


def read_parquet(file: LogFile) -> Iterator[RawRow]:
    """Parquet, a batch of rows at a time."""
    number = 0
    for batch in parquet_batches(file):
        for values in batch.to_pylist():
            number += 1
            yield RawRow(f"{file.name}: row {number}", values)


FORMATS: dict[str, Callable[[LogFile], Iterator[RawRow]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".md": read_markdown,
    ".parquet": read_parquet,
}
FORMAT_NAMES = f"{', '.join(FORMATS)} (also .gz and .zst, but for Parquet), {ARCHIVE}"


def is_log(file: LogFile) -> bool:
    """Whether the file's format is known."""
    return _format(file) is not None


def is_parquet(file: LogFile) -> bool:
    """Whether the file can be read by columns."""
    return _format(file) is read_parquet


def read_rows(file: LogFile) -> Iterator[RawRow]:
    """Rows of one file, by the function of its suffix.

    Raises:
        RecordError: If the format is unknown or the file cannot be read to its end.
    """
    reader = _format(file)
    if reader is None:
        raise RecordError(
            f"{file.name}: an unknown format; expected one of {FORMAT_NAMES}. "
            "Convert it, or rename it to what it is."
        )
    try:
        yield from reader(file)
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as error:
        raise RecordError(
            f"{file.name}: cannot be read to its end ({reason(error)}); expected a whole, "
            "readable file. Copy it again or check its permissions."
        ) from error


def parquet_batches(file: LogFile) -> Iterator[pa.RecordBatch]:
    """A Parquet file's rows in order, in batches of about 32 MB; times in microseconds.

    Raises:
        RecordError: If it is not whole Parquet.
    """
    try:
        with (
            file.at_random() as stream,
            pq.ParquetFile(stream, buffer_size=_CHUNK_CHARS) as parquet,
        ):
            facts = parquet.metadata
            groups = [facts.row_group(n) for n in range(facts.num_row_groups)]
            n_bytes = sum(group.total_byte_size for group in groups)
            row_bytes = 1 + n_bytes // max(1, facts.num_rows)
            batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            schema = pa.schema(
                [field.with_type(_plain(field.type)) for field in parquet.schema_arrow]
            )
            for batch in parquet.iter_batches(batch_size=batch_rows):
                yield batch.cast(schema, safe=False) if batch.schema != schema else batch
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{file.name}: not readable as Parquet ({reason(error)}); expected a whole "
            "Parquet file. If it was copied, copy it again."
        ) from error


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with times in microseconds, which Python can hold; dates become times."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_date(kind):
        return pa.timestamp("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _format(file: LogFile) -> Callable[[LogFile], Iterator[RawRow]] | None:
    return FORMATS.get((file.suffixes or [""])[-1])


def _lines(stream: io.BufferedReader, newline: str = "\n") -> Iterator[str]:
    """Lines with their ends; a byte that is no UTF-8 comes as a lone surrogate.

    A line that is longer than any row comes cut, so that its length tells.
    """
    encoding = _encoding(stream)
    if encoding == "utf-8":
        text = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline=newline)
    else:
        text = io.TextIOWrapper(stream, encoding, newline=newline)
    while line := text.readline(MAX_ROW_CHARS + 1):
        yield line
        while len(line) > MAX_ROW_CHARS and not line.endswith("\n"):
            line = text.readline(MAX_ROW_CHARS + 1)


def _text(stream: io.BufferedReader) -> Iterator[tuple[str, bool]]:
    """The text in pieces of about a megabyte, and whether a piece had to be mended."""
    encoding = _encoding(stream)
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    reader = io.TextIOWrapper(stream, encoding, errors=errors, newline="")
    while piece := reader.read(_CHUNK_CHARS):
        text, mended = _mended(piece)
        yield text, bool(mended)


def _encoding(stream: io.BufferedReader) -> str:
    """UTF-8, -16 or -32, by the byte-order mark (passed over) or by where the NUL bytes are."""
    start = stream.peek(4)[:4]
    encoding = json.detect_encoding(start)
    if encoding == "utf-8-sig":
        stream.read(3)
        return "utf-8"
    return encoding


def _mended(text: str) -> tuple[str, tuple[str, ...]]:
    """Bytes that are not UTF-8, read as Windows-1252, which they most likely are."""
    if text.isascii() or not _ESCAPED_BYTE.search(text):
        return text, ()
    as_1252 = _ESCAPED_BYTE.sub(
        lambda match: bytes([ord(match[0]) - 0xDC00]).decode("cp1252", "replace"), text
    )
    return as_1252, (NOT_UTF8,)


def _json_rows(where: str, text: str, mended: tuple[str, ...]) -> Iterator[RawRow]:
    """The rows of a line: several if it holds objects without a line end between them."""
    try:
        yield _object_row(where, DECODER.decode(text), mended)
    except ValueError as error:
        values = _values_in(text)
        if values is None:
            yield RawRow(where, {}, f"not JSON ({error})")
            return
        for number, value in enumerate(values, start=1):
            yield _object_row(f"{where}, object {number}" if number > 1 else where, value, mended)
    except RecursionError:
        yield RawRow(where, {}, "JSON nested too deep")


def _values_in(text: str) -> list[object] | None:
    """The values of a line, with or without commas between them; None where it holds more."""
    values: list[object] = []
    offset = _SPACE.match(text).end()  # type: ignore[union-attr]
    while offset < len(text):
        try:
            value, end = DECODER.raw_decode(text, offset)
        except (ValueError, RecursionError):
            return None
        values.append(value)
        offset = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
    return values


def _object_row(where: str, values: object, mended: tuple[str, ...] = ()) -> RawRow:
    if isinstance(values, list) and values and is_bare_message(values[0]):
        values = {"messages": values}
    if not isinstance(values, dict):
        return RawRow(where, {}, f"a JSON {type(values).__name__}, not an object")
    return RawRow(where, values, mended=mended)


def _csv_row(where: str, header: list[str], fields: list[str]) -> RawRow:
    if len(fields) != len(header):
        names = ", ".join(header)[:_SHOWN_CHARS]
        return RawRow(
            where, {}, f"{len(fields)} fields; the first line names {len(header)}: {names}"
        )
    texts = [_mended(field) for field in fields]
    values = {name: text or None for name, (text, _) in zip(header, texts, strict=True)}
    return RawRow(where, values, mended=next((m for _, m in texts if m), ()))


def _items(pieces: Iterator[tuple[str, bool]]) -> Iterator[tuple[object, tuple[str, ...]]]:
    """The items of a JSON list, or the values that follow one another in any other document."""
    document = _Document(pieces)
    while char := document.next_char():
        if char == "[":
            yield from _list_items(document)
        else:
            yield document.value()
        if document.next_char() == ",":  # rows that were cut out of a list
            document.offset += 1


def _list_items(document: _Document) -> Iterator[tuple[object, tuple[str, ...]]]:
    """The items of a list; a list of messages that name no conversation is one item."""
    document.offset += 1
    if document.next_char() == "]":
        document.offset += 1
        return
    first, mended = document.value()
    whole: list[object] | None = [first] if is_bare_message(first) else None
    if whole is None:
        yield first, mended
    while document.next_char() == ",":
        document.offset += 1
        item, item_mended = document.value()
        if whole is None:
            yield item, item_mended
        else:
            whole.append(item)
            mended = mended or item_mended
    document.expect("]")
    if whole is not None:
        yield {"messages": whole}, mended


def is_bare_message(item: object) -> bool:
    """Whether an item is a message as chat completions write it, and names no conversation."""
    if not isinstance(item, dict):
        return False
    facts = item["info"] if isinstance(item.get("info"), dict) else item
    if not {"role", "from"} & facts.keys():
        return False
    if not {"content", "value", "text", "parts"} & item.keys():
        return False
    return not any(
        re.search("conversation|session|thread|chat|dialog", name, re.I) for name in item
    )


class _Document:
    """A JSON text that is read value by value, so that only one is in memory."""

    def __init__(self, pieces: Iterator[tuple[str, bool]]) -> None:
        self._pieces = pieces
        self._text = ""
        self._was_mended = False
        self.offset = 0

    def next_char(self) -> str:
        """Move to the next character that is not a space, and return it; empty at the end."""
        while True:
            self.offset = _SPACE.match(self._text, self.offset).end()  # type: ignore[union-attr]
            if self.offset < len(self._text):
                return self._text[self.offset]
            if not self._more(1):
                return ""

    def expect(self, char: str) -> None:
        if self.next_char() != char:
            raise json.JSONDecodeError(f"expected {char or 'the end'!r}", self._text, self.offset)
        self.offset += len(char)

    def value(self) -> tuple[object, tuple[str, ...]]:
        self.next_char()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self.offset)
            except json.JSONDecodeError:
                held = len(self._text) - self.offset
                # Twice as much each time, so that a long value is not read over and over.
                if held > MAX_ROW_CHARS or not self._more(held + 1):
                    raise
                continue
            if end == len(self._text) and self._more(1):
                continue  # a number may go on
            self.offset = end
            return value, (NOT_UTF8,) if self._was_mended else ()

    def _more(self, n_chars: int) -> bool:
        """Read on by that many characters at least; False at the end."""
        pieces = [self._text[self.offset :]]
        self._was_mended &= bool(pieces[0])
        self.offset = 0
        while n_chars > 0 and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece[0])
            self._was_mended |= piece[1]
            n_chars -= len(piece[0])
        self._text = "".join(pieces)
        return len(pieces) > 1
