"""Redaction on read: what has the form of a secret or an identity goes, the rest stays."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.logs import ingest
from turnout.redaction import redacted

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
    ("/Users/Ann Lee/x", "/Users/<USER>/x"),
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
    (f"acme_live_{SECRET}", "<KEY>"),
    ("hf_" + "abcdefghijklmnopq" * 2, "<KEY>"),
    # By the name before it, however it is set.
    ("password: rabbithole\n", "password: <KEY>\n"),
    ("passphrase: 'a wet Tuesday'", "passphrase: '<KEY>'"),
    ('auth_token: str = "r4nd0m-Value7"', 'auth_token: str = "<KEY>"'),
    ("config['SIGNING_KEY'] = 'q7Rz19pLm3'", "config['SIGNING_KEY'] = '<KEY>'"),
    ("putenv('DB_PASS', 'orchid42');", "putenv('DB_PASS', '<KEY>');"),
    ("<password>orchid42</password>", "<password><KEY></password>"),
    ("name: API_TOKEN\n  value: q7Rz19pLm3", "name: API_TOKEN\n  value: <KEY>"),
    ("login ann password q7Rz19pLm3", "login ann password <KEY>"),
    ("the password was q7Rz19pLm3, I think", "the password was <KEY>, I think"),
    (r"{\"pwd\":\"q7Rz19pLm3\"}", r"{\"pwd\":\"<KEY>\"}"),
    ("SMTP_SECRET=onlysmallletters", "SMTP_SECRET=<KEY>"),
    ("contraseña: q7Rz19pLm3", "contraseña: <KEY>"),
    ("password=4711471147", "password=<KEY>"),
    ("GRANT ALL TO app IDENTIFIED BY 'orchid42'", "GRANT ALL TO app IDENTIFIED BY '<KEY>'"),
    # Headers, URLs and programs that take one.
    ("Authorization: Basic YW5uOm9yY2hpZDQy", "Authorization: Basic <KEY>"),
    ("Set-Cookie: id=q7Rz19pLm3; Path=/", "Set-Cookie: <KEY>"),
    ("redis://:q7Rz19pLm3@cache/0", "redis://:<KEY>@cache/0"),
    ("https://q7Rz19pLm3q7Rz19pLm3@git.example.org", "https://<KEY>@git.example.org"),
    ("/f?a=1&sig=q7Rz19pLm3%3D", "/f?a=1&sig=<KEY>"),
    ("curl -s -u ann:orchid42 http://x.example.org", "curl -s -u ann:<KEY> http://x.example.org"),
    ("curl -b 'id=q7Rz19pLm3' x", "curl -b '<KEY>' x"),
    ("sshpass -p orchid42 ssh host", "sshpass -p <KEY> ssh host"),
    ("mysqldump -porchid42 app", "mysqldump -p<KEY> app"),
    ("redis-cli -a orchid42", "redis-cli -a <KEY>"),
    ("requests.get(u, auth=('ann', 'orchid42'))", "requests.get(u, auth=('ann', '<KEY>'))"),
    ("ConvertTo-SecureString 'orchid42'", "ConvertTo-SecureString '<KEY>'"),
    ("db:5432:app:ann:orchid42", "db:5432:app:ann:<KEY>"),
    ("root:$6$saltsalt$abcdefghijklmno:1", "root:<KEY>:1"),
    (f"123456789:AA{SECRET[:33]}", "123456789:<KEY>"),
    (f"hvs.{SECRET}", "<KEY>"),
    (f"MTIz{SECRET[:20]}.Ab1-_z.{SECRET[:30]}", "<KEY>"),
    # Addresses in other writings.
    ("to=ann.lee%40example.org&x", "to=<EMAIL>&x"),
    ("jürgen@bücher.example", "<EMAIL>"),
    ("ann&#64;example.org", "<EMAIL>"),
    ("ann [at] example [dot] org", "<EMAIL>"),
    ("ann at example dot org", "<EMAIL>"),
    ("ip-10-20-30-40.ec2.internal", "ip-<IP>.ec2.internal"),
    ("http%3A%2F%2F198.51.100.9%2F", "http%3A%2F%2F<IP>%2F"),
    ("ip.dst == 198.51.100.9", "ip.dst == <IP>"),
    (r"c:\users\ann\x", r"c:\users\<USER>\x"),
    # User names where no home folder is written out.
    (r"C:\Documents and Settings\ann\x", r"C:\Documents and Settings\<USER>\x"),
    (r"\\?\C:\Users\Ann Lee\x", r"\\?\C:\Users\<USER>\x"),
    (r"\\nas\Users\ann\x", r"\\nas\Users\<USER>\x"),
    (r"\/home\/ann\/x", r"\/home\/<USER>\/x"),
    ("file%3A%2F%2F%2Fhome%2Fann%2Fx", "file%3A%2F%2F%2Fhome%2F<USER>%2Fx"),
    ("projects/-Users-ann-src", "projects/-Users-<USER>-src"),
    ("ann@laptop:~/src$ ls", "<USER>@laptop:~/src$ ls"),
    ("ann@laptop src % ls", "<USER>@laptop src % ls"),
    ("[ann@laptop src]$ ls", "[<USER>@laptop src]$ ls"),
    ("ssh -p 22 ann@build", "ssh -p 22 <USER>@build"),
    ("-rw-r--r--  1 ann staff", "-rw-r--r--  1 <USER> staff"),
    ("LOGNAME=ann", "LOGNAME=<USER>"),
    ("cd ~ann/src", "cd ~<USER>/src"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_identifies_or_opens_doors_goes(text, expected):
    counts = Counter()
    assert redacted(text, counts) == expected
    assert counts.total() == 1


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
        "API_KEY=YOUR_API_KEY, token=<token>, secret=${SECRET}, key: ****, apiKey: xxxxxxxx",
        "password=password, token: TokenType, pwd = getpass(), secret=self.secret",
        "const token = tokens[i]; passwordHash: user.passwordHash, hash_password(pw)",
        "errors['password'] = 'must be at least 8 characters'; token = 'string'",
        "the password is wrong; a --token option; token expired yesterday",
        "primary_key: q7Rz19pLm3, compass=q7Rz19pLm3, KEY_COUNT=12",
        "token: /run/secrets/api2_token4, secret: https://x.example.org/a1/b2",
        "Authorization header missing; Cookie: name, value; Bearer authentication",
        "docker run -u 1000:1000 x; curl -u $USER:$PASS x",
        "sk-your-own-key-goes-here-please and sk-proj-...",
        f"call_{SECRET}, sha256-{SECRET}, build-{'0a1b2c3d' * 5}, a-{SECRET}/x",
        "kernel 5.15.0.91, torch==2.1.0.1, section 4.1.2.3, build 10.0.19.45",
        "ip-1-2-3-4-5 and q@k.mean, lib@app.json, X@W.mean()",
        "GET /home/dashboard, '/home/index.js', '@/Users/list', /api/Users/12, /users/foo",
        "the -home-page- part, git@host:/srv/x, root@host:~#, ~/src, 1~2/3",
    ],
)
def test_ordinary_text_stays(text):
    counts = Counter()
    assert redacted(text, counts) == text
    assert not counts


@given(st.lists(st.sampled_from([text for text, _ in CASES]) | st.text(max_size=30), max_size=4))
def test_redacting_twice_changes_nothing_more(parts):
    once = redacted(" ".join(parts), Counter())
    assert redacted(once, Counter()) == once


@pytest.mark.parametrize(
    "unit",
    [
        *("a@", "1.", "1-", "sk-", "f:", "://a:", "password=", "eyJ", "/home/", "token=a.", "M"),
        *("--token ", "pass is a ", "pass,  \n ", "a(at)b.", "a at b dot ", "curl -", "mysql "),
        *("cookie: a=", "/Users/A B ", "ssh a ", "auth=('a', '", "\\", "-home-a", "~a", "?sig=1"),
    ],
)
def test_long_texts_of_near_misses_are_read(unit):
    # A pattern that tries every way to split such a text would take hours.
    text = unit * (200_000 // len(unit))
    once = redacted(text, Counter())
    assert redacted(once, Counter()) == once


def test_ingest_redacts_both_sides_when_asked_and_counts(tmp_path):
    row = {
        "conversation_id": "a", "turn_index": 1, "model": "o3", "timestamp": 1,
        "user_message": "mail ann@example.org", "assistant_message": "I mailed ann@example.org",
    }  # fmt: skip
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    report = ingest([tmp_path / "log.jsonl"], tmp_path / "t.parquet", redact=True)
    (stored,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert (stored["user_message"], stored["assistant_message"]) == (
        "mail <EMAIL>",
        "I mailed <EMAIL>",
    )
    assert report.redacted == {"e-mail address": 2}
    plain = ingest([tmp_path / "log.jsonl"], tmp_path / "t.parquet")
    assert plain.redacted == {}
