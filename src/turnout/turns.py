"""The turns table and its labels as Ibis tables: checked on opening, joined with the catalog."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.engine import materialized, read_parquet
from turnout.errors import RecordError, first_line
from turnout.schema import LABELS, LATER_TURN_COLUMNS, TURN_KEYS, TURNS

# A draw first assumes at most so many turns a conversation; if it finds too few, it looks at more.
_TURNS_A_CONVERSATION = 50
# Where every row is a conversation, a few more than are drawn lie below the first bound.
_SPARE_NAMES = 0.1
_HASH_STEPS = 16**8
_NO_BOUND = "g"  # greater than every hash


def read_turns(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """A turns table as an Ibis table, without reading its rows yet.

    Columns that tables of earlier versions lack are null.

    Raises:
        RecordError: If the file is absent, is not complete Parquet or is not a turns table.
    """
    schema = _parquet_schema(path, "the turns table", "ingest")
    absent = [name for name in TURNS.names if name not in schema.names]
    if missing := [name for name in absent if name not in LATER_TURN_COLUMNS]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected the turns table that "
            "`turnout ingest` writes. Ingest the log first, or build from measured scores with "
            "`turnout build --outcomes`."
        )
    _require_kinds(path, schema, pa.schema([f for f in TURNS if f.name not in absent]))
    turns = read_parquet(backend, path)
    return turns.mutate(**{name: _null(TURNS.field(name).type) for name in absent})


def _null(kind: pa.DataType) -> ibis.Value:
    return ibis.null(
        "string" if pa.types.is_string(kind) else str(kind).replace("double", "float64")
    )


def require_places(path: Path) -> None:
    """Refuse turns without a conversation, an index or a message; reads only the file's footer.

    Raises:
        RecordError: If a row has none.
    """
    footer = pq.read_metadata(path)
    leaves = {footer.schema.column(index).path: index for index in range(len(footer.schema))}
    for field in TURNS:
        if field.nullable:
            continue
        groups = (
            footer.row_group(g).column(leaves[field.name]) for g in range(footer.num_row_groups)
        )
        nulls = sum(
            group.statistics.null_count or 0 for group in groups if group.statistics is not None
        )
        if nulls:
            raise RecordError(
                f"{path}: {nulls:,} rows have no {field.name}; expected one in every row. Ingest "
                "the log again with `turnout ingest`, which reports or counts such rows."
            )


def count_repeats(backend: ibis.BaseBackend, turns: ibis.Table) -> int:
    """Rows that have the conversation and index of another one."""
    rows, places = turns.count(), turns.select(*TURN_KEYS).distinct().count()
    return int(backend.to_pyarrow(rows).as_py()) - int(backend.to_pyarrow(places).as_py())


def refuse_repeats(path: Path, repeats: int) -> None:
    """Refuse a table with several rows for one turn, as it is unclear which one is meant.

    Args:
        path: The turns table.
        repeats: Rows that have the conversation and index of another one.

    Raises:
        RecordError: If there are any.
    """
    if repeats:
        raise RecordError(
            f"{path}: {repeats:,} rows repeat the conversation and index of another; "
            "expected one row a turn. Ingest the table with `turnout ingest`, which keeps one."
        )


def drawn_conversations(
    backend: ibis.BaseBackend,
    turns: ibis.Table,
    salt: str,
    most: int,
    *,
    conversations: ibis.Table | None = None,
    first_only: bool = False,
) -> list[dict[str, Any]]:
    """Conversations drawn at random: those with the least hashes, in that order.

    The draw depends neither on the engine nor on the order of the rows.

    Args:
        backend: Where the turns are read.
        turns: With `conversation_id` and `turn_index`.
        salt: Another salt gives another draw.
        most: How many to draw.
        conversations: `conversation_id` and `turn_count` of all conversations, where they are known
            already: the turns are then not read. Not with `first_only`.
        first_only: Draw only among conversations whose first turn is there.

    Returns:
        Rows of `conversation_id`, its hash `key` and its number of `turns`.
    """
    rows = turns.select("conversation_id", "turn_index")
    rows_a_name: float = _TURNS_A_CONVERSATION
    if conversations is not None:
        rows, rows_a_name = conversations, 1 + _SPARE_NAMES
    total = int(backend.to_pyarrow(rows.count()).as_py())
    share = min(1.0, most * rows_a_name / max(total, 1))
    hashed = rows.mutate(key=(ibis.literal(salt) + rows.conversation_id).hexdigest("md5"))
    while True:
        bound = _NO_BOUND if share >= 1 else f"{int(share * _HASH_STEPS):08x}"
        below = hashed.filter(hashed.key < bound)
        if conversations is not None:
            named = below.select("conversation_id", "key", turns="turn_count")
        else:
            named = below.group_by("conversation_id", "key").agg(
                turns=below.turn_index.nunique(), first=below.turn_index.min()
            )
        if first_only:
            named = named.filter(named["first"] == 1)
        drawn: list[dict[str, Any]]
        drawn = backend.to_pyarrow(named.order_by("key").limit(most)).to_pylist()
        if len(drawn) == most or share >= 1:
            return sorted(drawn, key=itemgetter("key"))
        share = min(1.0, share * 8)


def _require_kinds(path: Path, schema: pa.Schema, expected: pa.Schema) -> None:
    """Refuse a column with values of another type, such as text instead of numbers."""
    wrong = [
        f"{field.name} is {schema.field(field.name).type}, expected {field.type}"
        for field in expected
        if _kind(schema.field(field.name).type) not in (_kind(field.type), "null")
    ]
    if wrong:
        raise RecordError(
            f"{path}: {'; '.join(wrong)}. Ingest the log again with `turnout ingest`, which "
            "gives every column its type."
        )


def _kind(arrow_type: pa.DataType) -> str:
    if pa.types.is_dictionary(arrow_type):
        return _kind(arrow_type.value_type)
    kinds = {
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "whole number": (pa.types.is_integer,),
        "number": (pa.types.is_floating, pa.types.is_decimal),
        "time": (pa.types.is_timestamp,),
        "list": (pa.types.is_list, pa.types.is_large_list),
        "null": (pa.types.is_null,),
    }
    return next(
        (k for k, tests in kinds.items() if any(t(arrow_type) for t in tests)), str(arrow_type)
    )


def read_labels(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """What `turnout label` wrote as an Ibis table, without reading its rows yet.

    Raises:
        RecordError: If the file is absent, is not complete Parquet or holds no labels.
    """
    schema = _parquet_schema(path, "the labels", "label")
    if missing := [name for name in LABELS.names if name not in schema.names]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected what `turnout label` writes. "
            "Give its output."
        )
    _require_kinds(path, schema, LABELS)
    return read_parquet(backend, path).select(*LABELS.names)


def _parquet_schema(path: Path, what: str, verb: str) -> pa.Schema:
    """The Arrow schema of a Parquet file that a verb wrote.

    Raises:
        RecordError: If the file is absent or is not complete Parquet.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "not found"
        raise RecordError(
            f"{path}: {problem}; expected the Parquet file with {what} that `turnout {verb}` "
            f"writes. Check the path, or run `turnout {verb}` on it first."
        )
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not readable as Parquet ({first_line(error)}); expected a complete Parquet "
            f"file with {what} that `turnout {verb}` writes. If it was copied, copy it again; if "
            f"it is another table, run `turnout {verb}` first."
        ) from error


def with_model_facts(turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> ibis.Table:
    """Add the catalog's facts about its model to every turn.

    Adds `model_name` (the same for every spelling of one model; null where the log names none),
    `provider` and `model_class`, null where the catalog does not know the name; and the same facts
    about `regenerated_from`: `regenerated_name`, `regenerated_provider` and `regenerated_class`.
    Names are looked up once each.
    """
    reasoned = (turns.reasoning_tokens > 0).fill_null(False)
    # A log may hold both null and "": one row for both, or the join would give turns twice.
    logged = turns.select(model=turns.model.fill_null(""), reasoned=reasoned)
    regenerated = turns.filter(turns.regenerated_from.notnull())
    regenerated = regenerated.select(model="regenerated_from", reasoned=ibis.literal(False))
    logged = logged.union(regenerated, distinct=True)
    rows = [
        _model_facts(row["model"], row["reasoned"], catalog)
        for row in backend.to_pyarrow(logged).to_pylist()
    ]
    facts = materialized(backend, ibis.memtable(pa.Table.from_pylist(rows, _MODEL_FACTS)))
    turns = turns.mutate(reasoned=reasoned)
    joined = turns.left_join(
        facts,
        [turns.model.fill_null("") == facts.logged_model, turns.reasoned == facts.logged_reasoned],
    )
    joined = joined.drop("logged_model", "logged_reasoned")
    others = facts.filter(~facts.logged_reasoned).select(
        regenerated_model="logged_model",
        regenerated_name="model_name",
        regenerated_provider="provider",
        regenerated_class="model_class",
    )
    joined = joined.left_join(others, joined.regenerated_from == others.regenerated_model)
    return joined.drop("regenerated_model")


_MODEL_FACTS = pa.schema(
    [
        pa.field("logged_model", pa.string(), nullable=False),
        pa.field("logged_reasoned", pa.bool_(), nullable=False),
        pa.field("model_name", pa.string()),
        pa.field("provider", pa.string()),
        pa.field("model_class", pa.string()),
    ]
)


def _model_facts(logged: str, reasoned: bool, catalog: Catalog) -> dict[str, Any]:
    entry = catalog.lookup(logged, reasoned=reasoned)
    return {
        "logged_model": logged,
        "logged_reasoned": reasoned,
        "model_name": catalog.canonical_name(logged),
        "provider": entry.provider if entry else None,
        "model_class": entry.model_class if entry else None,
    }
