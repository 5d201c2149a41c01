"""Redaction on read: what has the form of a secret or an identity goes, the rest stays."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.logs import ingest
from turnout.logs.redact import redacted

SECRET = "abcdEFGH1234" * 3
CASES = [
    ("write to ann.lee+x@mail.example.org today", "write to <EMAIL> today"),
    ("ping 192.168.10.254, then", "ping <IP>, then"),
    ("at 2001:db8:85a3::8a2e:370:7334 now", "at <IP> now"),
    (f"OPENAI_KEY is sk-proj-{SECRET}", "OPENAI_KEY is <KEY>"),
    (f"sk-ant-api03-{SECRET}!", "<KEY>!"),
    (f"git clone with ghp_{SECRET}", "git clone with <KEY>"),
    ("AKIAABCDEFGHIJKLMNOP", "<KEY>"),
    (f'api_key = "{SECRET}"', 'api_key = "<KEY>"'),
    (f"Authorization: Bearer {SECRET}", "Authorization: Bearer <KEY>"),
    ("password=hunter2hunter2", "password=<KEY>"),
    ("postgres://app:s3cr3t@db/x", "postgres://app:<KEY>@db/x"),
    (f"eyJhbGciOiJIUzI1.{SECRET}.sig", "<KEY>"),
    ("/home/ann/src/app.py", "/home/<USER>/src/app.py"),
    ("/Users/Ann Lee/x", "/Users/<USER> Lee/x"),
    (r"C:\Users\ann\x", r"C:\Users\<USER>\x"),
    (f"OPENAI_API_KEY={SECRET}", "OPENAI_API_KEY=<KEY>"),
    (f"aws_secret_access_key = {SECRET}", "aws_secret_access_key = <KEY>"),
    (f'"accessToken": "{SECRET}"', '"accessToken": "<KEY>"'),
    ("DB_PASSWORD=correcthorse", "DB_PASSWORD=<KEY>"),
    (f"AccountKey={SECRET}", "AccountKey=<KEY>"),
    (f"send Bearer {SECRET}", "send Bearer <KEY>"),
    ("mysql --password hunter2hunter2", "mysql --password <KEY>"),
    (f"SG.{SECRET}.{SECRET}", "<KEY>"),
    (f"GOCSPX-{SECRET}", "<KEY>"),
    (f"gsk_{SECRET} here", "<KEY> here"),
    (f"xai-{SECRET}", "<KEY>"),
    (f"pypi-{SECRET}", "<KEY>"),
    (f"dop_v1_{'0123456789' * 4}", "<KEY>"),
    (
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        "https://hooks.slack.com/services/<KEY>",
    ),
    ("/mnt/c/Users/ann/x", "/mnt/c/Users/<USER>/x"),
    ("/c/Users/ann/x", "/c/Users/<USER>/x"),
    ("/var/home/ann/x", "/var/home/<USER>/x"),
    ("file:///c%3A/Users/ann/x", "file:///c%3A/Users/<USER>/x"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,X\n\nMIIE\n-----END RSA PRIVATE KEY-----",
        "<KEY>",
    ),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "<KEY>"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_identifies_or_opens_doors_goes(text, expected):
    found = Counter()
    assert redacted(text, found) == expected
    assert found.total() == 1


@pytest.mark.parametrize(
    "text",
    [
        "version 3.11.7 of Python, and 1.2.3.4.5",
        "at 12:30:45 or std::vector::size",
        "the token count is 4096; password reset flow",
        "import @decorator; a@b",
        "see /usr/home/x and s3://bucket/key",
        "sk-learn and task-oriented planning",
        "lodash@4.17.21 and actions/checkout@v4.1.1",
        "logo@2x.png",
        "git@github.com:org/repo.git",
        "scores = q@k.T",
        "version 1.2.3.4 in Chrome/120.0.0.0",
        "127.0.0.1:80, 0.0.0.0, 255.255.255.0",
        "x[::1000], y[100::200], abc::add",
        "token: string, password: String, token: undefined",
        'api_key=os.environ["KEY"]; token = get_token(1)',
        "secret = settings.secret_1; password=${PASSWORD}",
        "/home/$USER/x, /home/{name}/x, /Users/Shared/x",
        r"C:\Users\Public\x",
        "ratio 16:9:4 in css :root::before",
    ],
)
def test_ordinary_text_stays(text):
    found = Counter()
    assert redacted(text, found) == text
    assert not found


@given(st.lists(st.sampled_from([text for text, _ in CASES]) | st.text(max_size=30), max_size=4))
def test_redacting_twice_changes_nothing_more(parts):
    once = redacted(" ".join(parts), Counter())
    assert redacted(once, Counter()) == once


@pytest.mark.parametrize(
    "unit", ["a@", "1.", "sk-", "f:", "://a:", "password=", "eyJ", "/home/", "token=a.", "--token "]
)
def test_a_megabyte_of_near_misses_is_read(unit):
    # A pattern that tries every way to split such a text would take hours.
    text = unit * (1_000_000 // len(unit))
    once = redacted(text, Counter())
    assert redacted(once, Counter()) == once


def test_ingest_redacts_both_sides_when_asked_and_counts(tmp_path):
    row = {
        "conversation_id": "a", "turn_index": 1, "model": "o3", "timestamp": 1,
        "user_message": "mail ann@example.org", "assistant_message": "I mailed ann@example.org",
    }  # fmt: skip
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    report = ingest([tmp_path / "log.jsonl"], tmp_path / "t.parquet", redact=True)
    (kept,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert (kept["user_message"], kept["assistant_message"]) == ("mail <EMAIL>", "I mailed <EMAIL>")
    assert report.redacted == {"e-mail address": 2}
    plain = ingest([tmp_path / "log.jsonl"], tmp_path / "t.parquet")
    assert plain.redacted == {}
