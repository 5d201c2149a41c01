"""Verbs run on Spark: on a session of the process, and by that session as a Connect server."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers import free_port

# Java then compiles quickly instead of well, and collects garbage in one thread: half the CPU time.
JAVA_OPTIONS = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
# One process, so that one Spark session serves every verb. It ends with its standard input.
_VERBS = """
import json, sys
from turnout.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["turnout", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
sys.stdout.write("all verbs ran\\n")
sys.stdout.flush()
sys.stdin.read()
"""
_SERVES = """
spark.plugins org.apache.spark.sql.connect.SparkConnectPlugin
spark.connect.grpc.binding.address 127.0.0.1
spark.connect.grpc.binding.port {port}
"""
_LOGS = """
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n%ex
logger.connect.name = org.apache.spark.sql.connect
logger.connect.level = info
"""


def run_verbs(folder: Path, *verbs: list[str], engine: str) -> None:
    """Run verbs in a folder, one after the other."""
    done = subprocess.run(
        _command(verbs, engine), cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@contextlib.contextmanager
def verbs_that_leave_a_server(
    folder: Path, *verbs: list[str], place: Path
) -> Iterator[tuple[str, Path]]:
    """Run verbs on Spark here, without the machine's Java, and let their session serve others.

    Args:
        folder: Where they run.
        verbs: Their arguments.
        place: A folder for what Spark needs.

    Yields:
        The address of the Spark Connect server, and the file of what it logs.
    """
    settings, log, port = place / "settings", place / "server.log", free_port()
    settings.mkdir()
    (settings / "spark-defaults.conf").write_text(_SERVES.format(port=port))
    (settings / "log4j2.properties").write_text(_LOGS)
    environment = _without_java(place / "bin") | {"SPARK_CONF_DIR": str(settings)} | JAVA_OPTIONS
    with (
        log.open("w") as written,
        subprocess.Popen(
            _command(verbs, "spark://local[2]"), cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True,
        ) as session,
    ):  # fmt: skip
        assert "all verbs ran\n" in session.stdout, log.read_text()[-3000:]
        yield f"sc://127.0.0.1:{port}", log
        session.communicate()
    assert session.returncode == 0, log.read_text()[-3000:]


def _command(verbs: tuple[list[str], ...], engine: str) -> list[str]:
    arguments = [[*verb, "--engine", engine] for verb in verbs]
    return [sys.executable, "-c", _VERBS, json.dumps(arguments)]


def _without_java(folder: Path) -> dict[str, str]:
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
