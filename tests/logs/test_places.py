"""Files, folders, patterns and URIs name the same logs, in the same order."""

import gzip
import json
import socket
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout.logs.stores
from tests.servers import free_port
from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.formats import FORMAT_NAMES, is_log
from turnout.logs.places import files_of


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "deep/er/c.jsonl", "deep/d.csv", "notes.txt"):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    (tmp_path / "logs" / "manifest.json").write_text("{}")
    (tmp_path / "logs" / "turns.parquet.manifest.json").write_text("{}")
    return tmp_path / "logs"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.jsonl", "b.jsonl", "deep/d.csv", "deep/er/c.jsonl"]),
        ("/*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("/[!a].jsonl", ["b.jsonl"]),
        ("/**/*.jsonl", ["a.jsonl", "b.jsonl", "deep/er/c.jsonl"]),
        ("/deep/*/c.*", ["deep/er/c.jsonl"]),
        ("/b.jsonl", ["b.jsonl"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_source_names_its_logs_in_order(folder, prefix, pattern, expected):
    files = files_of([f"{prefix}{folder}{pattern}"], is_log, FORMAT_NAMES)
    assert [file.path[len(str(folder)) + 1 :] for file in files] == expected


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    (tmp_path / "log[1].jsonl").write_text("{}")
    (file,) = files_of([tmp_path / "log[1].jsonl"], is_log, FORMAT_NAMES)
    assert file.label == "log[1].jsonl"


def test_a_folder_is_read_from_a_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in ("logs", "logs/", "./logs", ".", "*/**", "**/*"):
        assert len(files_of([source], is_log, FORMAT_NAMES)) == 4
    monkeypatch.chdir(folder)
    assert [file.label for file in files_of(["*.jsonl"], is_log, FORMAT_NAMES)] == [
        "a.jsonl", "b.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["ftp://host/a.jsonl", "https://host/a.jsonl"])
def test_a_place_of_an_unknown_kind_is_refused(source):
    with pytest.raises(RecordError, match=r"an unknown kind of place; expected .*s3://"):
        files_of([source], is_log, FORMAT_NAMES)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://ann:secret@host/a.jsonl?token=secret", "ftp://host/a.jsonl: an unknown kind"),
        ("s3://ann:a/secret@bucket/a.jsonl", "s3://bucket/a.jsonl: not a place"),
        ("abfs://account:secret@container/a.jsonl", "expected it in AZURE_STORAGE_KEY"),
        ("abfs://account:a/secret==@host:10000/c/a.jsonl", "abfs://account@host:10000/c/a.jsonl"),
        ("abfs://account@container/a b.jsonl?sv=1&sig=a secret", "Cannot parse"),
    ],
)
def test_keys_in_an_address_are_not_shown(source, said):
    with pytest.raises(RecordError, match=said) as caught:
        files_of([source], is_log, FORMAT_NAMES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/a.jsonl?endpoint_override={}&scheme=http&region=us-east-1",
        "abfs://account@{}/container?enable_tls=false&credential_kind=anonymous",
        "gs://anonymous@bucket/*.jsonl?endpoint_override={}&scheme=http",
    ],
)
def test_a_store_that_never_answers_is_not_waited_for(monkeypatch, source):
    monkeypatch.setattr(turnout.logs.stores, "_SECONDS_TO_ANSWER", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(RecordError, match=r"no answer for 0\.1 s"),
    ):
        files_of([source.format(f"127.0.0.1:{silent.getsockname()[1]}")], is_log, FORMAT_NAMES)


def test_a_store_s_own_word_of_a_timeout_is_told():
    def ask():
        raise TimeoutError("the disk does not answer")

    with pytest.raises(TimeoutError, match="the disk"):
        turnout.logs.stores.first_answer(ask)


def test_google_s_store_is_not_tried_for_a_quarter_of_an_hour(monkeypatch):
    monkeypatch.setattr(turnout.logs.stores, "_SECONDS_TO_TRY", 1)
    address = f"gcs://anonymous@bucket/a?endpoint_override=127.0.0.1:{free_port()}&scheme=http"
    with pytest.raises(RecordError, match="Retry policy exhausted") as caught:
        files_of([address], is_log, FORMAT_NAMES)
    assert "error_info" not in str(caught.value), "what only Google's own programmers read"


def test_a_changed_file_is_ingested_again(tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "turns.parquet"
    row = {"conversation_id": "a", "turn_index": 1, "user_message": "x", "model": "o3"}
    for message in ("first", "second"):
        log.write_text(json.dumps(row | {"timestamp": time.time(), "user_message": message}))
        assert ingest([f"file://{log}"], out).fresh
        assert pq.read_table(out)["user_message"].to_pylist() == [message]
    assert not ingest([f"file://{log}"], out).fresh


def test_files_of_a_folder_that_are_no_logs_are_named_and_passed_over(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "chats.jsonl").write_text(
        '{"conversation_id": "a", "turn_index": 1, "user_message": "hi", "model": "o3"}\n'
    )
    (folder / "user.json").write_text('{"email": "a@b.example"}')
    (folder / "notes.csv").write_text("day,what\n1,x\n")
    report = ingest([folder], tmp_path / "turns.parquet")
    assert (report.rows_kept, report.ignored_columns) == (1, [])
    assert [Path(name).name for name in report.passed_over] == ["notes.csv", "user.json"]
    assert all("no column for conversation_id" in why for why in report.passed_over.values())
    with pytest.raises(RecordError, match=r"notes\.csv: no column"):
        ingest([folder], tmp_path / "turns.parquet", strict=True)
    with pytest.raises(RecordError, match=r"user\.json: no column"):
        ingest([folder / "chats.jsonl", folder / "user.json"], tmp_path / "turns.parquet")


ROW = '{"conversation_id": "c", "turn_index": 1, "user_message": "m", "model": "o3"}\n'


@pytest.fixture
def archive(tmp_path):
    pq.write_table(pa.Table.from_pylist([json.loads(ROW)]), tmp_path / "one.parquet")
    folder = tmp_path / "exports"
    folder.mkdir()
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("chats/a.jsonl", ROW)
        written.writestr("b.jsonl.gz", gzip.compress(ROW.replace('"c"', '"d"').encode()))
        written.write(tmp_path / "one.parquet", "deep/c.parquet")
        written.writestr("chat.html", "<html>")
        written.writestr("users.json", '[{"uuid": "u"}]')
        written.writestr("__MACOSX/chats/._a.jsonl", "junk")
    return folder / "export.zip"


@pytest.mark.parametrize("where", [str, lambda path: str(path.parent), lambda p: f"{p.parent}/*"])
def test_the_logs_of_an_archive_are_read_where_it_lies(tmp_path, archive, where):
    report = ingest([where(archive)], tmp_path / "turns.parquet")
    assert report.rows_read == 3
    assert list(report.passed_over) == [f"{archive}/users.json"]
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert {turn["source"] for turn in turns} <= {"a.jsonl", "b.jsonl.gz", "c.parquet"}


def test_an_archive_that_has_changed_is_read_again(tmp_path, archive):
    assert ingest([archive], tmp_path / "turns.parquet").fresh
    assert not ingest([archive], tmp_path / "turns.parquet").fresh
    with zipfile.ZipFile(archive, "a") as written:
        written.writestr("more.jsonl", ROW.replace('"c"', '"e"'))
    assert ingest([archive], tmp_path / "turns.parquet").conversations == 3


def test_a_broken_archive_is_refused(tmp_path, archive):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match=r"export\.zip: not a readable \.zip archive"):
        ingest([archive], tmp_path / "turns.parquet")


def test_a_damaged_file_of_an_archive_is_refused_by_its_name(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("a.jsonl", ROW)
    path.write_bytes(path.read_bytes().replace(b"user_message", b"user_massage", 1))
    with pytest.raises(RecordError, match=r"x\.zip/a\.jsonl: cannot be read to its end"):
        ingest([path], tmp_path / "turns.parquet")


def test_an_archive_without_a_log_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as written:
        written.writestr("chat.html", "<html>")
    with pytest.raises(RecordError, match="no log there"):
        ingest([tmp_path / "x.zip"], tmp_path / "turns.parquet")
