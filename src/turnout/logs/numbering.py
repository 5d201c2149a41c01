"""Gives every row of a log its turn index: the log's own, from 1, or its place in time.

Rows are not read into memory: the engine numbers them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ibis

from turnout.chosen_by.fallbacks import MIN_CHOICE_S
from turnout.engine import materialized, read_parquet
from turnout.errors import RecordError
from turnout.logs.columns import BY_TIME, CALL_ID
from turnout.logs.conversations import placed_requests
from turnout.logs.row_writer import POSITION, TurnRowWriter
from turnout.schema import TURN_KEYS

JOINED = "request joined by its history to a conversation of another id"
SPLIT = "request split by its history from conversations that share its id or beginning"
OTHER_BRANCH = "another branch of the conversation (the person ended on a later one)"
COUNTED_MESSAGES = "turn index that counts messages (counted anew)"
COUNTED_FROM_ZERO = "turn index counted from 0 (shifted by one)"


@dataclass(frozen=True, slots=True)
class NumberedRows:
    """The rows of a log, each with its conversation and a turn index from 1.

    Attributes:
        rows: As `TurnRowWriter` wrote them, with id and index in their places; `continued`, whether
            a later request repeats the row's answer; and `asks`, whether the row is a request of a
            person in a conversation that is sure, rather than one that gives results of tools back.
        refused: How many rows were left out, as their index is 0 where others begin at 1.
        other_branch: How many rows were left out, as the person went on from another answer.
        cut: Conversations that lost such a row, one a row; None where there are none.
        mended: What was changed → rows.
    """

    rows: ibis.Table
    refused: int = 0
    other_branch: int = 0
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
    no = ibis.literal(False)
    rows = read_parquet(backend, written.path).mutate(continued=no, asks=no)
    if written.failed_calls is not None:
        rows = _with_fallbacks_marked(backend, rows, written.failed_calls.path)
    if written.by_time:
        rows = _numbered_by_time(backend, rows)
    if written.transcripts is not None:
        return _with_requests_placed(backend, rows, written.transcripts.path)
    if written.counts_messages:
        n_rows = int(backend.to_pyarrow(rows.count()).as_py())
        halved = rows.mutate(turn_index=((rows.turn_index + 2) // 2).cast("int32"))
        return NumberedRows(halved, mended=Counter({COUNTED_MESSAGES: n_rows}))
    if written.first_zero is None:
        return NumberedRows(rows)
    starts = rows.group_by("conversation_id").agg(least=rows.turn_index.min())
    counts = starts.agg(all=starts.count(), late=(starts.least > 0).sum())
    (counted,) = backend.to_pyarrow(counts).to_pylist()
    if not counted["late"]:
        n_rows = int(backend.to_pyarrow(rows.count()).as_py())
        shifted = rows.mutate(turn_index=(rows.turn_index + 1).cast("int32"))
        return NumberedRows(shifted, mended=Counter({COUNTED_FROM_ZERO: n_rows}))
    if not skip_unreadable:
        raise RecordError(
            f"{written.first_zero}: turn_index is 0, and {counted['late']:,} of {counted['all']:,} "
            "conversations begin at another number; expected every conversation to begin at 0, or "
            "whole numbers from 1. Ingest files that count from 0 apart from others, or pass "
            "--skip-unreadable to leave out the rows with 0 and count them."
        )
    refused = rows.filter(rows.turn_index == 0)
    cut = materialized(backend, refused.select("conversation_id").distinct())
    n_refused = int(backend.to_pyarrow(refused.count()).as_py())
    return NumberedRows(rows.filter(rows.turn_index > 0), refused=n_refused, cut=cut)


def _with_requests_placed(
    backend: ibis.BaseBackend, rows: ibis.Table, transcripts: Path
) -> NumberedRows:
    placed = materialized(backend, placed_requests(backend, transcripts))
    ids = rows.select(POSITION, "conversation_id")
    first = placed.select(of_row="of_row").distinct().join(ids, [("of_row", POSITION)])
    of_id = ibis.window(group_by="conversation_id", order_by="of_row")
    first = first.mutate(number=ibis.row_number().over(of_id) + 1)
    named = ibis.ifelse(
        first.number == 1,
        first.conversation_id,
        first.conversation_id + "#" + first.number.cast("string"),
    )
    first = first.select("of_row", base_id="conversation_id", number="number", new_id=named)
    placed = placed.join(first, "of_row")
    slim = placed.select(
        "row", "base_id", "number", "new_id", "place", "other_branch", "asks_anew",
        answered_on="continued",
    )  # fmt: skip
    joined = rows.left_join(slim, [(POSITION, "row")])
    joined = materialized(
        backend,
        joined.select(
            POSITION,
            new_id=ibis.coalesce(joined.new_id, joined.conversation_id),
            place=ibis.coalesce(joined.place, joined.turn_index),
            goes_on=joined.answered_on.fill_null(False),
            asks_anew=joined.asks_anew.fill_null(False),
            other_branch=joined.other_branch.fill_null(False),
            joined=(joined.base_id != joined.conversation_id).fill_null(False),
            split=(joined.number > 1).fill_null(False),
        ),
    )
    sums = joined.agg(**{name: joined[name].sum() for name in ("other_branch", "joined", "split")})
    (counts,) = backend.to_pyarrow(sums).to_pylist()
    rows = rows.join(joined.filter(~joined.other_branch), POSITION)
    rows = rows.mutate(
        conversation_id="new_id", turn_index="place", continued="goes_on", asks="asks_anew"
    )
    mended = Counter({JOINED: counts["joined"] or 0, SPLIT: counts["split"] or 0})
    return NumberedRows(
        rows.drop("new_id", "place", "goes_on", "asks_anew", "other_branch", "joined", "split"),
        other_branch=counts["other_branch"] or 0,
        mended=+mended,
    )


def _with_fallbacks_marked(
    backend: ibis.BaseBackend, rows: ibis.Table, failed_calls: Path
) -> ibis.Table:
    """The rows, with the product as who chose right after another model failed in the conversation.

    Nobody can read an error, choose another model and send again as soon as that.
    """
    calls = rows.filter(rows[CALL_ID].notnull(), rows.timestamp.notnull())
    calls = calls.select(
        "conversation_id", "model", POSITION, at="timestamp", is_call=ibis.literal(True),
        failed_model=ibis.null("string"), failed_at=ibis.null(calls.timestamp.type()),
    )  # fmt: skip
    failed = read_parquet(backend, failed_calls)
    failed = failed.select(
        "conversation_id", model=ibis.null("string"), **{POSITION: ibis.null("int64")},
        at="failed_at", is_call=ibis.literal(False), failed_model="failed_model",
        failed_at="failed_at",
    )  # fmt: skip
    events = ibis.union(calls, failed)
    before = ibis.window(group_by="conversation_id", order_by=["at", "is_call"], rows=(None, -1))
    events = events.mutate(
        last_model=events.failed_model.argmax(events.failed_at).over(before),
        last_at=events.failed_at.max().over(before),
    )
    waited_s = events["at"].epoch_seconds() - events.last_at.epoch_seconds()
    fell_back = events.filter(
        events.is_call, events.model != events.last_model, waited_s < MIN_CHOICE_S
    )
    positions = materialized(backend, fell_back.select(POSITION))
    by_product = rows[POSITION].isin(positions[POSITION])
    product = ibis.ifelse(by_product, "product", ibis.null("string"))
    return rows.mutate(chosen_by=ibis.coalesce(rows.chosen_by, product))


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
    places = materialized(backend, placed.select(POSITION, place=index))
    joined = rows.join(places, POSITION)
    return joined.mutate(turn_index=joined.place).drop("place")
