"""The same data set from Spark as from DuckDB, byte for byte, also where no Java is installed."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout.spark
from tests.dataset.test_choosing import CATALOG, log
from tests.servers import free_port
from tests.tables import turn, write_turns
from turnout.dataset import build_from_turns
from turnout.engine import connect
from turnout.errors import SettingsError
from turnout.manifest import tree_sha256
from turnout.schema import LABELS

# One process, so that one Spark session serves every architecture.
BUILD = """
import sys
from turnout.cli import main
engine, *architectures = sys.argv[1:]
for architecture in architectures:
    labels = ["--labels", "labels.parquet"] if architecture == "conversation" else []
    sys.argv = ["turnout", "build", "turns.parquet", "-o", f"spark-{architecture}",
                "--architecture", architecture, "--size", "100", "--engine", engine]
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


@pytest.fixture
def connect_server(tmp_path):
    """The address of a Spark Connect server on this machine, and the file of what it says."""
    pytest.importorskip("grpc_status", reason="the client of Spark Connect is not installed")
    home, port = Path(pytest.importorskip("pyspark").__file__).parent, free_port()
    options = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
    }
    command = [home / "bin" / "spark-submit", "--master", "local[2]", "--class",
               "org.apache.spark.sql.connect.service.SparkConnectServer"]  # fmt: skip
    for name, value in options.items():
        command += ["--conf", f"{name}={value}"]
    code = (
        "import os, sys, turnout.spark as s; s._with_java('x'); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with (tmp_path / "server.log").open("w") as said:
        server = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command), "spark-internal"],
            env=os.environ | {"SPARK_HOME": str(home), "TMPDIR": str(tmp_path)},
            cwd=tmp_path, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        while not listens(port):
            assert server.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(0.1)
        yield f"sc://127.0.0.1:{port}", tmp_path / "server.log"
    finally:
        server.terminate()
        server.wait()


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.slow
def test_spark_gives_the_bytes_that_duckdb_gives_though_no_java_is_installed(tmp_path):
    gives_the_bytes_that_duckdb_gives(tmp_path, "spark://local[2]", "session", "conversation")


@pytest.mark.slow
def test_a_spark_connect_server_gives_the_bytes_that_duckdb_gives_and_its_session_is_closed(
    tmp_path, connect_server
):
    address, log_of_server = connect_server
    gives_the_bytes_that_duckdb_gives(tmp_path, address, "conversation")
    assert "SessionHolder: Closing session" in log_of_server.read_text()


def gives_the_bytes_that_duckdb_gives(tmp_path, engine, *architectures):
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
        [sys.executable, "-c", BUILD, engine, *architectures],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for architecture in architectures:
        given = tmp_path / "labels.parquet" if architecture == "conversation" else None
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
