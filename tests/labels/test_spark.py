"""The same labels and the same switches from Spark as from DuckDB, byte for byte."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.spark import run_verbs
from tests.switches.switch_log import write_log
from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.labels import ExternalFiles, label_turns
from turnout.manifest import file_sha256, read_manifest, tree_sha256
from turnout.switches import report_switches

CATALOG = load_catalog()
LABEL = [
    "label", "turns.parquet", "-o", "spark-labels.parquet", "--gold", "gold.parquet",
    "--human", "human.csv", "--outcomes", "outcomes.parquet",
]  # fmt: skip
SWITCHES = [
    "switches", "turns.parquet", "-o", "spark-switches", "--examples", "2", "--around", "1",
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What Spark made of a log in a folder whose name looks like a partition and a pattern."""
    folder = tmp_path_factory.mktemp("engines") / "user_message=x {1,2}[3]*"
    folder.mkdir()
    run_verbs(with_a_log(folder), LABEL, SWITCHES, engine="spark://local[2]")
    return folder


def with_a_log(folder):
    """The folder, with turns and all that speaks for their labels."""
    rows = pq.read_table(write_log(folder)).to_pylist() + odd_turns()
    write_turns(folder / "turns.parquet", rows)
    truth = pq.read_table(folder / "log" / "truth.parquet").slice(0, 100)
    pq.write_table(truth, folder / "gold.parquet")
    keys = [(row["conversation_id"], row["turn_index"]) for row in rows]
    human = [f"{cid},{index},{n % 2}" for n, (cid, index) in enumerate(keys[100:130])]
    (folder / "human.csv").write_text("\n".join(["conversation_id,turn_index,label", *human]))
    scores = [
        {"prompt": row["user_message"], "reasoning_score": 0.9, "fast_score": n % 2}
        for n, row in enumerate(rows[200:220])
    ]
    pq.write_table(pa.Table.from_pylist(scores), folder / "outcomes.parquet")
    return folder


@pytest.mark.slow
def test_spark_gives_the_labels_that_duckdb_gives(folder):
    gave_the_labels_that_duckdb_gives(folder)


@pytest.mark.slow
def test_spark_gives_the_switches_that_duckdb_gives(folder):
    gave_the_switches_that_duckdb_gives(folder)


def gave_the_labels_that_duckdb_gives(folder):
    here, there = folder / "labels.parquet", folder / "spark-labels.parquet"
    external = ExternalFiles(folder / "human.csv", folder / "outcomes.parquet")
    gold = folder / "gold.parquet"
    label_turns(folder / "turns.parquet", here, CATALOG, gold=gold, external=external)
    assert pq.read_table(there).to_pylist() == pq.read_table(here).to_pylist()
    assert file_sha256(there) == file_sha256(here)
    told = [read_manifest(path)["counts"] for path in (here, there)]
    for file in (file for counts in told for file in counts["external"]):
        file["path"] = Path(file["path"]).name
    assert told[0] == told[1]


def gave_the_switches_that_duckdb_gives(folder):
    report_switches(
        folder / "turns.parquet", CATALOG, out=folder / "switches", n_examples=2, around=1
    )
    here, there = folder / "switches", folder / "spark-switches"
    assert json.loads((there / "report.json").read_text()) == json.loads(
        (here / "report.json").read_text()
    )
    for name in ("switches.parquet", "switch_turns.parquet"):
        assert pq.read_table(there / name).to_pylist() == pq.read_table(here / name).to_pylist()
    assert tree_sha256(there) == tree_sha256(here)
