"""The same data set from Spark as from DuckDB, byte for byte, also where no Java is installed."""

import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout.spark
from tests.dataset.test_selection import CATALOG, log
from tests.spark import run_verbs, without_java
from tests.tables import turn, write_turns
from turnout.dataset import build_from_turns
from turnout.engine import connect
from turnout.errors import SettingsError
from turnout.manifest import tree_sha256
from turnout.schema import LABELS


@pytest.mark.slow
def test_spark_gives_the_bytes_that_duckdb_gives_though_no_java_is_installed(tmp_path):
    gives_the_bytes_that_duckdb_gives(tmp_path, "spark://local[2]", "session", "conversation")


def gives_the_bytes_that_duckdb_gives(folder, engine, *architectures):
    rows = [*log(n=1200), turn("twice", 1, "short", "o3"), turn("twice", 1, "longer", "gpt-4o")]
    rows += [turn("naïve Ω", 1, " \x0bİstanbul ς ", "o3"), turn("auto", 1, "hello", "auto")]
    source = write_turns(folder / "turns.parquet", rows)
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
    pq.write_table(pa.Table.from_pylist(labels, LABELS), folder / "labels.parquet")
    verbs = []
    for architecture in architectures:
        verb = ["build", "turns.parquet", "-o", f"spark-{architecture}", "--size", "100"]
        verb += ["--architecture", architecture]
        given = ["--labels", "labels.parquet"] if architecture == "conversation" else []
        verbs.append(verb + given)
    run_verbs(folder, *verbs, engine=engine, environment=without_java(folder / "bin"))
    for architecture in architectures:
        given = folder / "labels.parquet" if architecture == "conversation" else None
        here = folder / f"duckdb-{architecture}"
        build_from_turns(
            source, here, architecture=architecture, catalog=CATALOG, labels=given, size=100
        )
        assert tree_sha256(folder / f"spark-{architecture}") == tree_sha256(here)


def test_the_java_runtime_s_folder_goes_with_the_process(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment |= {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    asked = "import os, turnout.spark as s; s._with_java('x'); print(os.environ['JAVA_HOME'])"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("polars", "--engine: found 'polars'; expected duckdb, spark"),
        ("sc://127.0.0.1:abc", r"--engine sc://127.0.0.1:abc: .*Expected sc://HOST:PORT"),
        ("sc://127.0.0.1:9", r"--engine sc://127.0.0.1:9: nothing answered .*expected a Spark Co"),
    ],
)
def test_an_engine_that_is_not_there_is_refused(monkeypatch, engine, said):
    if engine.startswith("sc:"):
        pytest.importorskip("grpc_status", reason="the client of Spark Connect is not installed")
    monkeypatch.setattr(turnout.spark, "_SECONDS_TO_CONNECT", 1)
    with pytest.raises(SettingsError, match=said):
        connect(engine)


def test_the_client_s_packages_are_named_where_they_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(SettingsError, match=r"expected the client of Spark Connect.*pip install"):
        connect("sc://127.0.0.1:9")
