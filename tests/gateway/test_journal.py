"""The journal on its own: what is written, what is lost, what is removed."""

import dataclasses
import datetime as dt
import json
import os
import threading
import time

import pytest

from tests.disks import fill, small_disk
from turnout.gateway import journal as journal_module
from turnout.gateway.journal import Journal
from turnout.protocols import parts
from turnout.routing.served import Served

SERVED = Served(
    request_id="r1",
    timestamp=dt.datetime(2026, 11, 30, tzinfo=dt.UTC),
    protocol="chat",
    kind="turn",
    conversation_id="c1",
    turn_index=1,
    requested_model="turnout",
    model="quick-1",
    model_class="fast",
    target="local/quick-1",
    chosen_by="router",
    outcome="success",
    user_message="hello 🚂",
    assistant_message="hi",
)
NOW_S = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC).timestamp()


def lines(folder):
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


@pytest.fixture
def written(tmp_path):
    opened = []

    def open_journal(**options):
        opened.append(Journal(tmp_path / "journal", now=lambda: NOW_S, **options))
        return opened[-1]

    yield open_journal
    for each in opened:
        each.close()


def test_a_record_is_read_back_as_it_was(written, tmp_path):
    journal = written()
    journal.write(SERVED)
    assert journal.flush()
    assert Served.from_json(lines(tmp_path / "journal")[0]) == SERVED
    (path,) = (tmp_path / "journal").glob("*.jsonl")
    assert path.name == "journal-2026-11-30.jsonl"
    assert path.stat().st_mode & 0o077 == 0


def test_a_record_after_half_a_line_begins_on_a_line_of_its_own(written, tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "journal-2026-11-30.jsonl").write_text('{"conversation_id": "c0", "us')
    journal = written()
    journal.write(SERVED)
    journal.flush()
    torn, whole = (folder / "journal-2026-11-30.jsonl").read_text().splitlines()
    assert json.loads(whole)["conversation_id"] == "c1"
    assert torn.endswith('"us')


def test_half_a_surrogate_pair_does_not_lose_the_record(written, tmp_path):
    journal = written()
    journal.write(dataclasses.replace(SERVED, user_message="\ud83d"))
    journal.flush()
    assert lines(tmp_path / "journal")[0]["user_message"] == "?"


def test_a_long_text_is_written_in_pieces_as_it_is(written, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_PIECE_CHARS", 3)
    said = 'a "quoted" \\ text\nwith 会話, 🚀, \x00 and <tags>'
    journal = written()
    journal.write(dataclasses.replace(SERVED, user_message=said, assistant_message=said * 9))
    journal.flush()
    (line,) = lines(tmp_path / "journal")
    assert (line["user_message"], line["assistant_message"]) == (said, said * 9)


def test_a_stuck_disk_delays_nobody_and_what_is_lost_is_counted_exactly(
    written, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal_module, "_MAX_QUEUED", 5)
    folder = tmp_path / "journal"
    folder.mkdir()
    pipe = folder / "journal-2026-11-30.jsonl"
    os.mkfifo(pipe)
    # The pipe is full: whoever writes to it waits.
    filler = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    journal = written()
    try:
        while True:
            os.write(filler, b"\n" * 4096)
    except BlockingIOError:
        pass
    for _ in range(12):
        journal.write(SERVED)
    assert journal.lost_lines == 7
    assert not journal.flush(timeout_s=0.05)
    os.set_blocking(filler, True)
    got = b""
    while got.count(b"c1") < 5:
        got += os.read(filler, 65536)
    assert journal.flush()
    os.close(filler)


def test_a_folder_that_is_removed_is_made_again(written, tmp_path):
    journal = written()
    journal.write(SERVED)
    journal.flush()
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    journal.write(SERVED)
    journal.flush()
    assert len(lines(tmp_path / "journal")) == 1


def test_the_journal_is_bounded_and_the_oldest_files_go_first(written, tmp_path):
    size = len(json.dumps(SERVED.as_json(), ensure_ascii=False).encode()) + 1
    journal = written(max_mb=20 * size / 1e6)  # two records a file
    for n in range(60):
        journal.write(dataclasses.replace(SERVED, request_id=f"{n:02}"))
    journal.flush()
    stored = [line["request_id"] for line in lines(tmp_path / "journal")]
    total = sum(path.stat().st_size for path in (tmp_path / "journal").iterdir())
    assert total <= 20 * size
    assert "59" in stored
    assert "00" not in stored
    assert journal.lost_lines == 0


def test_files_older_than_asked_go(written, tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    old, other = folder / "journal-2025-01-01.jsonl", folder / "notes.jsonl"
    for path in (old, other):
        path.write_text("{}\n")
        os.utime(path, (NOW_S - 100 * 86_400,) * 2)
    journal = written(max_days=30)
    journal.write(SERVED)
    journal.flush()
    assert not old.exists()
    assert other.exists(), "what is no journal is left alone"


@pytest.mark.parametrize("jump_s", [800 * 86_400, -800 * 86_400])
def test_a_clock_that_is_set_loses_no_record(tmp_path, jump_s):
    clock = [time.time()]
    journal = Journal(tmp_path / "journal", now=lambda: clock[0])
    for step_s in (0, jump_s, -jump_s):
        clock[0] += step_s
        journal.write(SERVED)
        assert journal.flush()
    journal.close()
    assert len(lines(tmp_path / "journal")) == 3


@pytest.mark.parametrize(("text", "hashed"), [("off", False), ("hashed", True)])
def test_texts_can_be_left_out_or_hashed(written, tmp_path, text, hashed):
    journal = written(text=text)
    journal.write(SERVED)
    journal.flush()
    (line,) = lines(tmp_path / "journal")
    assert line["user_message"] is None
    assert line["assistant_message"] is None
    assert (line["user_message_hash"] is not None) is hashed


def test_records_of_many_threads_are_all_whole(written, tmp_path):
    journal = written()
    threads = [
        threading.Thread(target=lambda: [journal.write(SERVED) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.flush()
    assert len(lines(tmp_path / "journal")) == 400


def test_a_full_disk_loses_records_that_are_counted_and_the_next_ones_are_whole(tmp_path):
    with small_disk(tmp_path / "disk", 256) as disk:
        journal = Journal(disk / "journal", now=lambda: NOW_S)
        journal.write(SERVED)
        journal.flush()
        filler = fill(disk, 500)  # room for half a record
        for _ in range(3):
            journal.write(dataclasses.replace(SERVED, user_message="x" * 20_000))
        journal.flush()
        assert journal.lost_lines == 3
        filler.unlink()
        journal.write(dataclasses.replace(SERVED, request_id="after"))
        journal.close()
        text = (disk / "journal" / "journal-2026-11-30.jsonl").read_text()
    whole = [line for line in text.splitlines() if line.endswith("}")]
    assert [json.loads(line)["request_id"] for line in whole] == ["r1", "after"]
