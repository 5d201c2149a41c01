"""Spark, here and behind a Connect server, gives what DuckDB gives, byte for byte."""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import turnout.spark
from tests.dataset.test_selection import CATALOG, log
from tests.spark import run_verbs, verbs_that_leave_a_server
from tests.switches.switch_log import write_log
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.dataset import build_from_turns
from turnout.engine import connect
from turnout.errors import SettingsError
from turnout.evaluation.batch import score_file
from turnout.labels import ExternalFiles, label_turns
from turnout.manifest import file_sha256, read_manifest, tree_sha256
from turnout.replay.scored import score_turns
from turnout.schema import LABELS
from turnout.switches import report_switches

pytestmark = pytest.mark.slow

LABEL = [
    "label", "turns.parquet", "-o", "spark-labels.parquet", "--truth", "truth.parquet",
    "--human", "human.csv", "--outcomes", "outcomes.parquet",
]  # fmt: skip
SWITCHES = [
    "switches", "turns.parquet", "-o", "spark-switches", "--examples", "2", "--around", "1",
]  # fmt: skip
REPLAY = [
    "replay", "session-router", "conversation-router", "turns.parquet", "-o", "spark-replay",
    "--reasoning-model", "claude-opus-4-5", "--fast-model", "claude-haiku-4-5",
]  # fmt: skip
SCORE = [
    "score", "conversation-router", "turns.parquet", "--text-column", "user_message",
    "--keep", "turn_index", "-o", "spark-texts.parquet",
]  # fmt: skip
BUILD = [
    "build", "many.parquet", "-o", "spark-session", "--size", "100", "--architecture", "session",
]  # fmt: skip
BUILD_LABELLED = [
    "build", "many.parquet", "-o", "spark-conversation", "--size", "100",
    "--architecture", "conversation", "--labels", "given.parquet",
]  # fmt: skip


def odd_turns():
    """Texts, times and counts that engines are known to read in their own ways."""
    early = dt.datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=dt.UTC)
    return [
        turn("naïve Ω", 1, " \x0bİstanbul ς does it work? ", "gpt-4o", feedback="Thumbs_Down"),
        turn("naïve Ω", 2, "\u00a0it doesn't work!\r\n", "gpt-4o", timestamp=early),
        turn("naïve Ω", 3, "that\u2028s wrong", "o3", feedback="İnvalid"),
        turn("spaced", 1, "sort the list\n", "o3", response_type=" Cancelled\x0b"),
        turn("spaced", 2, "\tsort the list", "gpt-4o", response_type="ſerver_error"),
        turn("spaced", 3, "sort the list", "o3", assistant_message="é429 is no limit"),
        turn("tools", 1, "run it all again", "gpt-4o", tool_counts='{"a \\"9\\" b": 3, "c": 12}'),
        turn("tools", 2, "run it all, again!", "gpt-4o", tool_counts="{}", duration_ms=2**40),
        turn("", 1, "", "", llm_calls=1),
        turn("🤦🏼‍♂️", 1, "🤦🏼‍♂️" * 5, "o3", timestamp=None),
    ]


def write_turns_and_evidence(folder):
    """Turns, and all that speaks for their labels."""
    rows = pq.read_table(write_log(folder)).to_pylist() + odd_turns()
    write_turns(folder / "turns.parquet", rows)
    truth = pq.read_table(folder / "log" / "truth.parquet").slice(0, 100)
    pq.write_table(truth, folder / "truth.parquet")
    keys = [(row["conversation_id"], row["turn_index"]) for row in rows]
    human = [f"{cid},{index},{n % 2}" for n, (cid, index) in enumerate(keys[100:130])]
    (folder / "human.csv").write_text("\n".join(["conversation_id,turn_index,label", *human]))
    scores = [
        {"prompt": row["user_message"], "reasoning_score": 0.9, "fast_score": n % 2}
        for n, row in enumerate(rows[200:220])
    ]
    pq.write_table(pa.Table.from_pylist(scores), folder / "outcomes.parquet")


def write_many_turns(folder):
    """More turns than a data set takes, some of them twice, and labels for most."""
    rows = [*log(n=300), turn("twice", 1, "short", "o3"), turn("twice", 1, "longer", "gpt-4o")]
    rows += [turn("naïve Ω", 1, " \x0bİstanbul ς ", "o3"), turn("auto", 1, "hello", "auto")]
    write_turns(folder / "many.parquet", rows)
    labels = [
        {
            "conversation_id": row["conversation_id"],
            "turn_index": row["turn_index"],
            "p_reasoning": (n % 7) / 7,
            "confidence": 0.5,
            "evidence": ["upgrade"],
        }
        for n, row in enumerate(rows)
        if n % 5
    ]
    pq.write_table(pa.Table.from_pylist(labels, LABELS), folder / "given.parquet")


def written(place):
    """A folder whose name looks like a partition and a pattern, with turns and evidence."""
    folder = place / "user_message=x {1,2}[3]*"
    folder.mkdir()
    write_turns_and_evidence(folder)
    write_many_turns(folder)
    for architecture in ("session", "conversation"):
        write_router(folder / f"{architecture}-router", architecture)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What Spark made on a machine without Java, and then as a Spark Connect server."""
    pytest.importorskip("grpc_status", reason="the client of Spark Connect is not installed")
    place = tmp_path_factory.mktemp("spark")
    folder = written(place)
    here = (LABEL, BUILD, REPLAY, SCORE)
    with verbs_that_leave_a_server(folder, *here, place=place) as (address, server_log):
        run_verbs(folder, SWITCHES, BUILD_LABELLED, engine=address)
        assert "SessionHolder: Closing session" in server_log.read_text()
    return folder


def test_spark_gives_the_labels_that_duckdb_gives(made):
    here, there = made / "labels.parquet", made / "spark-labels.parquet"
    external = ExternalFiles(made / "human.csv", made / "outcomes.parquet")
    truth = made / "truth.parquet"
    label_turns(made / "turns.parquet", here, CATALOG, truth=truth, external=external)
    assert pq.read_table(there).to_pylist() == pq.read_table(here).to_pylist()
    assert file_sha256(there) == file_sha256(here)
    counts_here, counts_there = (read_manifest(path)["counts"] for path in (here, there))
    for file in (*counts_here["external"], *counts_there["external"]):
        file["path"] = Path(file["path"]).name
    assert counts_here == counts_there


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_spark_gives_the_scores_that_duckdb_gives(made, architecture):
    router, here = made / f"{architecture}-router", made / f"{architecture}-scores.parquet"
    report = score_turns(router, made / "turns.parquet", here, catalog=CATALOG)
    there = made / f"spark-replay.{architecture}-scores.parquet"
    assert pq.read_table(there).to_pylist() == pq.read_table(here).to_pylist()
    assert file_sha256(there) == file_sha256(here)
    counted = read_manifest(there)["counts"]
    assert {name: counted[name] for name in ("turns", "conversations", "scored", "estimated")} == {
        "turns": report.turns, "conversations": report.conversations, "scored": report.scored,
        "estimated": report.estimated,
    }  # fmt: skip


def test_spark_scores_a_file_of_texts_as_this_process_does(made):
    here, there = made / "texts.parquet", made / "spark-texts.parquet"
    score_file(
        made / "conversation-router", made / "turns.parquet", here,
        text_column="user_message", keep=["turn_index"],
    )  # fmt: skip
    assert pq.read_table(there).to_pylist() == pq.read_table(here).to_pylist()
    assert file_sha256(there) == file_sha256(here)


def test_spark_gives_the_switches_that_duckdb_gives(made):
    here, there = made / "switches", made / "spark-switches"
    report_switches(made / "turns.parquet", CATALOG, out=here, n_examples=2, around=1)
    assert json.loads((there / "report.json").read_text()) == json.loads(
        (here / "report.json").read_text()
    )
    for name in ("switches.parquet", "switch_turns.parquet"):
        assert pq.read_table(there / name).to_pylist() == pq.read_table(here / name).to_pylist()
    assert tree_sha256(there) == tree_sha256(here)


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_spark_gives_the_data_set_that_duckdb_gives(made, architecture):
    there, here = made / f"spark-{architecture}", made / architecture
    labels = made / "given.parquet" if architecture == "conversation" else None
    build_from_turns(
        made / "many.parquet", here, architecture=architecture, catalog=CATALOG,
        labels=labels, size=100,
    )  # fmt: skip
    assert tree_sha256(there) == tree_sha256(here)


def test_the_java_runtime_s_folder_goes_with_the_process(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment |= {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    asked = "import os, turnout.spark as s; s._with_java('x'); print(os.environ['JAVA_HOME'])"
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("polars", "--engine: found 'polars'; expected duckdb, spark"),
        ("sc://127.0.0.1:abc", r"--engine sc://127.0.0.1:abc: .*Expected sc://HOST:PORT"),
        ("sc://127.0.0.1:9", r"--engine sc://127.0.0.1:9: nothing answered .*expected a Spark Co"),
    ],
)
def test_an_engine_that_is_not_there_is_refused(monkeypatch, engine, said):
    if engine.startswith("sc:"):
        pytest.importorskip("grpc_status", reason="the client of Spark Connect is not installed")
    monkeypatch.setattr(turnout.spark, "_SECONDS_TO_CONNECT", 1)
    with pytest.raises(SettingsError, match=said):
        connect(engine)


def test_the_client_s_packages_are_named_where_they_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(SettingsError, match=r"expected the client of Spark Connect.*pip install"):
        connect("sc://127.0.0.1:9")
