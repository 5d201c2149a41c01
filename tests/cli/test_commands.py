"""The command as a user types it: what it prints, its exit codes, and never a traceback."""

import json
import signal
import subprocess
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.command import TURNOUT, run
from tests.servers import free_port
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from tests.training.conftest import write_base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The whole line on a small simulated log, with a small random encoder."""
    folder = tmp_path_factory.mktemp("line")
    write_base(folder / "base")
    run("simulate", "-o", "log", "--conversations", 300, "--seed", 3, cwd=folder)
    run("ingest", "log/turns.parquet", "-o", "turns.parquet", cwd=folder)
    built = ["build", "turns.parquet", "-o", "data", "--architecture", "session"]
    run(*built, "--size", 240, cwd=folder)
    trained = ["train", "data", "-o", "router", "--base", "base"]
    run(*trained, "--max-tokens", 64, "--epochs", 1, cwd=folder)
    return folder


def test_the_line_from_log_to_report(line):
    typed = ["evaluate", "router", "data", "--truth", "log/truth.parquet", "-o", "report"]
    shown = run(*typed, cwd=line)
    assert "against simulated truth" in shown.stdout
    assert (line / "report" / "report.html").stat().st_size > 50_000
    assert "report: up to date" in run(*typed, cwd=line).stderr


RERUNS = """
simulate -o log --conversations 300 --seed 3
ingest log/turns.parquet -o turns.parquet
build turns.parquet -o data --architecture session --size 240
train data -o router --base base --max-tokens 64 --epochs 1
"""


NEXT = {
    "simulate -o log": "ingest log/turns.parquet -o turns.parquet",
    "ingest log/turns.parquet -o turns.parquet": "switches turns.parquet -o switches",
    "switches turns.parquet": "label turns.parquet -o labels.parquet",
    "build turns.parquet": "train data -o session-router",
    "train data -o router": "evaluate router data -o report",
}


def test_every_verb_ends_with_the_next_command(line):
    for each in [*RERUNS.strip().splitlines(), "switches turns.parquet"]:
        following = next(to for start, to in NEXT.items() if each.startswith(start))
        assert run(*each.split(), cwd=line).stderr.endswith(f"Next: turnout {following}\n")
        assert "Next:" not in run(*each.split(), "--json", cwd=line).stderr


def test_the_command_that_serves_comes_with_the_settings_file_that_it_needs(tmp_path):
    write_router(tmp_path / "router")
    serve = "turnout serve router -c turnout.toml\n"
    without = run("route", "router", "hi", cwd=tmp_path).stderr
    assert "Next: name your models" in without
    assert without.endswith(f"then run {serve}")
    (tmp_path / "turnout.toml").touch()
    assert run("route", "router", "hi", cwd=tmp_path).stderr.endswith(f"Next: {serve}")


@pytest.mark.parametrize("typed", RERUNS.strip().splitlines(), ids=lambda typed: typed.split()[0])
def test_a_rerun_on_unchanged_inputs_says_up_to_date(line, typed):
    assert "up to date" in run(*typed.split(), cwd=line).stderr


def test_switches_are_printed_in_the_fleets_shape_and_written(line):
    shown = run("switches", "turns.parquet", "-o", "switches", cwd=line)
    assert "models used" in shown.stdout
    assert json.loads((line / "switches" / "report.json").read_text())["conversations"] > 250
    assert "up to date" in run("switches", "turns.parquet", "-o", "switches", cwd=line).stderr


def test_scores_of_a_table(line):
    arguments = ["router", "turns.parquet", "--text-column", "user_message"]
    shown = run("score", *arguments, "-o", "scores.parquet", cwd=line)
    rows = len(pq.read_table(line / "turns.parquet"))
    assert f"{rows:,} rows scored" in shown.stdout
    assert len(pq.read_table(line / "scores.parquet")) == rows


def test_one_message_is_routed_with_its_reason(line):
    shown = run("route", "router", "what does HTTP 404 mean?", cwd=line)
    assert "p_reasoning of the conversation's first message is" in shown.stdout
    decided = json.loads(run("route", "router", "hi", "--json", cwd=line).stdout)
    assert decided["model_class"] in ("reasoning", "fast")


def test_a_message_is_routed_as_the_settings_serve_it(tmp_path):
    router = write_router(tmp_path / "router")
    config = tmp_path / "turnout.toml"
    for threshold, model_class in ((0.0, "reasoning"), (1.0, "fast")):
        config.write_text(f'[router]\nthreshold = {threshold}\npolicy = "conversation"\n')
        decided = json.loads(run("route", router, "hi", "-c", config, "--json").stdout)
        assert (decided["model_class"], decided["threshold"]) == (model_class, threshold)
        assert decided["policy"] == "conversation"


def test_a_conversation_is_routed_turn_by_turn(tmp_path):
    example = Path(__file__).resolve().parents[2] / "examples" / "conversation.json"
    router = write_router(tmp_path / "router", "conversation")
    arguments = [router, "--messages", example, "--all-turns", "--json"]
    decided = json.loads(run("route", *arguments).stdout)
    assert [d["turn_index"] for d in decided] == [1, 2, 3, 4]


def test_half_a_character_is_routed_and_shown_as_what_it_is_not(tmp_path):
    messages = tmp_path / "messages.json"
    messages.write_text(json.dumps([{"role": "user", "content": "prove \ud83d it"}]))
    shown = run("route", write_router(tmp_path / "router"), "--messages", messages)
    assert "prove \N{REPLACEMENT CHARACTER} it" in shown.stdout


def test_ctrl_c_ends_the_gateway_in_one_line(tmp_path):
    write_router(tmp_path / "router")
    config = tmp_path / "turnout.toml"
    config.write_text(
        '[upstreams.u]\nurl = "http://127.0.0.1:9/v1"\n'
        '[targets.reasoning]\nupstream = "u"\nmodel = "deep"\n'
        '[targets.fast]\nupstream = "u"\nmodel = "quick"\n'
        "[router]\nthreshold = 0.9\n"
    )
    port = free_port()
    arguments = ["serve", str(tmp_path / "router"), "-c", str(config), "--port", str(port)]
    with subprocess.Popen([*TURNOUT, *arguments], stderr=subprocess.PIPE, text=True) as process:
        first = process.stderr.readline()
        assert f"serves at http://127.0.0.1:{port}/v1" in first
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["status"] == "ok"
        taken = run(*arguments, ok=False)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        process.wait(timeout=30)
    assert "Traceback" not in rest
    assert "threshold → 0.9 of the settings, not the router folder's 0.5" in rest
    assert taken.returncode == 6
    assert f"127.0.0.1:{port}: cannot listen" in taken.stderr


def test_a_threshold_of_the_settings_file_is_told_where_another_is_chosen(tmp_path):
    router = write_router(tmp_path / "router")
    rows = [turn(f"c{n}", 1, ("prove it", "hello")[n % 2], "o3") for n in range(40)]
    turns = write_turns(tmp_path / "turns.parquet", rows)
    config = tmp_path / "turnout.toml"
    config.write_text("[router]\nthreshold = 0.9\n")
    done = run("threshold", router, turns, "--share", 0.5, "-c", config)
    assert f"{config}: [router] threshold = 0.9 is served in place of the chosen" in done.stderr


def bad_inputs(folder):
    """Arguments, exit code, and what the message must say."""
    log = folder / "log.jsonl"
    log.write_text(json.dumps({"conversation_id": "a", "user_message": "x"}) + "\n")
    zero = folder / "zero.jsonl"
    row = {"conversation_id": "a", "turn_index": -1, "user_message": "x", "model": "o3"}
    zero.write_text(json.dumps(row | {"timestamp": "2026-01-01T00:00:00Z"}) + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    first = write_turns(
        folder / "one.parquet", [turn(f"c{n}", 1, f"m{n}", "o3") for n in range(40)]
    )
    router = write_router(folder / "router")
    changed = write_router(folder / "changed")
    with (changed / "tokenizer.json").open("a") as stream:
        stream.write(" ")
    newer = write_router(folder / "newer")
    described = json.loads((newer / "router.json").read_text()) | {"format_version": 9}
    (newer / "router.json").write_text(json.dumps(described))
    out = folder / "out"
    build = ["build", first, "-o", out]
    return {
        "a missing column": (["ingest", log, "-o", out], 3, "no column for"),
        "a turn index of -1": (["ingest", zero, "-o", out], 3, "turn_index"),
        "an empty log": (["ingest", folder / "empty.jsonl", "-o", out], 3, "empty.jsonl"),
        "an unreadable file": (["ingest", folder / "broken.parquet", "-o", out], 3, "Parquet"),
        "no such file": (["ingest", folder / "none.jsonl", "-o", out], 3, "none.jsonl"),
        "one label": ([*build, "--architecture", "session"], 3, "expected both labels"),
        "a size of nothing": ([*build, "--architecture", "session", "--size", 0], 2, "x>=2"),
        "a margin that nothing is held to": (
            [*build, "--architecture", "session", "--margin", 0.2], 2, "is for --outcomes alone",
        ),
        "a ratio that nothing is held to": (
            [*build, "--outcomes", "--ratio", "70:30"], 2, "not for --outcomes",
        ),
        "outcomes of turns": (
            [*build, "--outcomes", "--map", "promt=user_message"], 2, "expected one of prompt",
        ),
        "a folder for a file": (["switches", folder], 3, "is a folder; expected the Parquet file"),
        "no such data set": (["threshold", router, "none", "--share", 0.3], 4, "none: not found"),
        "no data set": (["train", folder, "-o", out], 4, "expected a data set folder"),
        "a changed byte": (["route", changed, "hi"], 4, "changed or damaged"),
        "a newer format": (["route", newer, "hi"], 4, "Upgrade Turnout"),
        "no router": (["route", folder / "nowhere", "hi"], 4, "expected a router folder"),
        "no message": (["route", router], 2, "give either TEXT or --messages"),
        "a router and no data": (["evaluate", router, "-o", out], 2, "each followed by"),
        "no settings": (["serve", router, "-c", folder / "no.toml"], 2, "not found"),
        "an unknown verb": (["rout"], 2, "rout"),
        "another name of it": (["label", first, "-o", out, "--gold", "none"], 3, "none: not found"),
        "an option that is not": (["simulate", "-o", out, "--nosie", "1"], 2, "--noise"),
        "a place that cannot be written": (
            ["simulate", "-o", log / "sub", "--conversations", "5"], 7, "parent of the path",
        ),
        "the log itself": (["label", first, "-o", first], 7, "holds the input"),
        "a file that is not ours": (["simulate", "-o", zero], 7, "there is a file already"),
        "a folder that is not ours": (
            ["simulate", "-o", folder, "--conversations", "5"], 7, "Choose another path",
        ),
    }  # fmt: skip


def test_bad_input_ends_in_one_message_its_own_exit_code_and_no_output(tmp_path):
    before = None
    for name, (arguments, code, said) in bad_inputs(tmp_path).items():
        before = before or sorted(tmp_path.iterdir())
        done = run(*arguments, ok=False)
        assert (name, done.returncode) == (name, code), done.stderr
        assert said in " ".join(done.stderr.split()), name
        assert done.stdout == "", name
        assert sorted(tmp_path.iterdir()) == before, f"{name} left something behind"


def test_of_many_groups_the_largest_are_shown_and_the_card_names_all(tmp_path):
    rows = [
        {
            "prompt": f"question {number} of {group}",
            "group": f"group {group:02}",
            "reasoning_score": 0.9,
            "fast_score": (0.1, 0.9)[number % 2],
        }
        for group in range(40)
        for number in range(20 if group % 4 or group == 36 else 60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "scores.parquet")
    shown = run("build", "scores.parquet", "--outcomes", "-o", "data", cwd=tmp_path).stdout
    train = shown.split("│ validation")[0]
    shown_rows = [line.split("│")[2:-1] for line in train.splitlines() if line.count("│") == 6]
    assert [name.strip() for name, *_ in shown_rows] == [
        *(f"group {number:02}" for number in range(0, 36, 4)),
        "31 more (see README.md)",
    ]
    composition = json.loads((tmp_path / "data" / "dataset.json").read_text())["composition"]
    cells = [cell for cell in composition if cell["split"] == "train"]
    for number, label in enumerate(("reasoning", "fast", "none"), start=1):
        assert sum(int(row[number]) for row in shown_rows) == sum(cell[label] for cell in cells)
    card = (tmp_path / "data" / "README.md").read_text()
    assert all(f"| train | group {number:02} |" in card for number in range(40))
