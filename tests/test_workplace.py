"""Wherever a run is killed, the next one cleans up after it, and never after a run that lives."""

import subprocess
import sys

import pytest

from turnout.manifest import Manifest, replace_file
from turnout.stage import StageRun

# A run that kills itself before its Nth step on the disk; exit code 0 where it ends before that.
KILLED = """
import os, signal, sys
from pathlib import Path
from turnout.manifest import Manifest, replace_file
from turnout.stage import StageRun
step, kind, output = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
steps = 0
def kill(event, _):
    global steps
    if event.partition(".")[0] in ("open", "os", "shutil"):
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
manifest = Manifest("stage", {}, {"text": "second"})
pid = os.fork()
while pid:  # the child of each turn is killed one step later than the one before
    killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    print(int(killed), flush=True)
    if not killed or not sys.stdin.readline():
        sys.exit()
    step += 1
    pid = os.fork()
sys.addaudithook(kill)
if kind == "edit":
    replace_file(output, "part", "second")
elif not StageRun(output, manifest).is_done():
    with StageRun(output, manifest).output() as partial:
        for n in "abcdefgh":
            partial.with_name(n).touch()
        if kind == "folder":
            partial.mkdir()
            (partial / "part").write_text("second")
        else:
            partial.write_text("second")
os._exit(0)
"""


def write(output, kind, text):
    """One whole run."""
    manifest = Manifest("stage", {}, {"text": text})
    StageRun(output, manifest).is_done()
    with StageRun(output, manifest).output() as partial:
        if kind == "file":
            partial.write_text(text)
        else:
            partial.mkdir()
            (partial / "part").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder", "edit"])
def test_wherever_a_run_is_killed_the_output_is_one_or_the_other_and_nothing_else_stays(
    tmp_path, kind
):
    output = tmp_path / "out"
    part = output if kind == "file" else output / "part"
    write(output, kind, "first")
    whole = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    contents, left = [], 0
    command = [sys.executable, "-c", KILLED, "1", kind, str(output)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        while killed.stdout.readline() == "1\n":
            left += bool(list(tmp_path.rglob(".*.partial")))
            StageRun(output, Manifest("stage", {}, {})).is_done()
            contents.append(part.read_text())
            if kind == "edit":
                replace_file(output, "part", "first")
            else:
                write(output, kind, "first")
            assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == whole
            killed.stdin.write("on\n")
            killed.stdin.flush()
    assert killed.wait() == 0
    assert part.read_text() == "second"
    assert left > 5
    assert contents == sorted(contents) and set(contents) == {"first", "second"}


LIVE = """
import sys
from pathlib import Path
from turnout.manifest import Manifest
from turnout.stage import StageRun
with StageRun(Path(sys.argv[1]), Manifest("stage", {}, {})).output() as partial:
    partial.with_name("rows").write_text("gathered")
    print("writing", flush=True)
    sys.stdin.readline()
    partial.write_text(partial.with_name("rows").read_text())
"""


def test_a_run_that_lives_keeps_what_it_has_written(tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-c", LIVE, str(output)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as live:
        assert live.stdout.readline() == "writing\n"
        write(output, "file", "of another run")
        assert output.read_text() == "of another run"
        live.stdin.write("\n")
        live.stdin.flush()
        assert live.wait() == 0
    assert output.read_text() == "gathered"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.manifest.json"]


def test_what_others_left_beside_an_output_is_not_touched(tmp_path):
    output = tmp_path / "o[u]t*"
    others = [".o[u]t*.partial", ".u.0123abcd.partial", ".o[u]t*.more.0123abcd.partial"]
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "in-use").touch()
    mine = tmp_path / ".o[u]t*.0123abcd.partial"
    mine.mkdir()
    (mine / "in-use").touch()
    write(output, "file", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*others, output.name, f"{output.name}.manifest.json"]
    )
