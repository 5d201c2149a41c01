"""Reads tables of any library: their columns, turn keys, labels and splits."""

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


def arrow_table(df: object) -> pa.Table:
    """A table of any library as an Arrow table.

    Raises:
        RecordError: If a column mixes types.
        SettingsError: If it is not a table.
    """
    try:
        return pa.table(dict(df) if isinstance(df, Mapping) else df)
    except pa.ArrowException as error:
        raise RecordError(
            f"{TABLE}: not readable as Arrow ({first_line(error)}); expected one type a "
            "column. Convert the column, or write messages as JSON text."
        ) from error
    except (TypeError, ValueError) as error:
        if hasattr(df, "collect"):
            raise SettingsError(
                f"found {type(df).__name__}, which is not computed yet; expected a table. Call its "
                "collect() first."
            ) from error
        repeated = [
            name for name, count in Counter(getattr(df, "columns", ())).items() if count > 1
        ]
        if repeated:
            raise SettingsError(
                f"{TABLE}: more than one column is named {repeated[0]}; expected each name once. "
                "Rename or drop the others."
            ) from error
        raise SettingsError(
            f"found {type(df).__name__}; expected a pandas or polars DataFrame, an Arrow table, or "
            "a mapping of columns. Use pandas to read a file, or to make a table of a list of rows."
        ) from error


def columns_of(df: object, required: Sequence[str], optional: Iterable[str] = ()) -> Table:
    """Some columns of a table, row by row.

    Raises:
        RecordError: If a required one is missing.
        SettingsError: If it is not a table.
    """
    arrow = arrow_table(df)
    names = dict.fromkeys([*required, *optional])
    columns = {name: arrow[name].to_pylist() for name in names if name in arrow.column_names}
    places = range(1, arrow.num_rows + 1)
    table = Table(TABLE, arrow.column_names, columns, places, by_line=False)
    require_columns(table, required, REMEDY)
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


def turn_keys(table: Table, conversation: str, turn: str | None) -> list[tuple[str, int]]:
    """Conversation and turn index of every row."""
    counts: Counter[Any] = Counter()
    keys = []
    for row in table:
        name = row.values[conversation]
        counts[name] += 1
        index = row.values[turn] if turn else counts[name]
        keys.append(Row(row.where, {"conversation_id": name, "turn_index": index}).turn())
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
        label = Row(row.where, {"label": row.values[name]}).label()
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
