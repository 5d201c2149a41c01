"""What a run shows of itself: on a terminal as it goes, in a pipe one line a step."""

import json
import os
import pty
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.command import TURNOUT, run
from tests.tables import turn, write_turns
from turnout.cli import console
from turnout.cli.console import progress_bars
from turnout.errors import RecordError

pytestmark = pytest.mark.slow

VERBS = {
    "switches": ("switches turns.parquet -o made --json", "4 of 4: write"),
    "label": ("label turns.parquet -o made --json", "3 of 3: write labels"),
    "build": ("build turns.parquet -o made --architecture session --json", "6 of 6: write"),
    "build of outcomes": ("build scores.parquet -o made --outcomes --json", "3 of 3: write"),
}


@pytest.fixture
def folder(tmp_path):
    """A small log, and prompts on which both classes were measured."""
    rows = [
        turn(f"c{number}", index, f"message {index} of {number}", ("o3", "gpt-4o")[number % 2])
        for number in range(200)
        for index in (1, 2)
    ]
    write_turns(tmp_path / "turns.parquet", rows)

    prompts = [
        {
            "prompt": f"question {number}",
            "reasoning_score": 0.9,
            "fast_score": (0.1, 0.9)[number % 2],
        }
        for number in range(200)
    ]
    pq.write_table(pa.Table.from_pylist(prompts), tmp_path / "scores.parquet")
    return tmp_path


def on_terminal(*arguments, cwd):
    """Run the command with a terminal as its stderr; its stdout, and what the terminal got."""
    screen, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    command = [*TURNOUT, *arguments]
    with (
        (cwd / "stdout").open("wb") as stdout,
        subprocess.Popen(
            command, stdout=stdout, stderr=terminal, cwd=cwd, env=environment
        ) as running,
    ):
        os.close(terminal)
        shown = b""
        # Linux tells the end of a terminal as an error.
        while chunk := _read(screen):
            shown += chunk
    os.close(screen)
    assert running.returncode == 0, shown
    return (cwd / "stdout").read_text(), shown.decode()


def _read(screen):
    try:
        return os.read(screen, 65_536)
    except OSError:
        return b""


def test_a_terminal_shows_the_steps_and_stdout_the_result_alone(folder):
    typed, last = VERBS["switches"]
    stdout, shown = on_terminal(*typed.split(), cwd=folder)
    assert "1 of" in shown
    assert last in shown
    assert json.loads(stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_a_pipe_gets_the_steps_one_a_line_and_stdout_the_result_alone(folder, verb):
    typed, last = VERBS[verb]
    done = run(*typed.split(), cwd=folder)
    assert sum("of" in line and ":" in line for line in done.stderr.splitlines()) >= 3
    assert last in done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("colour", [{}, {"FORCE_COLOR": "1"}], ids=["pipe", "terminal"])
def test_a_run_that_ends_before_its_first_step_leaves_no_line(capsys, monkeypatch, colour):
    for name, value in colour.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecordError), progress_bars():
        raise RecordError("a.jsonl: no log there")
    assert capsys.readouterr().err == ""


def test_an_error_of_a_missing_file_is_the_first_line_on_stderr(tmp_path):
    done = run("ingest", "nowhere.jsonl", "-o", "turns.parquet", cwd=tmp_path, ok=False)
    assert done.returncode == 3
    assert done.stderr.startswith("turnout: nowhere.jsonl")


def test_steps_are_left_in_a_pipe_one_a_line(capsys):
    with progress_bars() as on_progress:
        on_progress("ingest", 1, 3)
        on_progress("ingest", 3, 3)
        on_progress("write", 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["ingest", "write"]


def test_a_long_step_tells_in_a_pipe_where_it_is_and_how_long_it_takes(capsys, monkeypatch):
    seconds = iter([0, 59, 60, 90, 121, 130])
    monkeypatch.setattr(console, "monotonic", lambda: next(seconds))
    with progress_bars() as on_progress:
        for done in (1_000, 1_500, 2_000, 2_400, 2_500, 3_000):
            on_progress("fine-tune", done, 3_000)
    assert capsys.readouterr().err.splitlines() == [
        "fine-tune  2,000/3,000  0:01:00, left 0:01:00",
        "fine-tune  2,500/3,000  0:02:01, left 0:00:40",
        "fine-tune  3,000/3,000  0:02:10",
    ]


def test_a_step_that_is_not_over_is_left_in_a_pipe_where_it_stood(capsys):
    with pytest.raises(RecordError), progress_bars() as on_progress:
        on_progress("ingest", 7, None)
        raise RecordError("a.jsonl: line 8 is no record")
    assert capsys.readouterr().err.startswith("ingest  7  0:00:00")


def test_a_path_longer_than_a_line_is_printed_whole(folder):
    deep = folder / ("deep" * 40)
    deep.mkdir()
    done = run("ingest", "turns.parquet", "-o", deep / "made.parquet", cwd=folder)
    assert f"Turns: {deep / 'made.parquet'}" in done.stdout.splitlines()
