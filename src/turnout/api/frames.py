"""Reads tables of any library: their columns, turn keys, labels and splits.

Rows are counted from 0 in messages, as notebooks count them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.dataset.cells import SPLITS
from turnout.errors import RecordError, SettingsError, first_line
from turnout.schema import LABELS, TURNS
from turnout.tables import Row, Table, require_columns

TABLE = Path("the table")
REMEDY = "Give the name of one of its columns."
# What makes a table of a column, a query, or a table of another library.
_CONVERSIONS = ("to_frame", "collect", "compute", "to_pandas", "toPandas")


def arrow_table(df: object, argument: str = "df") -> pa.Table:
    """A table of any library as an Arrow table.

    Args:
        df: The table.
        argument: What it was given as, for messages.

    Raises:
        RecordError: If a column mixes types, or columns differ in length.
        SettingsError: If it is not a table.
    """
    try:
        if hasattr(df, "__dataframe__") and not hasattr(df, "__arrow_c_stream__"):
            from pyarrow.interchange import from_dataframe

            return from_dataframe(df)
        return pa.table(dict(df) if isinstance(df, Mapping) else df)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _refused(df, argument, error) from error


def _refused(df: object, argument: str, error: Exception) -> RecordError | SettingsError:
    """Why something is no table, and how to make one of it."""
    given = f"{argument}: found {type(df).__name__}"
    for conversion in _CONVERSIONS:
        if hasattr(df, conversion):
            return SettingsError(f"{given}; expected a table. Call its {conversion}() first.")
    names = getattr(df, "columns", ())
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        return SettingsError(
            f"{argument}: more than one column is named {repeated[0]}; expected each name once. "
            "Rename or drop the others."
        )
    if isinstance(error, pa.ArrowException | UnicodeError | OverflowError):
        return RecordError(
            f"{argument}: not readable as Arrow ({first_line(error)}); expected columns of one "
            "length, each of one type. Convert the column, or write messages as JSON text."
        )
    return SettingsError(
        f"{given}; expected a pandas or polars DataFrame, an Arrow table, or a mapping of names to "
        "lists or arrays. Use pandas to read a file, or to make a table of a list of rows."
    )


def require_names(required: Mapping[str, object], optional: Mapping[str, object]) -> None:
    """Refuse anything but text as the name of a column.

    Args:
        required: Argument → what was given.
        optional: The same; these may be None.

    Raises:
        SettingsError: If one is something else.
    """
    for argument, name in [*required.items(), *optional.items()]:
        if not isinstance(name, str if argument in required else str | None):
            raise SettingsError(
                f"{argument}: found {type(name).__name__}; expected the name of a column, as text."
            )


def columns_of(
    df: object, required: Sequence[str], optional: Iterable[str] = (), remedy: str = REMEDY
) -> Table:
    """Some columns of a table, row by row.

    Raises:
        RecordError: If a required one is missing, or it has no row.
        SettingsError: If it is not a table.
    """
    arrow = arrow_table(df)
    names = dict.fromkeys([*required, *optional])
    columns = {name: arrow[name].to_pylist() for name in names if name in arrow.column_names}
    table = Table(TABLE, arrow.column_names, columns, range(arrow.num_rows), by_line=False)
    require_columns(table, required, remedy)
    if not arrow.num_rows:
        raise RecordError(f"{TABLE}: no rows; expected at least one. Check how it was made.")
    return table


def splits_in(table: Table, name: str) -> list[str]:
    """The split of each row, from a column.

    Raises:
        RecordError: If a row names another split.
    """
    for row in table:
        if row.values[name] not in SPLITS:
            raise row.refused(name, " or ".join(SPLITS))
    return list(table.columns[name])


def split_of_turns(
    table: Table, keys: Sequence[tuple[str, int]], name: str
) -> dict[tuple[str, int], str]:
    """Conversation and turn index → the split that the column gives.

    Raises:
        RecordError: If two rows of a turn name different splits, or a split has another name.
    """
    splits: dict[tuple[str, int], str] = {}
    for row, key, split in zip(table, keys, splits_in(table, name), strict=True):
        if splits.setdefault(key, split) != split:
            raise row.refused(name, f"{splits[key]}, as an earlier row of this turn has")
    return splits


def turn_keys(table: Table, conversation: str | None, turn: str | None) -> list[tuple[str, int]]:
    """Conversation and turn index of every row.

    Args:
        table: The rows.
        conversation: The column of conversations; None if each row is one.
        turn: The column of turn indices; None for the order of a conversation's rows.

    Raises:
        RecordError: If a row has no conversation, or a turn index is no whole number from 1.
    """
    if conversation is None:
        return [(str(number), 1) for number in range(len(table))]
    if turn is not None:
        return [row.turn(conversation, turn) for row in table]
    counts: Counter[str] = Counter()
    keys = []
    for row in table:
        name, _ = Row(row.where, {**row.values, "turn_index": 1}).turn(conversation)
        counts[name] += 1
        keys.append((name, counts[name]))
    return keys


def turns_table(
    table: Table, keys: Sequence[tuple[str, int]], columns: Mapping[str, str]
) -> pa.Table:
    """The rows as `schema.TURNS`."""
    values: dict[str, Sequence[Any]] = {name: [None] * len(keys) for name in TURNS.names}
    for field, name in columns.items():
        values[field] = [row.identity(name) for row in table]
    values["conversation_id"] = [name for name, _ in keys]
    values["turn_index"] = [index for _, index in keys]
    values["user_message"] = [text or "" for text in values["user_message"]]
    return pa.table(values, TURNS)


def labels_table(table: Table, keys: Sequence[tuple[str, int]], name: str) -> pa.Table:
    """Known labels as `turnout label` writes them, one row a turn.

    Raises:
        RecordError: If a label cannot be read, or two rows of a turn have different ones.
    """
    label_of: dict[tuple[str, int], int] = {}
    for key, row in zip(keys, table, strict=True):
        label = row.label(name)
        if label is not None and label_of.setdefault(key, label) != label:
            raise row.refused(name, f"{label_of[key]}, as an earlier row of this turn has")
    rows = [
        {
            "conversation_id": conversation,
            "turn_index": index,
            "p_reasoning": 1.0 - label,
            "confidence": 1.0,
            "evidence": ["-human" if label else "human"],
        }
        for (conversation, index), label in label_of.items()
    ]
    return pa.Table.from_pylist(rows, LABELS)
