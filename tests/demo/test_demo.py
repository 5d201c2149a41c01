"""`make demo` at a tiny size; run this module to write its golden anew."""

import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.network import watch

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "goldens" / "demo.txt"
# What comes after is learnt: its numbers depend on the processor.
LEARNT = "Each router on"
SIZES = {"CONVERSATIONS": "120", "ROWS": "100", "EPOCHS": "1", "MAX_TOKENS": "16"}


def run_demo(out: Path) -> str:
    """What the demo prints, its folder's name left out."""
    environment = {
        **watch.environment(),
        **SIZES,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "examples/demo.sh", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return re.sub(r" +\n", "\n", done.stdout.replace(str(out), "build/demo"))


def test_the_demo_of_an_own_log_maps_its_columns(tmp_path):
    (tmp_path / "turnout").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$ARGUMENTS"\nexit 9\n')
    (tmp_path / "turnout").chmod(0o755)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 0\n")  # no torch to ask
    (tmp_path / "python").chmod(0o755)
    log = tmp_path / "log.jsonl"
    log.write_text("{}")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
                   "ARGUMENTS": str(tmp_path / "arguments")}  # fmt: skip
    pairs = "model=engine user_message=payload.text"
    done = subprocess.run(
        ["sh", "examples/demo.sh", str(tmp_path / "demo"), str(log), pairs],
        cwd=ROOT, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 9
    verb, *arguments = (tmp_path / "arguments").read_text().splitlines()
    command = importlib.import_module(f"turnout.cli.{verb}").command
    given = command.make_context(verb, arguments).params
    assert tuple(given["logs"]) == (str(log),)
    assert list(given["columns"]) == pairs.split()


@pytest.mark.slow
def test_the_demo_prints_what_was_reviewed_reaches_nobody_and_ends_with_decisions(tmp_path):
    printed = run_demo(tmp_path / "demo")
    assert watch.attempts() == []
    counted, learnt = printed.split(LEARNT, 1)
    assert counted == GOLDEN.read_text()
    assert len(re.findall(r"^(?:fast|reasoning) +\d\.\d{3}", learnt, re.MULTILINE)) == 8
    for page in ("index.html", "report/report.html", "replay/replay.html", "switches/report.html"):
        assert (tmp_path / "demo" / page).is_file()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(run_demo(Path(folder) / "demo").split(LEARNT, 1)[0])
