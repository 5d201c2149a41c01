"""Gives every row of a log its turn index: the log's own, from 1, or its place in time.

Rows are not read into memory: the engine numbers them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import ibis

from turnout.engine import kept, read_parquet
from turnout.errors import RecordError
from turnout.logs.columns import BY_TIME
from turnout.logs.row_writer import POSITION, TurnRowWriter
from turnout.schema import TURN_KEYS

COUNTED_FROM_ZERO = "turn index counted from 0 (shifted by one)"


@dataclass(frozen=True, slots=True)
class NumberedRows:
    """The rows of a log, each with a turn index from 1.

    Attributes:
        rows: As `TurnRowWriter` wrote them, with the index in its place.
        refused: How many rows were left out, as their index is 0 where others begin at 1.
        cut: Conversations that lost such a row, one a row; None where there are none.
        mended: What was changed → rows.
    """

    rows: ibis.Table
    refused: int = 0
    cut: ibis.Table | None = None
    mended: Counter[str] = field(default_factory=Counter)


def numbered_rows(
    backend: ibis.BaseBackend, written: TurnRowWriter, *, skip_unreadable: bool
) -> NumberedRows:
    """Number the rows; see `NumberedRows`.

    Args:
        backend: Where they are numbered.
        written: The rows.
        skip_unreadable: Leave out rows with the index 0 where they cannot be shifted.

    Raises:
        RecordError: If some conversations begin at 0 and others do not.
    """
    rows = read_parquet(backend, written.path)
    if written.by_time:
        rows = _numbered_by_time(backend, rows)
    if written.first_zero is None:
        return NumberedRows(rows)
    starts = rows.group_by("conversation_id").agg(least=rows.turn_index.min())
    counts = starts.agg(all=starts.count(), late=(starts.least > 0).sum())
    (found,) = backend.to_pyarrow(counts).to_pylist()
    if not found["late"]:
        n_rows = int(backend.to_pyarrow(rows.count()).as_py())
        shifted = rows.mutate(turn_index=(rows.turn_index + 1).cast("int32"))
        return NumberedRows(shifted, mended=Counter({COUNTED_FROM_ZERO: n_rows}))
    if not skip_unreadable:
        raise RecordError(
            f"{written.first_zero}: turn_index is 0, and {found['late']:,} of {found['all']:,} "
            "conversations begin at another number; expected every conversation to begin at 0, or "
            "whole numbers from 1. Ingest files that count from 0 apart from others, or pass "
            "--skip-unreadable to leave out the rows with 0 and count them."
        )
    refused = rows.filter(rows.turn_index == 0)
    cut = kept(backend, refused.select("conversation_id").distinct())
    n_refused = int(backend.to_pyarrow(refused.count()).as_py())
    return NumberedRows(rows.filter(rows.turn_index > 0), n_refused, cut)


def _numbered_by_time(backend: ibis.BaseBackend, rows: ibis.Table) -> ibis.Table:
    """Rows without an index have their place in time.

    Rows of one time and one text are one turn. Rows without a time come last, as they were read.
    """
    alike = ibis.window(group_by=(*TURN_KEYS, "timestamp", "user_message"))
    in_time = ibis.window(
        group_by=TURN_KEYS,
        order_by=[ibis.asc("timestamp", nulls_first=False), ibis.asc("first_position")],
    )
    first = ibis.ifelse(rows.timestamp.isnull(), rows[POSITION], rows[POSITION].min().over(alike))
    placed = rows.mutate(first_position=first)
    place = (ibis.dense_rank().over(in_time) + 1).cast("int32")
    index = ibis.ifelse(placed.turn_index == BY_TIME, place, placed.turn_index)
    # Computed once: every later query would number the rows anew.
    places = kept(backend, placed.select(POSITION, place=index))
    joined = rows.join(places, POSITION)
    return joined.mutate(turn_index=joined.place).drop("place")
