"""Where tables are computed: Ibis expressions on DuckDB or on Spark.

Stages write their expressions once, against Ibis, and keep to operations that mean the same on
other Ibis backends. Results are ordered and written by one writer, so the same rows give the same
bytes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa

from turnout import spark
from turnout.errors import RecordError, SettingsError, StorageError, first_line

DUCKDB = "duckdb"
MEMORY_MB = 2_000  # what a stage gives DuckDB before it spills to disk, however long the log
# How a Python traceback ends; what Spark's executors raise comes as one.
_RAISED = re.compile(r"^\s*([\w.]+(?:Error|Exception): .*)$", re.MULTILINE)
_ROWS_A_BATCH = 2_048  # few, as each may hold megabytes
_SECONDS_BETWEEN_INTERRUPTS = 0.05


def connect(
    engine: str = DUCKDB,
    *,
    memory_mb: int | None = None,
    spill: Path | None = None,
    joined_as_written: bool = False,
) -> ibis.BaseBackend:
    """Connect to the engine that computes tables: by default a private in-process DuckDB.

    DuckDB spills to disk when memory is short. Timestamps are read and shown in UTC whatever the
    machine's zone.

    Args:
        engine: `duckdb`, or a Spark address; see `spark.session`.
        memory_mb: Where DuckDB begins to spill; by default at most of the machine's memory.
            A thread needs room of its own, so that there are then at most 8.
        spill: A folder to spill to that does not exist yet; by default one in the system's
            temporary folder.
        joined_as_written: Whether DuckDB builds the hash table of a join from its right side. By
            default it guesses the smaller side, and takes a filtered log for a fifth of its size.

    Raises:
        SettingsError: If there is no such engine or it is not installed.
    """
    if engine.startswith((spark.PREFIX, spark.CONNECT_PREFIX)):
        session = spark.session(engine)  # first: it names the extra where one is missing
        return ibis.pyspark.connect(session)
    if engine != DUCKDB:
        raise SettingsError(
            f"--engine: found {engine!r}; expected {DUCKDB}, spark://local[N], spark://HOST:PORT "
            "or sc://HOST:PORT."
        )
    # DuckDB merges nested selects itself; in Python it takes up to half the time of a small log.
    ibis.options.sql.fuse_selects = False
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


def materialized(backend: ibis.BaseBackend, table: ibis.Table) -> ibis.Table:
    """Compute the rows of an expression once; the engine holds them for later expressions."""
    name = f"rows_{uuid.uuid4().hex[:12]}"
    if backend.name == DUCKDB:
        return backend.create_table(name, table, temp=True)
    backend.create_view(f"{name}_as_asked", table)
    spark.keep(backend.raw_sql(f"SELECT * FROM {name}_as_asked"), name)  # noqa: S608 (our names)
    return backend.table(name)


def read_parquet(backend: ibis.BaseBackend, path: Path) -> ibis.Table:
    """A Parquet file as an Ibis table of its own columns, whatever its path looks like.

    Left to themselves, engines read `*`, `?` and `[` in a path as a pattern, and DuckDB makes a
    column of a folder named `key=value`, in place of the file's own.
    """
    if backend.name == DUCKDB:
        return backend.read_parquet(glob.escape(str(path)), hive_partitioning=False)
    return backend.read_parquet(spark.escaped(path), recursiveFileLookup=True)


def batches(
    backend: ibis.BaseBackend, table: ibis.Table, order_by: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The rows of an expression, some thousands at a time.

    Args:
        backend: Where the table is computed.
        table: Made of files and of tables that are `materialized`.
        order_by: Columns; by default the order is the engine's.
    """
    ordered = backend.raw_sql(backend.compile(table.order_by(*order_by) if order_by else table))
    if backend.name == DUCKDB:
        yield from ordered.to_arrow_reader(_ROWS_A_BATCH)
    else:
        yield from spark.batches(ordered, _ROWS_A_BATCH)


def ordered_rows(
    backend: ibis.BaseBackend, table: ibis.Table, order_by: Sequence[str], schema: pa.Schema
) -> pa.Table:
    """All rows of an expression in memory, in order, as columns of `schema`."""
    rows = (pa.Table.from_batches([b]).cast(schema) for b in batches(backend, table, order_by))
    return pa.concat_tables([schema.empty_table(), *rows])


def mapped(
    backend: ibis.BaseBackend,
    table: ibis.Table,
    function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
    *,
    together: str,
    order_by: Sequence[str],
) -> Iterator[pa.RecordBatch]:
    """What a function makes of an expression's rows, in order; on Spark its executors run it.

    Args:
        backend: Where the table is computed.
        table: Made of files and of tables that are `materialized`.
        function: Batches in order → batches of `schema`, which have the columns of `order_by` too.
            Spark sends it to its executors, each of which reads a part of the rows.
        schema: Of what the function gives.
        together: A column; rows that share its value come to one call of the function.
        order_by: Columns that give the order; `together` is the first.
    """
    if backend.name == DUCKDB:
        yield from function(batches(backend, table, order_by))
        return
    rows = backend.raw_sql(backend.compile(table))
    made = spark.mapped(rows, function, schema, together=together, order_by=order_by)
    yield from spark.batches(made, _ROWS_A_BATCH)


def mapped_on_spark(
    engine: str,
    path: Path,
    tables: Iterable[pa.Table],
    function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """What Spark's executors make of the rows of each table, in any order.

    Args:
        engine: A Spark address; see `spark.session`.
        path: Where the tables come from, to be named in messages.
        tables: Of this process, one schema.
        function: Batches → batches of `schema`; see `mapped`.
        schema: Of what the function gives.

    Raises:
        RecordError: If the executors cannot work on a table.
        SettingsError: If the engine is not there.
    """
    session = spark.session(engine)
    for table in tables:
        with _reading_on_spark(path):
            yield spark.mapped_table(session, table, function, schema)


def _spark_errors() -> tuple[type[Exception], ...]:
    """Spark's errors if Spark is loaded; importing them would load it."""
    loaded = sys.modules.get("pyspark.errors")
    return (loaded.PySparkException,) if loaded else ()


def lacks_disk(error: duckdb.Error) -> bool:
    """Whether the engine ran out of disk space, which it reports as a lack of memory."""
    return "max_temp_directory_size" in str(error) or "No space left" in str(error)


class _CtrlC:
    """Interrupts query after query of a DuckDB connection from Ctrl-C on."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._pressed, self._ended = threading.Event(), threading.Event()
        self._numbers, self._written = socket.socketpair()
        self._written.setblocking(False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._previous = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def _watch(self) -> None:
        while received := self._numbers.recv(64):
            if signal.SIGINT in received:
                self._pressed.set()
                self._connection.interrupt()
                while not self._ended.wait(_SECONDS_BETWEEN_INTERRUPTS):
                    self._connection.interrupt()

    def pressed(self) -> bool:
        """Stop watching, and say whether Ctrl-C was pressed."""
        signal.set_wakeup_fd(self._previous)
        self._ended.set()
        self._written.close()
        self._thread.join()
        self._numbers.close()
        return self._pressed.is_set()


@contextlib.contextmanager
def interruptible(backend: ibis.BaseBackend) -> Iterator[None]:
    """Let Ctrl-C end the queries of DuckDB at once, as KeyboardInterrupt.

    Python handles signals between its own instructions, so not while a query runs; and if it does
    so in the callback of a weak reference, KeyboardInterrupt goes no further. The signal's number
    is therefore also written to a socket (`signal.set_wakeup_fd`). The thread that reads it
    interrupts every query until the block ends.
    """
    if backend.name != DUCKDB or threading.current_thread() is not threading.main_thread():
        yield
        return
    ctrl_c = _CtrlC(backend.con)
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if ctrl_c.pressed():
            raise KeyboardInterrupt from error
        raise
    finally:
        pressed = ctrl_c.pressed()
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def reading(path: Path, backend: ibis.BaseBackend) -> Iterator[None]:
    """Raise an engine's errors about unreadable rows as ours.

    Ctrl-C ends a running query; see `interruptible`.

    Raises:
        RecordError: If the engine cannot read the file's rows.
        StorageError: If there is no space to spill to.
    """
    try:
        with interruptible(backend), _reading_on_spark(path):
            yield
    except duckdb.Error as error:
        if lacks_disk(error):
            raise StorageError(
                f"{path}: its rows do not fit into memory, and the temporary folder "
                f"{tempfile.gettempdir()} is full ({first_line(error)}); expected space to spill "
                "to. Free some, or set TMPDIR to a folder on a larger disk; nothing was left "
                "half-written."
            ) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise RecordError(
                f"{path}: its rows are too long to be held in memory some thousands at a time "
                f"({first_line(error)}); expected shorter messages. Ingest the log without its "
                "longest messages."
            ) from error
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def _reading_on_spark(path: Path) -> Iterator[None]:
    try:
        yield
    except _spark_errors() as error:
        if failed := _RAISED.findall(str(error)):
            raise RecordError(
                f"{path}: Spark's executors cannot work on it ({failed[-1]}); expected files under "
                "the same paths there, and Turnout with the packages of its serving install in "
                "their Python. Or leave --engine out."
            ) from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> RecordError:
    return RecordError(
        f"{path}: its rows cannot be read ({first_line(error)}); expected a complete Parquet file "
        "of the turns table. If it was copied, copy it again; else ingest the log again."
    )
