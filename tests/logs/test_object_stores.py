"""Logs in object stores: real servers on this machine, read by Arrow's own clients."""

import gzip
import io
import json
import os
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from tests.logs.object_stores import (
    KEY,
    azure,
    azure_signature,
    google,
    listing_two_at_a_time,
    s3,
)
from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.formats import FORMAT_NAMES, is_log
from turnout.logs.places import files_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[s3, azure, google], ids=lambda kind: kind.__name__)
def new_store(request):
    with request.param() as new_store:
        yield new_store


@pytest.fixture
def store(new_store, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = new_store()
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


def only(kind):
    return pytest.mark.parametrize("new_store", [kind], indirect=True, ids=[kind.__name__])


def rows(conversation, n_turns=2):
    return [
        {
            "conversation_id": conversation, "turn_index": turn, "user_message": f"message {turn}",
            "model": "o3", "timestamp": f"2026-05-04T12:00:{turn:02}Z",
        }
        for turn in range(1, n_turns + 1)
    ]  # fmt: skip


def lines(conversation, n_turns=2):
    return "\n".join(map(json.dumps, rows(conversation, n_turns))).encode()


def parquet(conversation, n_turns):
    stream = io.BytesIO()
    table = pa.Table.from_pylist(rows(conversation, n_turns))
    pq.write_table(table, stream, row_group_size=100)
    return stream.getvalue()


def conversations(out):
    return sorted(set(pq.read_table(out)["conversation_id"].to_pylist()))


def test_a_file_a_folder_and_a_pattern_in_a_store_are_read(store, tmp_path):
    a, b, c, old = "2026/a.jsonl", "2026/deep/b b.jsonl.gz", "2026/deep/c.parquet", "old.jsonl"
    for path, body in (
        (a, lines("a")), (b, gzip.compress(lines("b"))), (c, parquet("c", 1_000)),
        (old, lines("old")), ("2026/notes.txt", b"not a log"),
    ):  # fmt: skip
        store.put(path, body)
    for path, expected in (
        (a, [a]),
        ("2026/deep/b%20b.jsonl.gz", [b]),
        ("2026", [a, b, c]),
        ("2026/", [a, b, c]),
        ("2026/**/*.jsonl*", [a, b]),
        ("2026/d*/b%20*", [b]),
        ("*/*.jsonl", [a]),
        ("", [a, b, c, old]),
    ):
        files = files_of([store.uri(path)], is_log, FORMAT_NAMES)
        assert [file.name for file in files] == list(map(store.name, expected)), path
    out = tmp_path / "turns.parquet"
    ingest([store.uri("")], out)
    assert conversations(out) == ["a", "b", "c", "old"]
    assert pq.read_table(out).num_rows == 1_000 + 3 * 2


@only(s3)
def test_more_files_than_one_reply_lists_are_all_read(store, tmp_path):
    # A reply lists 1,000. The server keeps its objects in this process: asking it takes too long.
    bucket = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    for number in range(1_100):
        bucket.put_object(store.bucket, f"many/{number:04}.txt", b"")
    for name in ("0", "1050", "3"):
        store.put(f"many/{name}.jsonl", lines(f"c{name}"))
    report = ingest([store.uri("many")], tmp_path / "turns.parquet")
    assert report.conversations == 3


def test_what_changed_in_a_store_is_read_again_and_what_did_not_is_up_to_date(store, tmp_path):
    out = tmp_path / "turns.parquet"
    store.put("a.jsonl", lines("a"))
    assert ingest([store.uri("a.jsonl")], out).fresh
    assert not ingest([store.uri("a.jsonl")], out).fresh
    store.put("a.jsonl", lines("another"))
    assert ingest([store.uri("a.jsonl")], out).fresh
    assert conversations(out) == ["another"]


def test_what_is_not_in_a_store_and_what_is_broken_there_is_told(store, tmp_path):
    store.put("half.parquet", parquet("a", 1_000)[:-50])
    store.put("half.jsonl.gz", gzip.compress(lines("a", 500))[:-40])
    store.put("bad.jsonl", lines("a") + b"\n{")
    out = tmp_path / "turns.parquet"
    for path, problem in (
        ("nothing.jsonl", "no log there"),
        ("nothing/*.jsonl", "no log there"),
        ("half.parquet", "not readable as Parquet"),
        ("half.jsonl.gz", "cannot be read to its end"),
        ("bad.jsonl", "not JSON"),
    ):
        with pytest.raises(RecordError, match=problem) as caught:
            ingest([store.uri(path)], out)
        assert str(caught.value).startswith(store.name(path))
        assert not out.exists()
    store.bucket = "nowhere"
    with pytest.raises(RecordError, match="no log there"):
        ingest([store.uri("a.jsonl")], out)
    assert not list(tmp_path.iterdir()), "nothing half-made stays"


@only(azure)
def test_an_azure_account_that_does_not_know_who_asks_says_so(store, tmp_path, monkeypatch):
    store.put("a.jsonl", lines("a"))
    for key, problem in (
        (KEY[4:], r"\[AuthorizationFailure\] 403"),
        (KEY[:5], "failed: Unexpected end of Base64"),
        ("", "Bearer token authentication is not permitted for non TLS"),
    ):
        monkeypatch.setenv("AZURE_STORAGE_KEY", key)
        with pytest.raises(RecordError, match=problem) as caught:
            ingest([store.uri("a.jsonl")], tmp_path / "turns.parquet")
        assert "AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN" in str(caught.value)
        assert not key or key not in str(caught.value)


@only(azure)
@pytest.mark.parametrize("where", ["environment", "address"])
def test_an_azure_signature_opens_a_container_page_by_page(store, tmp_path, monkeypatch, where):
    for name in "abcde":
        store.put(f"{name}.jsonl", lines(name))
    signature = azure_signature(store.bucket, may="rl")
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    if where == "environment":
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{urlencode(signature)}")
    else:
        # What the address says goes first.
        monkeypatch.setenv("AZURE_STORAGE_KEY", "AAAA")
        store.settings = store.settings | signature
    account, _, host = store.address.partition("@")
    out = tmp_path / "turns.parquet"
    with listing_two_at_a_time(f"http://{host.strip('/')}") as (door, listings):
        store.address = f"{account}@{door.removeprefix('http://')}/"
        ingest([store.uri("")], out)
    assert conversations(out) == ["a", "b", "c", "d", "e"]
    assert sum("marker=" in url for url in listings) == 2
    inputs = json.loads((tmp_path / "turns.parquet.manifest.json").read_text())["inputs"]
    assert [file["path"] for file in inputs["log"]] == [
        store.name(f"{name}.jsonl") for name in "abcde"
    ]


@only(azure)
def test_an_azure_signature_is_in_no_message(store, tmp_path, monkeypatch):
    store.put("a.jsonl", lines("a"))
    store.put("b.parquet", parquet("b", 10))
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    signature = azure_signature(store.bucket, may="l")
    for path in ("a.jsonl", "b.parquet", "*.jsonl"):
        with pytest.raises(RecordError, match="403") as caught:
            ingest([store.uri(path, **signature)], tmp_path / "turns.parquet")
        assert quote(signature["sig"], safe="") not in str(caught.value)
        assert "sig=" not in str(caught.value)
