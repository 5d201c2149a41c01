"""A verb that is killed or finds the disk full leaves no half output, and can be run again."""

import shutil
import signal
import subprocess
import sys

import pytest

from tests.cli import command
from tests.disks import fill, small_disk
from tests.tiny_router import write_router

pytestmark = pytest.mark.slow

RUN = "from turnout.cli import main; main()"
# From when its hidden folder is made, killed by the kernel where a file grows beyond so many bytes.
KILLED_AT_A_BYTE = """
import resource, signal, sys
limit = int(sys.argv.pop(1))
def kill(event, args):
    if event == "os.mkdir" and str(args[0]).endswith(".partial"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
sys.dont_write_bytecode = True
sys.addaudithook(kill)
"""
# Killed with all written, before the rename that shows it.
KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
def kill(event, args):
    if event == "os.rename" and str(args[1]).endswith(sys.argv[-1]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
"""
VERBS = {
    "ingest": ["ingest", "log/turns.parquet", "--salt", "salt", "-o"],
    "label": ["label", "turns.parquet", "-o"],
    "build": ["build", "turns.parquet", "--size", "120", "--architecture", "session", "-o"],
    "score": ["score", "router", "turns.parquet", "--text-column", "user_message", "-o"],
    "simulate": ["simulate", "--conversations", "50", "-o"],
    "switches": ["switches", "turns.parquet", "-o"],
    "evaluate": ["evaluate", "router", "whole/build/made", "-o"],
}
TIMED = ["evaluate"]  # its report holds milliseconds, so that no two are the same
RENAMED = ["label", "build"]  # a file and a folder; all verbs rename in one place
PAGE_BYTES = 4096  # what a small disk gives a file at least


def run(code, *arguments, cwd):
    """One process of the command."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A log, its turns, a router, and what an undisturbed run of every verb makes of them."""
    folder = tmp_path_factory.mktemp("line")
    write_router(folder / "router")
    simulated = ["simulate", "-o", "log", "--conversations", "300", "--seed", "3"]
    for arguments in (simulated, ["ingest", "log/turns.parquet", "-o", "turns.parquet"]):
        command.run(*arguments, cwd=folder)
    for verb, arguments in VERBS.items():
        (folder / "whole" / verb).mkdir(parents=True)
        command.run(*arguments, f"whole/{verb}/made", cwd=folder)
    return folder


def content(folder):
    """Every file under a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def hidden(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in TIMED])
def test_a_killed_verb_shows_nothing_and_a_rerun_gives_what_an_undisturbed_run_gives(line, verb):
    whole, here = line / "whole" / verb, line / "killed" / verb
    here.mkdir(parents=True)
    wanted = content(whole)
    out = f"killed/{verb}/made"
    half = max(map(len, wanted.values())) // 2
    killed = run(KILLED_AT_A_BYTE + RUN, half, *VERBS[verb], out, cwd=line)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr
    assert len(hidden(here)) == 1 and not (here / "made").exists()
    if verb in RENAMED:
        killed = run(KILLED_BEFORE_THE_RENAME + RUN, *VERBS[verb], out, cwd=line)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(hidden(here)) == 1 and not (here / "made").exists()
    command.run(*VERBS[verb], out, cwd=line)
    assert content(here) == wanted


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_told_with_its_exit_code_and_leaves_the_earlier_output(line, tmp_path, verb):
    with small_disk(tmp_path / "disk", 2048) as disk:
        shutil.copytree(line / "whole" / verb, disk, dirs_exist_ok=True)
        (manifest,) = disk.rglob("*manifest.json")
        # As an earlier version of Turnout made it: it is made anew.
        manifest.write_text(manifest.read_text().replace('"key": "', '"key": "of another '))
        wanted = sum(-(-len(part) // PAGE_BYTES) for part in content(disk).values())
        fill(disk, wanted * PAGE_BYTES // 2)
        before = content(disk)
        done = command.run(*VERBS[verb], disk / "made", cwd=line, ok=False)
        assert done.returncode == 7, done.stderr
        assert f"{disk / 'made'}: no space is left on the device" in done.stderr
        assert content(disk) == before
        assert hidden(disk) == []


def test_a_full_disk_leaves_a_router_the_threshold_that_it_had(line, tmp_path):
    with small_disk(tmp_path / "disk", 2048) as disk:
        router = shutil.copytree(line / "router", disk / "router")
        fill(disk)
        before = content(disk)
        typed = ["threshold", router, "turns.parquet", "--share", "0.3", "--write"]
        done = command.run(*typed, cwd=line, ok=False)
        assert done.returncode == 7, done.stderr
        assert "no space is left on the device" in done.stderr
        assert content(disk) == before
        assert hidden(router) == []
