"""Logs in an object store: a real S3 server on this machine, read by Arrow's own client."""

import gzip
import io
import json

import boto3
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from turnout.errors import RecordError
from turnout.logs import ingest

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Store:
    """A bucket with logs in it, and its address in Turnout's writing."""

    def __init__(self, host: str, port: int) -> None:
        self.endpoint = f"http://{host}:{port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self.client.create_bucket(Bucket="logs")

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket="logs", Key=key, Body=body)

    def uri(self, path: str) -> str:
        """The settings that a store of one's own needs are in the address."""
        return f"s3://{path}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def store(server, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = Store(*server)
    yield store
    httpx.post(f"{store.endpoint}/moto-api/reset").raise_for_status()


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
    store.put("2026/a.jsonl", lines("a"))
    store.put("2026/deep/b.jsonl.gz", gzip.compress(lines("b")))
    store.put("2026/deep/c.parquet", parquet("c", 1_000))
    store.put("2026/notes.txt", b"not a log")
    store.put("2025/old.jsonl", lines("old"))
    out = tmp_path / "turns.parquet"
    for path, expected in (
        ("logs/2026/a.jsonl", ["a"]),
        ("logs/2026", ["a", "b", "c"]),
        ("logs/2026/**/*.jsonl*", ["a", "b"]),
        ("logs/*/*.jsonl", ["a", "old"]),
        ("logs", ["a", "b", "c", "old"]),
    ):
        assert ingest([store.uri(path)], out).fresh
        assert conversations(out) == expected
    assert pq.read_table(out).num_rows == 1_000 + 3 * 2


def test_more_files_than_one_reply_lists_are_all_read(store, tmp_path):
    # A reply lists 1,000. The server keeps its objects in this process: asking it takes too long.
    bucket = get_backend("s3")[ACCOUNT]["aws"]
    for at in range(1_100):
        bucket.put_object("logs", f"many/{at:04}.txt", b"")
    for name in ("0", "1050", "3"):
        store.put(f"many/{name}.jsonl", lines(f"c{name}"))
    report = ingest([store.uri("logs/many")], tmp_path / "turns.parquet")
    assert report.conversations == 3


def test_what_changed_in_a_store_is_read_again_and_what_did_not_is_up_to_date(store, tmp_path):
    out = tmp_path / "turns.parquet"
    store.put("a.jsonl", lines("a"))
    assert ingest([store.uri("logs/a.jsonl")], out).fresh
    assert not ingest([store.uri("logs/a.jsonl")], out).fresh
    store.put("a.jsonl", lines("another"))
    assert ingest([store.uri("logs/a.jsonl")], out).fresh
    assert conversations(out) == ["another"]


def test_what_is_not_in_a_store_and_what_is_broken_there_is_told(store, tmp_path):
    store.put("half.parquet", parquet("a", 1_000)[:-50])
    store.put("half.jsonl.gz", gzip.compress(lines("a", 500))[:-40])
    out = tmp_path / "turns.parquet"
    for path, problem in (
        ("logs/nothing.jsonl", "no log there"),
        ("nowhere/a.jsonl", "s3://nowhere/a.jsonl"),
        ("logs/half.parquet", "s3://logs/half.parquet"),
        ("logs/half.jsonl.gz", "s3://logs/half.jsonl.gz"),
    ):
        with pytest.raises(RecordError, match=problem):
            ingest([store.uri(path)], out)
        assert not out.exists()
    assert not list(tmp_path.glob(".*")), "nothing half-made stays"
