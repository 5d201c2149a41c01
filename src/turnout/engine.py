"""Where tables are computed: Ibis expressions on DuckDB or on Spark; knows no stage's expressions.

Stages write their expressions once, against Ibis, and keep to operations that mean the same on
other Ibis backends. Results are ordered and written by one writer, so the same rows give the same
bytes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout import spark
from turnout.catalog import Catalog
from turnout.errors import RecordError, SettingsError, StorageError
from turnout.schema import LABELS, TURNS

DUCKDB = "duckdb"
_ROWS_A_BATCH = 2_048  # few, as each may hold megabytes
_GROUP_ROWS = 100_000
_GROUP_BYTES = 1 << 26


def connect(
    engine: str = DUCKDB,
    *,
    memory_mb: int | None = None,
    spill: Path | None = None,
    joined_as_written: bool = False,
) -> ibis.BaseBackend:
    """Where tables are computed: by default a private in-process DuckDB.

    DuckDB spills to disk when memory is short. Timestamps are read and shown in UTC whatever the
    machine's zone.

    Args:
        engine: `duckdb`, or a Spark address; see `spark.session`.
        memory_mb: Where DuckDB begins to spill; by default at most of the machine's memory.
            A thread needs room of its own, so that there are then at most 8.
        spill: A folder to spill to that does not exist yet; by default one in the system's
            temporary folder.
        joined_as_written: Whether DuckDB holds in memory what stands on the right of a join. It
            otherwise guesses which side is smaller, and takes a filtered log for a fifth of it.

    Raises:
        SettingsError: If there is no such engine or it is not installed.
    """
    if engine.startswith((spark.PREFIX, spark.CONNECT_PREFIX)):
        return ibis.pyspark.connect(spark.session(engine))
    if engine != DUCKDB:
        raise SettingsError(
            f"--engine: found {engine!r}; expected {DUCKDB}, spark://local[N], spark://HOST:PORT "
            "or sc://HOST:PORT."
        )
    backend = ibis.duckdb.connect()
    spill = spill or Path(tempfile.gettempdir()) / f"turnout-{uuid.uuid4().hex[:12]}"
    backend.raw_sql(f"SET temp_directory = '{str(spill).replace(chr(39), chr(39) * 2)}'")
    backend.raw_sql("SET TimeZone = 'UTC'")
    # Its bar goes to stdout, into the result.
    backend.raw_sql("SET enable_progress_bar = false")
    backend.raw_sql("SET preserve_insertion_order = false")
    if joined_as_written:
        backend.raw_sql("SET disabled_optimizers = 'build_side_probe_side'")
    if memory_mb is not None:
        backend.raw_sql(f"SET memory_limit = '{memory_mb}MB'")
        backend.raw_sql(f"SET threads = {min(8, os.cpu_count() or 1)}")
    return backend


def kept(backend: ibis.BaseBackend, table: ibis.Table) -> ibis.Table:
    """The rows of an expression, computed once and held by the engine for what comes after."""
    name = f"kept_{uuid.uuid4().hex[:12]}"
    if backend.name == DUCKDB:
        return backend.create_table(name, table, temp=True)
    backend.create_view(f"{name}_as_asked", table)
    spark.keep(backend.raw_sql(f"SELECT * FROM {name}_as_asked"), name)  # noqa: S608 (our names)
    return backend.table(name)


def batches(
    backend: ibis.BaseBackend, table: ibis.Table, order_by: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The rows of an expression, some thousands at a time.

    Args:
        backend: Where the table is computed.
        table: Made of files and of tables that are `kept`.
        order_by: Columns; by default the order is the engine's.
    """
    ordered = backend.raw_sql(backend.compile(table.order_by(*order_by) if order_by else table))
    if backend.name == DUCKDB:
        yield from ordered.to_arrow_reader(_ROWS_A_BATCH)
    else:
        yield from spark.batches(ordered, _ROWS_A_BATCH)


def _errors() -> tuple[type[Exception], ...]:
    """What the engines in use raise; asking Spark for its own would load it."""
    loaded = sys.modules.get("pyspark.errors")
    return (duckdb.Error, loaded.PySparkException) if loaded else (duckdb.Error,)


def lacks_disk(error: duckdb.Error) -> bool:
    """Whether the engine ran out of disk: it calls that too a lack of memory."""
    return "max_temp_directory_size" in str(error) or "No space left" in str(error)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what an engine says of rows that it cannot read into our error.

    Raises:
        RecordError: If the engine cannot read the file's rows.
        StorageError: If there is no space to spill to.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if lacks_disk(error):
            raise StorageError(
                f"{path}: its rows do not fit into memory and the temporary folder "
                f"({_first_line(error)}); expected space to spill to. Free some, or set TMPDIR to "
                "a folder on a larger disk."
            ) from error
        raise RecordError(
            f"{path}: its rows are too long to be held in memory some thousands at a time "
            f"({_first_line(error)}); expected messages of less. Ingest the log without its "
            "longest messages."
        ) from error
    except _errors() as error:
        raise RecordError(
            f"{path}: its rows cannot be read ({_first_line(error)}); expected a whole Parquet "
            "file of the turns table. If it was copied, copy it again; else ingest the log again."
        ) from error


def read_turns(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """A turns table as an Ibis table, without reading its rows yet.

    Raises:
        RecordError: If the file is absent, is not whole Parquet or is not a turns table.
    """
    found = _parquet_schema(path, "the turns table", "ingest")
    if missing := [name for name in TURNS.names if name not in found.names]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected the turns table that "
            "`turnout ingest` writes. Ingest the log first, or build from measured scores with "
            "`turnout build --outcomes`."
        )
    _require_kinds(path, found, TURNS)
    return backend.read_parquet(path)


def require_places(path: Path) -> None:
    """Refuse turns without a conversation, an index or a message, as the file's footer tells.

    Raises:
        RecordError: If a row has none.
    """
    footer = pq.read_metadata(path)
    leaves = {footer.schema.column(at).path: at for at in range(len(footer.schema))}
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
                "the log again with `turnout ingest`, which tells or counts such rows."
            )


def refuse_repeats(path: Path, repeats: int) -> None:
    """Refuse turns of several rows: which one was meant cannot be told.

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


def _require_kinds(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    """Refuse a column whose values are of another kind: text where a number belongs."""
    wrong = [
        f"{field.name} is {found.field(field.name).type}, expected {field.type}"
        for field in expected
        if _kind(found.field(field.name).type) not in (_kind(field.type), "null")
    ]
    if wrong:
        raise RecordError(
            f"{path}: {'; '.join(wrong)}. Ingest the log again with `turnout ingest`, which "
            "gives every column its type."
        )


def _kind(found: pa.DataType) -> str:
    if pa.types.is_dictionary(found):
        return _kind(found.value_type)
    kinds = {
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "whole number": (pa.types.is_integer,),
        "number": (pa.types.is_floating, pa.types.is_decimal),
        "time": (pa.types.is_timestamp,),
        "list": (pa.types.is_list, pa.types.is_large_list),
        "null": (pa.types.is_null,),
    }
    return next((k for k, tests in kinds.items() if any(t(found) for t in tests)), str(found))


def read_labels(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """What `turnout label` wrote as an Ibis table, without reading its rows yet.

    Raises:
        RecordError: If the file is absent, is not whole Parquet or holds no labels.
    """
    found = _parquet_schema(path, "the labels", "label")
    if missing := [name for name in LABELS.names if name not in found.names]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected what `turnout label` writes. "
            "Check --labels."
        )
    _require_kinds(path, found, LABELS)
    return backend.read_parquet(path).select(*LABELS.names)


def _parquet_schema(path: Path, what: str, verb: str) -> pa.Schema:
    """The Arrow schema of a Parquet file that a verb wrote.

    Raises:
        RecordError: If the file is absent or is not whole Parquet.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "not found"
        raise RecordError(
            f"{path}: {found}; expected the Parquet file with {what} that `turnout {verb}` "
            "writes. Check the path."
        )
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not readable as Parquet ({_first_line(error)}); expected a whole Parquet "
            f"file with {what} that `turnout {verb}` writes. If it was copied, copy it again; if "
            f"it is another table, run `turnout {verb}` first."
        ) from error


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table so that equal tables give equal bytes (zstd, no metadata of the writer's)."""
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        path,
        compression="zstd",
        store_schema=False,
    )


def write_parquet_in_order(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path
) -> None:
    """Write rows as they come, in row groups of 100,000 rows or about 64 MB of text.

    Where a group ends depends on the rows alone, so that the same rows give the same bytes however
    they were cut into batches.
    """
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    pending: list[pa.Table] = []
    n_rows, n_bytes = 0, 0
    options = {"compression": "zstd", "store_schema": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for batch in batches:
            table = pa.Table.from_batches([batch]).cast(schema)
            start = 0
            for at, row_bytes in enumerate(_text_bytes(table, texts)):
                n_rows, n_bytes = n_rows + 1, n_bytes + row_bytes
                if n_rows == _GROUP_ROWS or n_bytes >= _GROUP_BYTES:
                    _write_group(writer, [*pending, table.slice(start, at + 1 - start)])
                    pending, start, n_rows, n_bytes = [], at + 1, 0, 0
            if start < table.num_rows:
                pending.append(table.slice(start))
        if pending:
            _write_group(writer, pending)


def _text_bytes(table: pa.Table, texts: Sequence[str]) -> list[int]:
    total = pa.chunked_array([pa.array(np.zeros(table.num_rows, np.int64))])
    for name in texts:
        total = pc.add(total, pc.fill_null(pc.binary_length(table[name]), 0))
    lengths: list[int] = total.to_pylist()
    return lengths


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    group = pa.concat_tables(tables).combine_chunks()
    writer.write_table(group, row_group_size=max(1, group.num_rows))


def with_model_facts(turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> ibis.Table:
    """Join what the catalogue says to every turn.

    Adds `named` (whether the log names a model at all), `model_name`, `provider` and
    `model_class`, null where the catalogue does not know the name. Names are looked up once each.
    """
    told = kept(backend, ibis.memtable(_told_of_models(turns, backend, catalog)))
    turns = turns.mutate(reasoned=(turns.reasoning_tokens > 0).fill_null(False))
    joined = turns.left_join(
        told,
        [turns.model.fill_null("") == told.logged_model, turns.reasoned == told.logged_reasoned],
    )
    return joined.drop("logged_model", "logged_reasoned")


def _told_of_models(turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> pa.Table:
    """What the catalogue says of every model that the turns name."""
    # A log may hold both null and "": one row for both, or the join would give turns twice.
    named = turns.select(
        model=turns.model.fill_null(""), reasoned=(turns.reasoning_tokens > 0).fill_null(False)
    ).distinct()
    rows = [
        _model_facts(row["model"], row["reasoned"], catalog)
        for row in backend.to_pyarrow(named).to_pylist()
    ]
    return pa.Table.from_pylist(rows, _FACTS)


_FACTS = pa.schema(
    [
        pa.field("logged_model", pa.string(), nullable=False),
        pa.field("logged_reasoned", pa.bool_(), nullable=False),
        pa.field("named", pa.bool_(), nullable=False),
        pa.field("model_name", pa.string()),
        pa.field("provider", pa.string()),
        pa.field("model_class", pa.string()),
    ]
)


def _model_facts(logged: str, reasoned: bool, catalog: Catalog) -> dict[str, Any]:
    found = catalog.lookup(logged, reasoned=reasoned)
    return {
        "logged_model": logged,
        "logged_reasoned": reasoned,
        "named": catalog.names_a_model(logged),
        "model_name": found.name if found else None,
        "provider": found.provider if found else None,
        "model_class": found.model_class if found else None,
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
