"""Parquet files whose bytes depend on their rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_GROUP_ROWS = 100_000
_GROUP_BYTES = 1 << 26


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table so that equal tables give equal bytes (zstd, no metadata of the writer's)."""
    # A writer that fails on a full disk leaves the file that it opened itself open.
    with pa.OSFile(str(path), "wb") as sink:
        pq.write_table(
            table.replace_schema_metadata(None).combine_chunks(),
            sink,
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
    with (
        pa.OSFile(str(path), "wb") as sink,
        pq.ParquetWriter(sink, schema, **options) as writer,
    ):
        for batch in batches:
            table = pa.Table.from_batches([batch]).cast(schema)
            start = 0
            for row, row_bytes in enumerate(_text_bytes(table, texts)):
                n_rows, n_bytes = n_rows + 1, n_bytes + row_bytes
                if n_rows == _GROUP_ROWS or n_bytes >= _GROUP_BYTES:
                    _write_group(writer, [*pending, table.slice(start, row + 1 - start)])
                    pending, start, n_rows, n_bytes = [], row + 1, 0, 0
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
