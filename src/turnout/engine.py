"""Where tables are computed: Ibis expressions on DuckDB, in process; knows no stage's expressions.

Stages write their expressions once, against Ibis, and keep to operations that mean the same on
other Ibis backends. Results are ordered and written by one writer, so the same rows give the same
bytes.
"""

from __future__ import annotations

from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.errors import RecordError
from turnout.schema import TRUTH, TURNS


def connect() -> ibis.BaseBackend:
    """A private in-process DuckDB; it spills to the system's temporary folder when memory is short.

    Timestamps are read and shown in UTC whatever the machine's zone.
    """
    backend = ibis.duckdb.connect()
    backend.raw_sql("SET TimeZone = 'UTC'")
    backend.raw_sql("SET preserve_insertion_order = false")
    return backend


def read_table(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """A Parquet file as an Ibis table, without reading its rows yet.

    Raises:
        RecordError: If the file is absent or is not whole Parquet.
    """
    parquet_schema(path)
    return backend.read_parquet(path)


def read_turns(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """A turns table as an Ibis table, without reading its rows yet.

    Raises:
        RecordError: If the file is absent, is not whole Parquet or is not a turns table.
    """
    found = parquet_schema(path).names
    if missing := [name for name in TURNS.names if name not in found]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected the turns table that "
            "`turnout ingest` writes. Ingest the log first, or build from measured scores with "
            "`turnout build --outcomes`."
        )
    return backend.read_parquet(path)


def read_known_labels(path: Path) -> dict[tuple[str, int], int]:
    """Conversation and turn index → label, of turns whose need is known.

    Raises:
        RecordError: If the file cannot be read or lacks a column.
    """
    names = ("conversation_id", "turn_index", "label")
    try:
        table = pq.read_table(path, columns=list(names))
        columns = [table[name].cast(TRUTH.field(name).type).to_pylist() for name in names]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RecordError(
            f"{path}: not readable as a table of {', '.join(names)} "
            f"({str(error).splitlines()[0]}); expected turns whose need is known, such as the "
            "truth that `turnout simulate` writes. Check the path."
        ) from error
    return {(cid, index): label for cid, index, label in zip(*columns, strict=True)}


def parquet_schema(path: Path) -> pa.Schema:
    """The Arrow schema of a Parquet file.

    Raises:
        RecordError: If the file is absent or is not whole Parquet.
    """
    if not path.is_file():
        raise RecordError(f"{path}: not found; expected a Parquet file. Check the path.")
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]}); expected a whole "
            "Parquet file. If it was copied, copy it again."
        ) from error


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table so that equal tables give equal bytes (zstd, no metadata of the writer's)."""
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        path,
        compression="zstd",
        store_schema=False,
    )


def with_model_facts(turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> ibis.Table:
    """Join what the catalogue says to every turn.

    Adds `named` (whether the log names a model at all), `model_name`, `provider` and
    `model_class`, null where the catalogue does not know the name. Names are looked up once each.
    """
    turns = turns.mutate(reasoned=(turns.reasoning_tokens > 0).fill_null(False))
    distinct = turns.select("model", "reasoned").distinct()
    rows = [
        _model_facts(row["model"], row["reasoned"], catalog)
        for row in backend.to_pyarrow(distinct).to_pylist()
    ]
    facts = ibis.memtable(pa.Table.from_pylist(rows, _FACTS))
    joined = turns.left_join(
        facts,
        [turns.model.fill_null("") == facts.logged_model, turns.reasoned == facts.logged_reasoned],
    )
    return joined.drop("logged_model", "logged_reasoned")


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


def _model_facts(logged: str | None, reasoned: bool, catalog: Catalog) -> dict[str, object]:
    found = catalog.lookup(logged, reasoned=reasoned)
    return {
        "logged_model": logged or "",
        "logged_reasoned": reasoned,
        "named": catalog.names_a_model(logged),
        "model_name": found.name if found else None,
        "provider": found.provider if found else None,
        "model_class": found.model_class if found else None,
    }
