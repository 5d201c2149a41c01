"""Joins the parts of model calls, wherever they stand in a log, into one row a call.

The engine sorts the parts on disk, so that one call is held in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from turnout.engine import batches, read_parquet
from turnout.logs.formats import MAX_ROW_CHARS, RawRow
from turnout.logs.readers.messages import LoggedMessage, NoTurn, row_of
from turnout.logs.readers.model_calls import turn_of_call
from turnout.logs.readers.parts import OF_TRACE, CallPart
from turnout.logs.row_writer import POSITION, RowCounts, RowWriter

NOTHING_ASKED = "model call without a user message"
WRAPPER = "a span around model calls that were read"
NO_SPAN = "message of a model call that does not name its span"

_PARTS = pa.schema(
    [
        pa.field("trace", pa.string(), nullable=False),
        pa.field("span", pa.string(), nullable=False),
        pa.field("is_wrapper", pa.bool_(), nullable=False),
        pa.field("is_said", pa.bool_(), nullable=False),
        pa.field("at_ns", pa.int64(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # the rest of it, as JSON
        pa.field(POSITION, pa.int64(), nullable=False),  # order of reading
    ]
)
# Where two parts disagree the first one counts: spans before messages.
_IN_ORDER = ("trace", "is_wrapper", "span", "is_said", "at_ns", POSITION)
_TRACE, _CALL = itemgetter("trace"), itemgetter("is_wrapper", "span")


class CallParts(RowWriter):
    """Parts of calls, of all files of a log.

    Args:
        path: A new file.
        counts: Added to where a part names no call.
    """

    def __init__(self, path: Path, counts: RowCounts) -> None:
        super().__init__(path, _PARTS)
        self._counts = counts

    def add(self, part: CallPart, source: str) -> None:
        """Write one part.

        Args:
            part: The part of a call that a reader returned.
            source: The `source` of its turn.
        """
        if not (part.trace and part.span):
            if part.is_call and not part.has_turn:
                self._counts.dropped[NO_SPAN if part.said else NOTHING_ASKED] += 1
            return
        rest = {
            "facts": part.facts,
            "said": part.said,
            "again": part.occurrence,
            "has_turn": part.has_turn,
            "is_call": part.is_call,
            "where": part.where,
            "mended": part.mended,
            "source": source,
        }
        text = json.dumps(rest, default=str)
        row = {
            "trace": part.trace,
            "span": part.span,
            "is_wrapper": part.is_wrapper,
            "is_said": bool(part.said),
            "at_ns": part.at_ns,
            "part": text,
        }
        self.write(row, len(text))


def joined_calls(backend: ibis.BaseBackend, parts: Path) -> Iterator[RawRow]:
    """The turn of every call with a user message; calls without one are dropped and counted.

    A call whose span is missing names no model.

    Args:
        backend: Sorts the parts.
        parts: The file that `CallParts` wrote.
    """
    sorted_parts = batches(backend, read_parquet(backend, parts), _IN_ORDER)
    rows = chain.from_iterable(map(_rows, sorted_parts))
    for trace, in_trace in groupby(rows, key=_TRACE):
        has_turns = False
        of_trace: dict[str, Any] = {}
        # Spans around calls come last, when it is known whether a call in the trace gave a turn.
        for (is_wrapper, span), records in groupby(in_trace, key=_CALL):
            call = _Call()
            for record in records:
                call.add(record["at_ns"], json.loads(record["part"]))
            if span == OF_TRACE:  # it sorts before all others
                of_trace = call.facts
                continue
            call.facts = {**of_trace, **call.facts}
            if is_wrapper and has_turns:
                yield RawRow("", {}, dropped_as=WRAPPER)
                continue
            for row in call.rows(trace, span):
                has_turns |= row.dropped_as is None and not is_wrapper
                yield row
            has_turns |= call.has_turn


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch one by one, so that long messages are not in memory twice."""
    for row in zip(*batch.columns, strict=True):
        yield {name: cell.as_py() for name, cell in zip(batch.schema.names, row, strict=True)}


class _Call:
    """One call, put together of its parts."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._messages: list[LoggedMessage] = []
        self._mended: set[str] = set()
        self._seen: set[str] = set()
        self._where = ""
        self._n_chars = 0
        self._is_call = self.has_turn = False

    def add(self, at_ns: int, part: dict[str, Any]) -> None:
        self._is_call |= part["is_call"]
        self.has_turn |= part["has_turn"]
        for name, value in part["facts"].items():
            if value is not None:
                self.facts.setdefault(name, value)
        if part["said"]:
            self._add_said(at_ns, part)

    def _add_said(self, at_ns: int, part: dict[str, Any]) -> None:
        key = json.dumps([at_ns, part["again"], part["said"]])
        if key in self._seen or self._n_chars > MAX_ROW_CHARS:
            return
        self._seen.add(key)
        self._n_chars += len(key)
        self._messages += (LoggedMessage(role, text) for role, text in part["said"])
        self._mended.update(part["mended"])
        self._where = self._where or part["where"]
        self.facts.setdefault("source", part["source"])

    def rows(self, trace: str, span: str) -> Iterator[RawRow]:
        if self._n_chars > MAX_ROW_CHARS:
            problem = f"a model call of more than {MAX_ROW_CHARS:,} characters"
            yield RawRow(self._where, {}, problem)
            return
        named = {"conversation_id": self.facts.get("conversation_id") or trace}
        is_named = bool(self.facts.get("conversation_id"))
        turns = turn_of_call(self._messages, self.facts | named, span, named=is_named)
        if isinstance(turns, NoTurn):
            yield RawRow(self._where, {}, dropped_as=turns.reason)
            return
        for turn in turns:
            yield row_of(turn, self._where, tuple(sorted(self._mended)))
        if self._is_call and not turns and not self.has_turn:
            yield RawRow(self._where, {}, dropped_as=NOTHING_ASKED)
