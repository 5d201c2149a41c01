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

from turnout.errors import RecordError


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
