"""The same data set from Spark as from DuckDB, byte for byte, also where no Java is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.test_choosing import CATALOG, log
from tests.tables import turn, write_turns
from turnout.dataset import build_from_turns
from turnout.engine import connect
from turnout.errors import SettingsError
from turnout.manifest import tree_sha256
from turnout.schema import LABELS

# One process, so that one Spark session serves both architectures.
SPARK = """
import sys
from turnout.cli import main
for architecture, labels in (("session", []), ("conversation", ["--labels", "labels.parquet"])):
    sys.argv = ["turnout", "build", "turns.parquet", "-o", f"spark-{architecture}",
                "--architecture", architecture, "--size", "100", "--engine", "spark://local[2]"]
    sys.argv += labels
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


def without_java(folder: Path) -> str:
    """A PATH with every command of the machine but Java."""
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for command in Path(place).iterdir():
            link = folder / command.name
            if command.name != "java" and not link.is_symlink():
                link.symlink_to(command)
    return str(folder)


@pytest.mark.slow
def test_spark_gives_the_bytes_that_duckdb_gives_though_no_java_is_installed(tmp_path):
    rows = [*log(n=2100), turn("twice", 1, "short", "o3"), turn("twice", 1, "longer", "gpt-4o")]
    rows += [turn("naïve Ω", 1, " \x0bİstanbul ς ", "o3"), turn("auto", 1, "hello", "auto")]
    source = write_turns(tmp_path / "turns.parquet", rows)
    labels = [
        {
            "conversation_id": row["conversation_id"],
            "turn_index": row["turn_index"],
            "p_reasoning": (at % 7) / 7,
            "confidence": 0.5,
            "evidence": ["upgrade"],
        }
        for at, row in enumerate(rows)
        if at % 5
    ]
    pq.write_table(pa.Table.from_pylist(labels, LABELS), tmp_path / "labels.parquet")
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment["PATH"] = without_java(tmp_path / "bin")
    done = subprocess.run(
        [sys.executable, "-c", SPARK],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for architecture, given in (("session", None), ("conversation", tmp_path / "labels.parquet")):
        here = tmp_path / f"duckdb-{architecture}"
        build_from_turns(
            source, here, architecture=architecture, catalog=CATALOG, labels=given, size=100
        )
        assert tree_sha256(tmp_path / f"spark-{architecture}") == tree_sha256(here)


def test_the_java_runtime_s_folder_goes_with_the_process(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment |= {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    asked = "import os, turnout.spark as s; s._with_java('x'); print(os.environ['JAVA_HOME'])"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_unknown_engine_is_refused():
    with pytest.raises(SettingsError, match="--engine: found 'polars'; expected duckdb, spark"):
        connect("polars")
