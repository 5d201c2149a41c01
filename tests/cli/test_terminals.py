"""Other people's machines: encodings, full disks, closed pipes, Ctrl-C and missing extras."""

import errno
import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.cli.command import TURNOUT, run
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.cli.verbs import EXTRAS, VERBS

pytestmark = pytest.mark.slow

NAME = "chats[red]:smile:.parquet"
MESSAGE = "Größe “…” ≥ [red]5[/red] [/b] :smile: 日本"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log whose path, ids and messages look like markup, and a router."""
    folder = tmp_path_factory.mktemp("terminal")
    rows = [
        turn(
            f"[/b]{number}",
            index,
            f"{MESSAGE} {number} {index}",
            ("o3", "gpt-4o")[(number + index) % 2],
        )
        for number in range(120)
        for index in (1, 2)
    ]
    write_turns(folder / NAME, rows)
    write_router(folder / "router")
    return folder


TYPED = {
    "ingest": ["ingest", NAME, "-o", "made"],
    "switches": ["switches", NAME, "-o", "made", "--examples", 1],
    "label": ["label", NAME, "-o", "made", "--explain", "[/b]7"],
    "build": ["build", NAME, "-o", "made", "--architecture", "session"],
    "score": ["score", "router", NAME, "--text-column", "user_message", "-o", "made"],
    "route": ["route", "router", MESSAGE],
    "threshold": ["threshold", "router", NAME, "--share", 0.3],
    "simulate": ["simulate", "-o", "made", "--conversations", 20],
    "kql": ["kql", "model_switching"],
    "settings": ["settings"],
}
# These end early: nobody is there to agree to a cost, and no hub is there.
REFUSED = {
    "judge": ["judge", NAME, "-o", "made", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"],
    "push": ["push", "router", "org/name", "--yes"],
    "pull": ["pull", "org/name", "-o", "made"],
}


def test_a_terminal_that_lacks_characters_gets_others_in_their_place(folder, tmp_path):
    typed = [tmp_path / "made" if each == "made" else each for each in TYPED["label"]]
    run(*typed, cwd=folder, encoding="cp1252")


def test_json_keeps_characters_that_the_terminal_lacks(folder, tmp_path):
    typed = ["label", NAME, "-o", tmp_path / "made", "--explain", "[/b]7", "--json"]
    shown = json.loads(run(*typed, cwd=folder, encoding="ascii").stdout)
    assert shown["explained"][0]["user_message"].startswith(MESSAGE)


@pytest.mark.parametrize("verb", ["switches", "label", "route"])
def test_names_and_messages_that_look_like_markup_are_shown_as_they_are(folder, tmp_path, verb):
    typed = [tmp_path / NAME if each == "made" else each for each in TYPED[verb]]
    done = run(*typed, cwd=folder)
    assert MESSAGE in " ".join(done.stdout.split())
    assert verb == "route" or NAME in done.stderr


def test_a_path_that_the_locale_cannot_read_is_refused_in_words(tmp_path):
    place = tmp_path / "Größe"
    place.mkdir()
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [*TURNOUT, "label", place / "turns.parquet", "-o", "made"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "this locale cannot read the name; expected UTF-8. Set LC_ALL=C.UTF-8" in done.stderr


def test_names_that_are_not_utf8_are_refused_in_words(tmp_path):
    place = tmp_path / os.fsdecode(b"bad\xff")
    place.mkdir()
    (place / "turns.parquet").touch()
    typed = [("label", b"bad\xff/turns.parquet"), ("ingest", "*/turns.parquet")]
    for verb, log in typed:
        done = subprocess.run(
            [*TURNOUT, verb, log, "-o", "made"],
            env=os.environ | {"LC_ALL": "C.UTF-8"}, cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode in (2, 3)
        assert "not UTF-8" in done.stderr
        assert "Rename it" in done.stderr


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_is_no_failure_and_gets_into_no_file(folder, tmp_path, stream):
    made = tmp_path / "turns.parquet"
    typed = [*TURNOUT, "ingest", NAME, "-o", str(made)]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {stream}>&-', "sh", *typed], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(made).num_rows


FULL = "turnout: standard output: No space left on device"


@pytest.mark.parametrize("typed", [["kql"], ["settings", "--json"], ["--help"], ["kql", "--help"]])
def test_a_full_standard_output_is_named(typed):
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        done = subprocess.run(
            [*TURNOUT, *typed], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 7
    assert done.stderr.startswith(FULL)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("typed", [["kql"], ["settings"], ["settings", "--json"], ["--help"]])
def test_a_reader_that_goes_away_is_no_failure(typed):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*TURNOUT, *typed], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 0
    assert not done.stderr or done.stderr.startswith("Next: ")


def test_a_run_goes_on_when_nobody_reads_its_progress(folder, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    typed = ["ingest", NAME, "-o", str(tmp_path / "made")]
    done = subprocess.run([*TURNOUT, *typed], stderr=writing, stdout=subprocess.PIPE, cwd=folder)
    os.close(writing)
    assert done.returncode == 0
    assert (tmp_path / "made").exists()


def test_a_failure_of_the_machine_is_no_bug_of_ours(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "spill"))

    def fail(*_):
        raise full

    monkeypatch.setattr("turnout.settings.setting_values", fail)
    done = run("settings", ok=False)
    assert (done.returncode, done.stderr) == (
        7, f"turnout: {tmp_path / 'spill'}: No space left on device.\n",
    )  # fmt: skip


@pytest.fixture
def interruptible():
    """Undo that a shell lets its background jobs ignore SIGINT, which children inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Interrupts itself when the n-th step begins, as Ctrl-C would: in Python, or while DuckDB computes.
INTERRUPTED = """
import os, signal, sys, threading
from turnout.cli import console, main
wanted, in_duckdb = int(sys.argv.pop(1)), sys.argv.pop(1) == "in DuckDB"
begun = set()
def update(self, name, done, total):
    begun.add(name)
    if len(begun) == wanted and not in_duckdb:
        os.kill(os.getpid(), signal.SIGINT)
    elif len(begun) == wanted:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        import duckdb
        rows = "range(1000000)"
        duckdb.sql(f"SELECT sum(sqrt(a.range) * b.range) FROM {rows} a, {rows} b").show()
console._Lines.update = update
main()
"""
STEPS = {"ingest": 1, "label": 3, "build": 5, "score": 1, "simulate": 1}


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("verb", "how"),
    [(verb, "in DuckDB" if verb == "label" else "in Python") for verb in STEPS],
)
def test_ctrl_c_in_the_last_step_ends_at_once_and_leaves_nothing(folder, tmp_path, verb, how):
    typed = [tmp_path / "made" if each == "made" else each for each in TYPED[verb]]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(STEPS[verb]), how, *map(str, typed)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in (130, -signal.SIGINT), done.stderr  # a shell shows 130 for both
    assert done.stderr.splitlines()[-1] == "turnout: stopped; nothing was left half-written."
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


# As if the modules in its first argument were not installed: runs several command lines.
WITHOUT = """
import json, sys
absent, lines = sys.argv[1].split(","), json.loads(sys.argv[2])

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in absent else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)
from turnout.cli import main
for line in lines:
    sys.argv[1:] = line
    try:
        main()
    except SystemExit as end:
        sys.stderr.write(f"{line[0]} ends with {end.code}\\n")
"""


def without(modules, lines, cwd):
    """What several command lines say on an ASCII terminal's stderr where modules are absent."""
    lines = json.dumps([list(map(str, line)) for line in lines])
    command = [sys.executable, "-c", WITHOUT, ",".join(modules), lines]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(
        command, cwd=cwd, env=ascii_only, capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.mark.parametrize(
    "extra", sorted({extra for verb in VERBS.values() for extra in verb.extras})
)
def test_every_verb_names_the_extra_that_it_lacks(tmp_path, extra):
    typed = {"judge": ["t", "--base-url", "u", "--model", "m"], "push": ["r", "o/n"]}
    typed |= {
        "threshold": ["r", "t"],
        "drift": ["r", "t"],
        "serve": ["r", "-c", "c"],
        "settings": [],
    }
    typed |= {"score": ["r", "t", "--text-column", "c"], "simulate": [], "evaluate": ["r", "t"]}
    verbs = [verb for verb in VERBS if extra in VERBS[verb].extras]
    no_output = {"kql", "push", "threshold", "serve", "settings"}
    lines = [
        [verb, *typed.get(verb, ["t"]), *([] if verb in no_output else ["-o", "made"])]
        for verb in verbs
    ]
    for module in EXTRAS[extra]:
        said = without([module], lines, tmp_path)
        for verb in verbs:
            assert f"{verb} ends with 2" in said
        asked = f"this needs {module}, which is not installed. Run: pip install 'turnout[{extra}"
        assert said.count(asked) == len(verbs), said


@pytest.mark.parametrize("extras", sorted({verb.extras for verb in VERBS.values()}), ids=",".join)
def test_a_verb_needs_no_extra_that_it_does_not_name_and_no_character_beyond_ascii(
    folder, tmp_path, extras
):
    typed = {verb: w for verb, w in (TYPED | REFUSED).items() if VERBS[verb].extras == extras}
    lines = [[tmp_path / verb if w == "made" else w for w in typed[verb]] for verb in typed]
    absent = {module for modules in EXTRAS.values() for module in modules}
    said = without(absent.difference(*map(EXTRAS.get, extras)), lines, folder)
    assert "not installed" not in said
    assert "internal error" not in said
    for verb in typed:
        assert (f"{verb} ends with" in said) == (verb in REFUSED), said


@pytest.mark.parametrize("module", ["pandas", "pyspark"])
def test_the_spark_engine_names_its_extra(folder, module):
    engines = ("spark://127.0.0.1:1", "sc://127.0.0.1:1")
    said = without([module], [["switches", NAME, "--engine", each] for each in engines], folder)
    for engine in engines:
        assert f"--engine {engine}: No module named '{module}'" in said
    assert said.count("pip install 'turnout[spark]'") == 2
