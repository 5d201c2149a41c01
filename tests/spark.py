"""Verbs run on Spark in a process of their own, and a Spark Connect server for them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers import free_port, listens

# Java then compiles quickly instead of well, and collects garbage in one thread: half the CPU time.
JAVA_OPTIONS = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
# One process, so that one Spark session serves every verb.
_VERBS = """
import json, sys
from turnout.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["turnout", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


def run_verbs(
    folder: Path, *verbs: list[str], engine: str, environment: Mapping[str, str] = os.environ
) -> None:
    """Run verbs, one after the other, in a folder."""
    asked = [[*verb, "--engine", engine] for verb in verbs]
    done = subprocess.run(
        [sys.executable, "-c", _VERBS, json.dumps(asked)],
        cwd=folder, env={**environment, **JAVA_OPTIONS},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def without_java(folder: Path) -> dict[str, str]:
    """An environment with every command of the machine but Java.

    Args:
        folder: To make, for its PATH.
    """
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for command in Path(place).iterdir():
            link = folder / command.name
            if command.name != "java" and not link.is_symlink():
                link.symlink_to(command)
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    return environment | {"PATH": str(folder)}


@contextlib.contextmanager
def connect_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """The address of a Spark Connect server on this machine, and the file of what it says.

    Args:
        folder: Where it writes.
    """
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
    log = folder / "server.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command), "spark-internal"],
            env=os.environ | {"SPARK_HOME": str(home), "TMPDIR": str(folder)} | JAVA_OPTIONS,
            cwd=folder, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        while not listens(port):
            assert server.poll() is None, log.read_text()[-2000:]
        yield f"sc://127.0.0.1:{port}", log
    finally:
        server.terminate()
        server.wait()
