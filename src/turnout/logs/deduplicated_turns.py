"""Writes the turns table from all rows that were read: one row a turn, the others counted.

The engine sorts the rows on disk; they are written in the order in which they leave the sort.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.chosen_by.fallbacks import MIN_CHOICE_S
from turnout.engine import batches, materialized
from turnout.logs.columns import CALL_ID
from turnout.logs.row_writer import (
    N_CHARS,
    POSITION,
    TEXT_OFFSETS,
    TURN_ROWS,
    TextFile,
    TurnRowWriter,
)
from turnout.parquet import write_parquet_in_order
from turnout.schema import FAILED, TURN_KEYS, TURNS

RESENT = "sent again (the longest is kept)"
ELSEWHERE = "also in another source (the longest is kept)"
ANOTHER_TEXT = "another text under the same turn index (the longest is kept)"
ANOTHER_PRODUCT = (
    "another text under the same turn index in another source (--source keeps products apart)"
)
ANOTHER_REQUEST = "request with another message in its place (the later one is kept)"
ANOTHER_CALL = "another model call of the turn (added to it)"

_TOOLS_OF_CALLS = "tools_of_calls"
_COLUMNS = [*TURNS.names, *TEXT_OFFSETS.values()]
_TO_COMPARE = ("text", "offset", "kept_offset", "same_text", "other_text")
_MAX_CHARS = 1 << 25  # of long texts, in one batch
_ADDED_UP = (
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens",
    "cache_write_tokens", "duration_ms",
)  # fmt: skip
# A router decides at the first call of a turn; later calls repeat nothing of it.
_DECIDED = (
    "requested_model", "decided_class", "p_reasoning", "population", "threshold", "policy",
    "propensity", "router",
)  # fmt: skip


def write_turns(
    backend: ibis.BaseBackend, rows: ibis.Table, written: TurnRowWriter, out: Path
) -> Counter[str]:
    """Write one row a turn, in order of conversation and turn.

    Of several rows for a turn the one with the longest message stays; among those, one that did
    not fail, then one whose answer a later request repeats, then one that names its model, then the
    latest, then the one that was read last. Calls of one turn are added up.

    Args:
        backend: Where they are sorted.
        rows: The rows, each with its turn index.
        written: What they were read as.
        out: The file of the table.

    Returns:
        Reason → rows that were dropped.
    """
    losers = _losers(backend, rows)
    with TextFile(written.texts_path) as texts:
        staying = rows
        dropped: Counter[str] = Counter()
        (beaten,) = backend.to_pyarrow(
            losers.agg(rows=losers.count(), failed=losers.failed.sum())
        ).to_pylist()
        if beaten["rows"]:
            staying = rows.anti_join(losers, POSITION)
            both = _with_winners(rows, staying, losers)
            dropped = _drop_reasons(backend, both, texts)
            if written.has_calls:
                # Nothing is summed over rows of another message.
                others = both.filter(both.text != both.kept_text).select(POSITION)
                rows = rows.anti_join(materialized(backend, others), POSITION)
            if beaten["failed"]:
                staying = _with_fallbacks_marked(staying, losers)
            if written.transcripts is not None:
                staying = _with_regenerations(backend, staying, rows)
        columns = [name for name in _COLUMNS if name not in _empty_columns(written)]
        if written.has_calls:
            added = _with_calls_added(staying, rows)
            if written.has_decisions:
                added = _with_decisions(added, rows)
            added = added.select(*columns, _TOOLS_OF_CALLS)
            turns: Iterator[pa.RecordBatch] = map(
                _with_tools_added, batches(backend, added, TURN_KEYS)
            )
        else:
            turns = batches(backend, staying.select(*columns), TURN_KEYS)
        whole = chain.from_iterable(_with_long_texts(batch, texts) for batch in turns)
        write_parquet_in_order(whole, TURNS, out)
    return dropped


def _empty_columns(written: TurnRowWriter) -> set[str]:
    """Columns without a value in any row; they need not be sorted."""
    metadata = pq.read_metadata(written.path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    empty = {
        name
        for position, name in enumerate(TURN_ROWS.names)
        if all(_n_nulls(group.column(position)) == group.num_rows for group in groups)
    }
    filled_in = {"chosen_by"}
    if written.transcripts is not None:
        filled_in.add("regenerated_from")
    if written.has_calls:
        filled_in |= {*_ADDED_UP, "llm_calls", "tool_counts"}
    return empty - filled_in


def _n_nulls(column: pq.ColumnChunkMetaData) -> int:
    return column.statistics.null_count if column.is_stats_set else -1


def count_turns_of_several_models(backend: ibis.BaseBackend, rows: ibis.Table) -> int:
    """How many turns have rows that name different models."""
    models = rows.group_by(*TURN_KEYS).agg(least=rows.model.min(), greatest=rows.model.max())
    several = models.filter(models.least != models.greatest)
    return int(backend.to_pyarrow(several.count()).as_py())


def _losers(backend: ibis.BaseBackend, rows: ibis.Table) -> ibis.Table:
    """The rows that are dropped for another row of their turn, without their texts."""
    slim = rows.select(
        *TURN_KEYS,
        POSITION,
        "timestamp",
        CALL_ID,
        "source",
        "continued",
        "model",
        length=rows[N_CHARS],
        failed=_failed(rows),
        is_unnamed=rows.model.isnull(),
    )
    in_turn = ibis.window(
        group_by=TURN_KEYS,
        order_by=[
            ibis.desc("length"),
            ibis.asc("failed"),
            ibis.desc("continued"),
            ibis.asc("is_unnamed"),
            ibis.desc("timestamp", nulls_first=False),
            ibis.desc(POSITION),
        ],
    )
    ranked = slim.mutate(rank=ibis.row_number().over(in_turn))
    return materialized(
        backend, ranked.filter(ranked["rank"] > 0).drop("rank", "length", "continued", "is_unnamed")
    )


def _with_fallbacks_marked(staying: ibis.Table, losers: ibis.Table) -> ibis.Table:
    """The rows that stay; where another model had failed before, `chosen_by` is `product`."""
    failed = losers.filter(losers.failed)
    failed = failed.select(*TURN_KEYS, failed_model="model", failed_at="timestamp")
    answered = staying.filter(~_failed(staying))
    answered = answered.select(*TURN_KEYS, POSITION, "model", "timestamp")
    both = answered.join(failed, TURN_KEYS)
    both = both.filter(
        both.model != both.failed_model, (both.failed_at <= both.timestamp).fill_null(True)
    )
    fallbacks = both.select(POSITION).distinct()
    by_product = staying[POSITION].isin(fallbacks[POSITION])
    product = ibis.ifelse(by_product, "product", ibis.null("string"))
    return staying.mutate(chosen_by=ibis.coalesce(staying.chosen_by, product))


def _with_regenerations(
    backend: ibis.BaseBackend, staying: ibis.Table, rows: ibis.Table
) -> ibis.Table:
    """The rows that stay, with the model whose answer the person had made again on another one.

    Models that are asked at the same time, or one name that several models serve, say nothing of
    what a person chose.
    """
    winner = staying.filter(staying.chosen_by.fill_null("person") == "person")
    winner = winner.select(*TURN_KEYS, kept_model="model")
    asked = rows.filter(rows.asks, ~_failed(rows), rows.assistant_message.notnull())
    asked = asked.select(*TURN_KEYS, "model", "timestamp", "requested_model")
    asked = asked.join(winner, TURN_KEYS)
    own = asked.filter(asked.model == asked.kept_model)
    own = own.group_by(*TURN_KEYS).agg(
        begun_at=own.timestamp.min(), own_request=own.requested_model.argmin(own.timestamp)
    )
    others = asked.filter(asked.model != asked.kept_model).join(own, TURN_KEYS)
    waited_s = others.begun_at.epoch_seconds() - others.timestamp.epoch_seconds()
    others = others.filter(
        waited_s >= MIN_CHOICE_S, (others.requested_model != others.own_request).fill_null(True)
    )
    before = others.group_by(*TURN_KEYS).agg(model_before=others.model.argmax(others.timestamp))
    joined = staying.left_join(materialized(backend, before), TURN_KEYS)
    again = ibis.coalesce(joined.regenerated_from, joined.model_before)
    return joined.mutate(regenerated_from=again).select(*staying.columns)


def _is_another_call(both: ibis.Table) -> ibis.ir.BooleanValue:
    """Whether a dropped row is another model call of the turn whose row stays."""
    same_text = both.text == both.kept_text
    return same_text & (both[CALL_ID] != both.kept_call).fill_null(False)


def _holds(both: ibis.Table) -> ibis.ir.BooleanValue:
    """Whether the message of the row that stays is a dropped row's message, or contains it."""
    is_request = both[CALL_ID].notnull() & both.kept_call.notnull()
    return ibis.ifelse(is_request, both.text == both.kept_text, both.kept_text.contains(both.text))


def _failed(rows: ibis.Table) -> ibis.ir.BooleanValue:
    return rows.response_type.lower().isin([*FAILED, "cancelled"]).fill_null(False)


def _with_winners(rows: ibis.Table, staying: ibis.Table, losers: ibis.Table) -> ibis.Table:
    """Every dropped row with its text, beside the row that stays in its place."""
    offset = TEXT_OFFSETS["user_message"]
    texts = rows.select(POSITION, text=rows.user_message, offset=rows[offset])
    loser = losers.join(texts, POSITION)
    loser = loser.select(*TURN_KEYS, POSITION, "source", CALL_ID, "text", "offset")
    winner = staying.semi_join(losers.select(*TURN_KEYS).distinct(), TURN_KEYS)
    winner = winner.select(
        *TURN_KEYS,
        kept_source=winner.source,
        kept_call=winner[CALL_ID],
        kept_text=winner.user_message,
        kept_offset=winner[offset],
    )
    return loser.join(winner, TURN_KEYS)


def _drop_reasons(backend: ibis.BaseBackend, both: ibis.Table, texts: TextFile) -> Counter[str]:
    """Reason → rows that are dropped for it.

    Args:
        backend: Where they are counted.
        both: As `_with_winners` gives them.
        texts: The file of long texts.
    """
    elsewhere = (both.source != both.kept_source).fill_null(False)
    both = both.mutate(
        same_text=ibis.ifelse(elsewhere, ELSEWHERE, RESENT),
        other_text=ibis.cases(
            (both[CALL_ID].notnull() & both.kept_call.notnull(), ANOTHER_REQUEST),
            (elsewhere, ANOTHER_PRODUCT),
            else_=ANOTHER_TEXT,
        ),
        another_call=_is_another_call(both),
        # Of a long text the engine has the digest alone.
        unseen=both.kept_offset.notnull() & (both.text != both.kept_text),
    )
    reason = ibis.cases(
        (both.another_call, ANOTHER_CALL),
        (_holds(both), both.same_text),
        else_=both.other_text,
    )
    seen = both.filter(both.another_call | ~both.unseen)
    counts = backend.to_pyarrow(seen.select(reason=reason).value_counts(name="rows")).to_pylist()
    dropped = Counter({row["reason"]: row["rows"] for row in counts})
    unseen = both.filter(both.unseen & ~both.another_call)
    for batch in batches(backend, unseen.select(*_TO_COMPARE)):
        for row in batch.to_pylist():
            text = row["text"] if row["offset"] is None else texts.read(row["offset"])
            is_part = text in texts.read(row["kept_offset"])
            dropped[row["same_text"] if is_part else row["other_text"]] += 1
    return dropped


def _with_calls_added(staying: ibis.Table, rows: ibis.Table) -> ibis.Table:
    """Turns with the tokens of all their calls; a call that was logged twice counts once."""
    logged = rows.filter(rows[CALL_ID].notnull())
    calls = logged.group_by(*TURN_KEYS, CALL_ID).agg(
        tool_counts=logged.tool_counts.max(), **{name: logged[name].max() for name in _ADDED_UP}
    )
    spent = calls.group_by(*TURN_KEYS).agg(
        calls=calls.count().cast("int32"),
        **{_TOOLS_OF_CALLS: calls.tool_counts.collect()},
        **{f"all_{name}": calls[name].sum().cast("int64") for name in _ADDED_UP},
    )
    joined = staying.left_join(spent, TURN_KEYS)
    return joined.mutate(
        llm_calls=ibis.greatest(joined.llm_calls, joined.calls),
        **{name: ibis.coalesce(joined[f"all_{name}"], joined[name]) for name in _ADDED_UP},
    )


def _with_decisions(turns: ibis.Table, rows: ibis.Table) -> ibis.Table:
    """Turns with the decision of their first call that has one."""
    in_time = ibis.window(
        group_by=TURN_KEYS, order_by=[ibis.asc("timestamp", nulls_first=False), POSITION]
    )
    calls = rows.filter(rows.chosen_by.notnull()).mutate(order=ibis.row_number().over(in_time))
    first = {
        f"first_{name}": calls[name].argmin(calls.order, where=calls[name].notnull())
        for name in _DECIDED
    }
    decided = calls.group_by(*TURN_KEYS).agg(**first)
    joined = turns.left_join(decided, TURN_KEYS, rname="{name}_decided")
    own = {name: ibis.coalesce(joined[f"first_{name}"], joined[name]) for name in _DECIDED}
    return joined.mutate(**own).select(*turns.columns)


def _with_tools_added(turns: pa.RecordBatch) -> pa.RecordBatch:
    """Turns with the tools that all their calls asked for, without the calls' own counts."""
    own, called = turns["tool_counts"].to_pylist(), turns[_TOOLS_OF_CALLS].to_pylist()
    counts = [
        _summed(of_calls or []) or of_row for of_row, of_calls in zip(own, called, strict=True)
    ]
    index = turns.schema.get_field_index("tool_counts")
    turns = turns.set_column(index, "tool_counts", pa.array(counts, pa.string()))
    return turns.drop_columns([_TOOLS_OF_CALLS])


def _with_long_texts(turns: pa.RecordBatch, texts: TextFile) -> Iterator[pa.RecordBatch]:
    """Turns with their texts in place of digests, some megabytes at a time."""
    there = set(turns.schema.names)
    offsets = {
        name: turns[column].to_pylist() for name, column in TEXT_OFFSETS.items() if column in there
    }
    n_rows = turns.num_rows
    turns = pa.RecordBatch.from_pydict(
        {
            field.name: turns[field.name] if field.name in there else pa.nulls(n_rows, field.type)
            for field in TURNS
        }
    )
    if not offsets:
        yield turns
        return
    long_texts: dict[str, list[str | None]] = {name: [] for name in offsets}
    start, n_chars = 0, 0
    for end, of_row in enumerate(zip(*offsets.values(), strict=True), start=1):
        for name, offset in zip(offsets, of_row, strict=True):
            text = None if offset is None else texts.read(offset)
            long_texts[name].append(text)
            n_chars += len(text or "")
        if n_chars >= _MAX_CHARS or end == turns.num_rows:
            part = turns.slice(start, end - start)
            for name, read in long_texts.items():
                whole = pc.coalesce(pa.array(read, pa.string()), part[name])
                part = part.set_column(TURNS.get_field_index(name), name, whole)
                read.clear()
            yield part
            start, n_chars = end, 0


def _summed(texts: list[str]) -> str | None:
    """The sum of JSON counts; None if a text is not a JSON object of whole numbers."""
    if len(texts) == 1:
        return texts[0]
    total = Counter[str]()
    for text in texts:
        counts = json.loads(text)
        if not isinstance(counts, dict) or not all(isinstance(n, int) for n in counts.values()):
            return None
        total.update(counts)
    return json.dumps(dict(sorted(total.items())), ensure_ascii=False) if texts else None
