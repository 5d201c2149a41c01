"""The command, run as a user types it, in this process."""

import contextlib
import io
import sys
from types import SimpleNamespace
from unittest.mock import patch

from turnout.cli import main

TURNOUT = [sys.executable, "-c", "from turnout.cli import main; main()"]


def run(*arguments, cwd=".", ok=True, encoding="utf-8"):
    """Run the command; its exit code and what it wrote, after checking what every run promises."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["turnout", *map(str, arguments)]),
    ):
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
    for stream in (out, err):
        stream.flush()
    stdout, stderr = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    assert "Traceback" not in stderr + stdout
    if ok:
        assert code == 0, stderr
    return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr)
