"""What `turnout ingest` shows: layouts, counts and the first conversations, names as they are."""

import contextlib
import json
import os
import pty
import subprocess

import pyarrow.parquet as pq
import pytest

from tests.cli.command import TURNOUT, run

NOON = "2026-05-04T12:00:00Z"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    flat = [
        {"conversation_id": f"c[/b]{c}:fire:", "turn_index": n, "timestamp": NOON,
         "user_message": f"plot the [/red] curve :smile:\n{n}", "model": "o3", "area": "sales"}
        for c in range(4) for n in range(1, 10)
    ]  # fmt: skip
    (folder / "flat.jsonl").write_text("\n".join(map(json.dumps, flat)))
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    (folder / "chats.json").write_text(json.dumps([{"id": "z", "messages": said, "area": "legal"}]))
    return folder


def test_a_dry_run_shows_what_was_understood_and_writes_nothing(tmp_path, log):
    shown = run("ingest", log, "--dry-run", cwd=tmp_path).stdout
    assert "flat.jsonl: 36 × a turn a row" in shown
    assert "chats.json: 1 × list of messages" in shown
    assert "kept: one row a turn │   37" in shown
    assert shown.count("2026-05-04 12:00 │ o3    │ reasoning │ turn") == 18
    assert "… 3 more turns" in shown
    assert not list(tmp_path.iterdir())
    assert sorted(path.name for path in log.iterdir()) == ["chats.json", "flat.jsonl"]


def test_names_and_messages_are_shown_as_they_are(tmp_path, log):
    shown = run("ingest", log / "flat.jsonl", "--dry-run", cwd=tmp_path).stdout
    assert "c[/b]0:fire:" in shown
    assert "plot the [/red] curve :smile: 1" in shown


def test_a_dry_run_as_json_names_no_output(tmp_path, log):
    shown = json.loads(run("ingest", log, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (shown["output"], shown["rows_kept"]) == (None, 37)
    assert shown["layouts"][str(log / "flat.jsonl")] == {"a turn a row": 36}


def test_without_a_dry_run_an_output_is_required(tmp_path, log):
    shown = run("ingest", log, cwd=tmp_path, ok=False)
    assert (shown.returncode, "Missing option '-o'" in shown.stderr) == (2, True)


def shown_on_a_terminal(*command):
    screen, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL):
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # so Linux tells the end of a terminal
            while chunk := os.read(screen, 1 << 16):
                shown += chunk
    os.close(screen)
    return shown


@pytest.mark.slow
def test_only_a_terminal_is_shown_the_first_conversations_of_a_real_run(tmp_path, log):
    command = ["ingest", str(log), "-o", str(tmp_path / "turns.parquet")]
    assert "First conversations" not in run(*command).stdout
    (tmp_path / "turns.parquet").unlink()
    assert b"First conversations" in shown_on_a_terminal(*TURNOUT, *command)


def test_a_column_that_is_kept_becomes_a_segment_of_its_turns(tmp_path, log):
    out = tmp_path / "turns.parquet"
    shown = run("ingest", log, "-o", out, "--keep", "area").stdout
    assert "Not read" not in shown
    segments = pq.read_table(out)["segments"].to_pylist()
    assert segments == ['{"area": "sales"}'] * 36 + ['{"area": "legal"}']


def test_of_a_turns_table_both_its_segments_and_its_own_columns_can_be_kept(tmp_path, log):
    once, again = tmp_path / "once.parquet", tmp_path / "again.parquet"
    run("ingest", log, "-o", once, "--keep", "area")
    run("ingest", once, "-o", again, "--keep", "area", "--keep", "turn_index")
    assert pq.read_table(again)["segments"][0].as_py() == '{"area": "sales", "turn_index": 1}'


def test_a_column_to_keep_that_no_row_has_is_refused(tmp_path, log):
    shown = run("ingest", log, "-o", tmp_path / "t.parquet", "--keep", "aera", ok=False)
    assert shown.returncode == 2
    assert "aera: no row has this column, which --keep names" in shown.stderr
    assert not list(tmp_path.iterdir())
