"""Precision and recall of `--redact` on generated strings. Results in docs/results/redaction.md.

Usage: python benchmarks/redaction.py [--names]

Each form below is drawn several times; a form of benchmarks/redaction_fresh.py once. A positive
counts as found when its secret is gone from the text and a find was counted (of a fresh one no five
characters in a row may stay); every other find is a false alarm of its kind. Brackets are Wilson
intervals over strings: strings of one form are alike, so they are narrower than the truth.
`--names` prints the forms below that went wrong, `--fresh-names` the fresh ones: whoever looks at
those has used them up.
"""

from __future__ import annotations

import base64
import random
import string
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import redaction_fresh as fresh
from scipy.stats import binomtest

from turnout.redaction import redacted

DRAWS = 6
EMAIL, KEY, PATH, IP4, IP6 = fresh.EMAIL, fresh.KEY, fresh.PATH, "IPv4", "IPv6"
COUNTED_AS = {
    "e-mail address": EMAIL,
    "key or token": KEY,
    "private key": KEY,
    "user name in a path": PATH,
    fresh.IP: fresh.IP,
}
# {} is the secret; each kind's values are drawn below.
EMAILS = (
    "mail {} today", "Author: Ann Lee <{}>", '"email": "{}",', "mailto:{}?subject=x", "({})",
    "Ask {}.", "to={};cc=none", "https://x.example.org/?u={}&v=1",
)  # fmt: skip
IPV4S = (
    "ping {} failed", "http://{}/x", "{}:8080", "allow {}/24", "host={}, port=22", "from {}.",
    "[{}]", "::ffff:{}", "ssh root@{}", "ip.addr=={}",
)  # fmt: skip
IPV6S = ("ping6 {} failed", "http://[{}]:8080/", "allow {}/64", "AAAA {}.", "{}%eth0", "'{}'")
PATHS = (
    "/home/{}/src/a.py", "/Users/{}/src", "file:///home/{}/x", 'File "/home/{}/a.py", line 3',
    "C:\\Users\\{}\\x", "C:\\\\Users\\\\{}\\\\x", "c:/Users/{}/x", "/mnt/c/Users/{}/x",
    "/c/Users/{}/x", "/var/home/{}/x", "file:///c%3A/Users/{}/x", "HOME=/home/{}",
)  # fmt: skip
KEYS = (
    "OPENAI_API_KEY={hex}", "aws_secret_access_key = {b64}", "DB_PASSWORD={word}",
    'client_secret: "{hex}"', '"accessToken": "{b64}"', "password = '{word}'", "x-api-key: {hex}",
    'curl -H "Authorization: Bearer {hex}"', "Bearer {hex}", "--password {word}", "--token={hex}",
    "AccountKey={b64}", "postgres://app:{word}@db/x", "sk-proj-{alnum}", "sk-ant-api03-{alnum}",
    "ghp_{alnum}", "github_pat_{alnum}", "glpat-{alnum}", "hf_{alnum}", "xoxb-12345-{alnum}",
    "SG.{alnum}.{alnum}", "GOCSPX-{alnum}", "gsk_{alnum}", "xai-{alnum}", "pypi-AgEIcHlw{alnum}",
    "dop_v1_{hex}", "AKIA{upper}", "AIza{alnum}", "eyJhbGciOiJIUzI1NiJ9.eyJ{alnum}.{alnum}",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{b64}\n"
    "-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n{b64}\n-----END OPENSSH PRIVATE KEY-----",
    "https://hooks.slack.com/services/T0000000/B0000000/{alnum}",
)  # fmt: skip
NOTHING = (
    "@app.route('/x{n}')", "@pytest.mark.slow{n}", "npm i lodash@4.17.{n}",
    "uses: checkout@v4.{n}.1",
    "logo{n}@2x.png", "git@github.com:org/repo{n}.git", "q@k.T / {n}", "image@sha256:{hex}",
    "version 1.2.3.{n}", "Chrome/120.0.0.{n} Safari/537.36", "v2.0.1.{n}", "1.3.6.1.4.1.{n}",
    "127.0.0.1:80{n}", "bind 0.0.0.0:{n}", "mask 255.255.{n}.0", "localhost:80{n}", "at 12:34:{n}",
    "2026-11-24T12:34:{n}Z", "[::1]:{n}", "x[::1000]  # {n}", "abc::add({n})",
    "std::vector::size{n}", "aa:bb:cc:dd:ee:{n}", "y[100::2{n}]", "'2024'::date + {n}",
    "commit {hex}", "id {uuid}", "data:image/png;base64,{b64}", "sha256-{b64}", "max_tokens: 40{n}",
    "const token: string = x{n}", "password: String, // {n}", 'api_key=os.environ["K{n}"]',
    "token = get_token({n})", "password=${{PASSWORD{n}}}", "token: undefined, {n}",
    "secret = settings.secret_{n}", "sk-learn-{n}", "task-oriented-planning-and-scheduling-{n}",
    "/usr/local/lib/python3.{n}/site-packages/x.py", "/usr/home/x{n}", "s3://bucket/home/k{n}",
    "https://x.example.org/home/p{n}", "/home/$USER/x{n}", "/home/{{name}}/x{n}",
    "/Users/Shared/x{n}",
    "C:\\Users\\Public\\x{n}", "%USERPROFILE%\\x{n}", "org.springframework.boot:web:3.2.{n}",
    "disk-usage-in-percent-{n}", "/api/Users/{n}", "src/home/index{n}.ts",
)  # fmt: skip

# Fresh when the patterns were first mended; used since to mend them again.
HARD = (
    ("cc: <zoe@uni.example.edu>;", "zoe@uni.example.edu", EMAIL),
    ("ann%40example.org", "ann%40example.org", EMAIL),
    ("user 'kim@例え.jp' left", "kim@例え.jp", EMAIL),
    ("git config user.email lee@example.dev", "lee@example.dev", EMAIL),
    ("ip-10-20-30-40.ec2.internal", "10-20-30-40", IP4),
    ("Failed password for root from 198.51.100.7 port 22", "198.51.100.7", IP4),
    ("A record -> 203.0.113.9", "203.0.113.9", IP4),
    ("tcp/10.1.2.3", "10.1.2.3", IP4),
    ("listen [2001:db8::8]:53", "2001:db8::8", IP6),
    ("inet6 fe80::a00:27ff:fe4e:66a1 prefixlen 64", "fe80::a00:27ff:fe4e:66a1", IP6),
    ("~/.claude/projects/-Users-annlee-app", "annlee", PATH),
    ("/export/home/annlee/x", "annlee", PATH),
    ("C:\\Documents and Settings\\annlee\\x", "annlee", PATH),
    ("C:\\Users\\Ann Lee\\x", "Lee", PATH),
    ("annlee@laptop:~$ ls", "annlee", PATH),
    ("export STRIPE_WEBHOOK_SECRET=whsec_9aKq27Lm3PzR", "whsec_9aKq27Lm3PzR", KEY),
    ("curl -u admin:Xk29vQz7Lp https://x.example.org", "Xk29vQz7Lp", KEY),
    ("DATABASE_PASS: 'Xk29vQz7Lp'", "Xk29vQz7Lp", KEY),
    ("the password is Xk29vQz7Lp", "Xk29vQz7Lp", KEY),
    ("GET /?api_key=Xk29vQz7Lp&x=1", "Xk29vQz7Lp", KEY),
    ("//registry.example.org/:_authToken=Xk29vQz7Lp33", "Xk29vQz7Lp33", KEY),
    ("Cookie: session=Xk29vQz7LpXk29vQz7Lp", "Xk29vQz7LpXk29vQz7Lp", KEY),
    ("redis://:Xk29vQz7Lp@cache:6379/0", "Xk29vQz7Lp", KEY),
    ("export HF_TOKEN=hf_Xk29vQz7LpXk29vQz7LpXk29", "hf_Xk29vQz7LpXk29vQz7LpXk29", KEY),
    ("AES_PRIVATE_KEY: Xk29vQz7LpXk29", "Xk29vQz7LpXk29", KEY),
    ("pip install torch==2.1.0.1", "", ""), ("@dataclass_json", "", ""),
    ("react@npm:18.2.0", "", ""), ("def f(token: TokenType) -> None", "", ""),
    ("password = getpass()", "", ""), ("secret=self.secret", "", ""), ("token = tokens[i]", "", ""),
    ("private_key = load_key(path)", "", ""), ("token: Optional[str]", "", ""),
    ("password=password", "", ""), ("X@W.mean()", "", ""),
    ("router.get('/home/dashboard')", "", ""),
    ("section 4.1.2.3 of the standard", "", ""), ("Firefox/121.0", "", ""),
    ("kernel 5.15.0.91", "", ""), ("import {Users} from '@/Users/list'", "", ""),
    ("api_key: YOUR_API_KEY", "", ""), ("Bearer authentication is used", "", ""),
    ("Deed::Face::Cafe", "", ""), ("00:1a:2b:3c:4d:5e", "", ""),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, what must go from it (empty: nothing), its kind, and the form it was drawn from."""

    text: str
    secret: str
    kind: str
    form: str


def _letters(draw: random.Random, letters: str, length: int) -> str:
    return "".join(draw.choices(letters, k=length))


def _email(draw: random.Random) -> str:
    local = draw.choice(("ann.lee", "b_k", "x+tag", "o.neil-5", "müller", "A", "jp99"))
    return f"{local}@{draw.choice(('example.org', 'mail.example.co.uk', 'my-firm.example.com'))}"


def _ipv4(draw: random.Random) -> str:
    return f"{draw.choice((10, 34, 172, 192, 203))}." + ".".join(
        str(draw.randrange(1, 255)) for _ in range(3)
    )


def _ipv6(draw: random.Random) -> str:
    first = draw.choice(("2001:db8", "2a00:1450:4001", "fe80:", "fd12:3456"))
    return f"{first}::{draw.randrange(1, 65536):x}".replace(":::", "::")


def _name(draw: random.Random) -> str:
    return draw.choice(("ann", "ann.lee", "j-doe", "b_k9", "müller", "ANNL"))


def _secrets(draw: random.Random) -> dict[str, str]:
    return {
        "hex": _letters(draw, "0123456789abcdef", 40),
        "b64": base64.b64encode(draw.randbytes(30)).decode(),
        "alnum": _letters(draw, string.ascii_letters + string.digits, 36),
        "upper": _letters(draw, string.ascii_uppercase + string.digits, 16),
        "word": draw.choice(("Tr0ub4dor&3", "hunter2hunter2", "correcthorse", "P4ssw0rd!x")),
    }


def positives(draw: random.Random) -> list[Labelled]:
    """Every form with a secret, DRAWS times."""
    forms: tuple[tuple[str, tuple[str, ...], Callable[[random.Random], str]], ...] = (
        (EMAIL, EMAILS, _email),
        (IP4, IPV4S, _ipv4),
        (IP6, IPV6S, _ipv6),
        (PATH, PATHS, _name),
    )
    rows = []
    for kind, templates, value_of in forms:
        for form in templates:
            for _ in range(DRAWS):
                value = value_of(draw)
                rows.append(Labelled(form.replace("{}", value), value, kind, form))
    for form in KEYS:
        for _ in range(DRAWS):
            values = _secrets(draw)
            secret = next(value for name, value in values.items() if f"{{{name}}}" in form)
            rows.append(Labelled(form.format(**values), secret, KEY, form))
    return rows


def negatives(draw: random.Random) -> list[Labelled]:
    """Every form that only looks like one, DRAWS times."""
    rows = []
    for form in NOTHING:
        for _ in range(DRAWS):
            values = _secrets(draw)
            h = values["hex"]
            uuid = f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}"
            text = form.format(n=draw.randrange(10, 60), uuid=uuid, **values)
            rows.append(Labelled(text, "", "", form))
    return rows


def _share(hits: int, total: int) -> str:
    if not total:
        return "-"
    ci = binomtest(hits, total).proportion_ci(method="wilson")
    return f"{hits / total:.3f} ({ci.low:.3f}–{ci.high:.3f})"


def fresh_strings(draw: random.Random) -> list[Labelled]:
    """Every fresh form, once."""
    rows = []
    for form, secret, kind in fresh.SECRETS:
        values = _fresh_values(draw)
        value = secret.format(**values)
        rows.append(Labelled(form.format(secret=value, **values), value, kind, form))
    for form in fresh.NOTHING:
        rows.append(Labelled(form.format(**_fresh_values(draw)), "", "", form))
    return rows


def _fresh_values(draw: random.Random) -> dict[str, str]:
    values = _secrets(draw)
    for length in (24, 33, 38, 64):
        values[f"alnum{length}"] = _letters(draw, string.ascii_letters + string.digits, length)
    for length in (32, 64):
        values[f"hex{length}"] = _letters(draw, "0123456789abcdef", length)
    return values


def _is_gone(secret: str, after: str, longest: int) -> bool:
    """Whether no run of the secret's characters that is longer than `longest` stays."""
    run = min(longest + 1, len(secret))
    return not any(secret[begin : begin + run] in after for begin in range(len(secret) - run + 1))


def print_table(
    rows: list[Labelled], kinds: tuple[str, ...], *, longest: int = 10_000
) -> Counter[str]:
    """Print one row a kind; give the forms that went wrong."""
    hits, total, alarms, wrong = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        counted = Counter[str]()
        after = redacted(row.text, counted)
        if row.kind:
            # An address after an "@" may go as part of an e-mail address: gone is gone.
            hit = _is_gone(row.secret, after, longest) and bool(counted)
            total[row.kind] += 1
            hits[row.kind] += hit
            wrong[row.form] += not hit
            continue
        wrong[row.form] += bool(counted)
        for name in counted:
            address = name if name in kinds else IP6 if "::" in row.text else IP4
            alarms[COUNTED_AS.get(name, address)] += 1
    print("| kind | strings | recall | precision | false alarms |\n|---|---|---|---|---|")
    for kind in kinds:
        print(
            f"| {kind} | {total[kind]} | {_share(hits[kind], total[kind])} "
            f"| {_share(hits[kind], hits[kind] + alarms[kind])} | {alarms[kind]} |"
        )
    nothing = [row for row in rows if not row.kind]
    print(f"| all | {total.total()} | {_share(hits.total(), total.total())} | | |")
    n_unchanged = sum(not wrong[row.form] for row in nothing)
    print(f"of {len(nothing)} strings with nothing to redact {n_unchanged} stayed as they were\n")
    return wrong


def main() -> None:
    """Print the table of the forms, of the hard strings, and of the fresh ones."""
    draw = random.Random(5)
    nothing = negatives(draw)
    kinds = (EMAIL, KEY, IP4, IP6, PATH)
    wrong = print_table(positives(draw) + nothing, kinds)
    wrong += print_table([Labelled(text, secret, kind, text) for text, secret, kind in HARD], kinds)
    if "--names" in sys.argv[1:]:
        print(*(f"{n} {form!r}" for form, n in wrong.items() if n), sep="\n")
    wrong = print_table(fresh_strings(draw), (EMAIL, KEY, fresh.IP, PATH), longest=4)
    if "--fresh-names" in sys.argv[1:]:
        print(*(repr(form) for form, n in wrong.items() if n), sep="\n")


if __name__ == "__main__":
    main()
