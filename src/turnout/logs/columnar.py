"""Reads batches in which each row is a turn, whole columns at a time.

The result is that of `columns.canonical`, row by row, many times faster. Rows that columns cannot
read (an id with spaces, a NUL byte, no message) are left to it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from turnout.logs.columns import BY_TIME, NUMBERED_BY_TIME, OPTIONAL, TEXTS, misread
from turnout.logs.moments import FIRST_YEAR, YEAR_AFTER_LAST
from turnout.logs.pseudonyms import Salt
from turnout.protocols.harness import HARNESS_SIGNS
from turnout.protocols.kinds import HELPER_SIGNS
from turnout.schema import TURNS

# Ids and model names of other letters, or with spaces around them, are read one by one.
_PLAIN_NAME = r"^[!-~]([ -~]*[!-~])?$"
_ROUNDED_ID = r"^\d([.,]\d+)?E\+\d+$"
_SAYS_SOMETHING = r"[^\pZ\pC]"
_OF_PRODUCT = f"{HARNESS_SIGNS}|{HELPER_SIGNS}"
# Fields of text that are not taken as they are.
_BY_VALUE = (
    "user_id",
    "model",
    "requested_model",
    "chosen_by",
    "decided_class",
    "regenerated_from",
)
_FIRST_US, _AFTER_LAST_US = (
    int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
    for year in (FIRST_YEAR, YEAR_AFTER_LAST)
)


def canonical_columns(
    batch: pa.RecordBatch,
    columns: Mapping[str, str],
    salt: Salt,
    mended: Counter[str],
    *,
    by_time: bool = False,
) -> tuple[pa.Table, pa.BooleanArray]:
    """The rows of a batch that can be read by columns.

    Args:
        batch: Raw rows.
        columns: Canonical → raw, as `ColumnNames` found them.
        salt: Makes the pseudonyms in `user_id`.
        mended: What had to be left out → rows, added to.
        by_time: Whether the log has no turn index, and its order in time is the index.

    Returns:
        The rows in the columns of `TURNS` (the source as logged), and which rows of the batch they
        are not: those are to be read one by one.
    """
    raw = {field: _plain_type(batch.column(column)) for field, column in columns.items()}
    if by_time:
        raw["turn_index"] = pa.repeat(pa.scalar(BY_TIME, pa.int32()), len(batch))
    odd = _odd_rows(raw, BY_TIME if by_time else 1)
    keep = pc.invert(odd)
    read: dict[str, Any] = {
        "conversation_id": raw["conversation_id"].filter(keep).cast(pa.string()),
        "turn_index": raw["turn_index"].filter(keep).cast(pa.int32()),
        "user_message": raw["user_message"].filter(keep).cast(pa.string()),
    }
    n_rows = len(read["turn_index"])
    if by_time:
        mended[NUMBERED_BY_TIME] += n_rows
    for field in OPTIONAL:
        if field in raw:
            read[field] = _optional(field, raw[field].filter(keep), mended)
        else:
            read[field] = pa.nulls(n_rows, TURNS.field(field).type)
    read["user_id"] = _by_value(read["user_id"], salt.pseudonym, pa.string())
    return pa.table({name: read[name] for name in TURNS.names}, TURNS), odd


def _plain_type(column: pa.Array) -> pa.Array:
    """Text in any of Arrow's encodings as plain text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain_type(column.dictionary_decode())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def _odd_rows(raw: Mapping[str, pa.Array], least_index: int) -> pa.BooleanArray:
    flags = [_no_position(raw["turn_index"], least_index), _no_message(raw["user_message"])]
    for field in ("conversation_id", "model"):
        flags.append(_no_plain_name(raw[field], required=field == "conversation_id"))
    for field in TEXTS - {"conversation_id", "model"}:
        if field in raw and pa.types.is_string(raw[field].type):
            flags.append(pc.fill_null(pc.match_substring(raw[field], "\0"), False))
        elif field in raw and pa.types.is_binary(raw[field].type):
            flags.append(pc.is_valid(raw[field]))
    odd = flags[0]
    for flag in flags[1:]:
        odd = pc.or_(odd, flag)
    return odd


def _no_position(column: pa.Array, least_index: int) -> pa.BooleanArray:
    if not pa.types.is_integer(column.type):
        return _all(column)
    inside = pc.and_(pc.greater_equal(column, least_index), pc.less(column, 2**31))
    return pc.invert(pc.fill_null(inside, False))


def _no_message(column: pa.Array) -> pa.BooleanArray:
    """Which rows have no message, or may have a product's text beside a person's words."""
    if not pa.types.is_string(column.type):
        return _all(column)
    says = pc.match_substring_regex(column, _SAYS_SOMETHING)
    of_person = pc.invert(pc.match_substring_regex(column, _OF_PRODUCT))
    return pc.invert(pc.fill_null(pc.and_(says, of_person), False))


def _no_plain_name(column: pa.Array, *, required: bool) -> pa.BooleanArray:
    if pa.types.is_integer(column.type) and required:
        return pc.is_null(column)
    if not pa.types.is_string(column.type):
        return pc.is_valid(column) if not required else _all(column)
    matches = pc.match_substring_regex(column, _PLAIN_NAME)
    if required:
        rounded = pc.match_substring_regex(column, _ROUNDED_ID)
        matches = pc.and_(matches, pc.invert(rounded))
    return pc.invert(pc.fill_null(matches, not required))


def _all(column: pa.Array) -> pa.BooleanArray:
    return pa.repeat(pa.scalar(True), len(column))


def _optional(field: str, column: pa.Array, mended: Counter[str]) -> pa.Array:
    kind = TURNS.field(field).type
    if pa.types.is_string(kind) and pa.types.is_string(column.type) and field not in _BY_VALUE:
        return column
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type):
        read = _within_years(column.cast(kind))
    elif pa.types.is_int64(kind) and pa.types.is_signed_integer(column.type):
        return column.cast(kind)
    else:
        read = _by_value(column, OPTIONAL[field], kind)
        column = _without_empty(column)
    lost = read.null_count - column.null_count
    if lost:
        mended[misread(field)] += lost
    return read


def _within_years(moments: pa.Array) -> pa.Array:
    numbers = moments.cast(pa.int64())
    inside = pc.and_(pc.greater_equal(numbers, _FIRST_US), pc.less(numbers, _AFTER_LAST_US))
    return pc.if_else(inside, moments, pa.scalar(None, moments.type))


def _without_empty(column: pa.Array) -> pa.Array:
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _by_value(column: pa.Array, read: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """Apply a function to each value; equal values are computed once."""
    values = column.to_pylist()
    try:
        known = {value: read(value) for value in set(values) if value is not None}
    except TypeError:  # a list or a mapping cannot be a key
        return pa.array([None if v is None else read(v) for v in values], kind)
    return pa.array([known.get(value) for value in values], kind)
