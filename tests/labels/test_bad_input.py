"""Tables that `turnout ingest` did not write, odd turns and Ctrl-C: `label` and `switches`."""

import os
import signal
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.errors import RecordError
from turnout.judge import JudgeOptions, judge_turns
from turnout.labels import label_turns
from turnout.switches import report_switches

CATALOG = load_catalog()
ROWS = [turn("a", 1, "x", "gpt-4o"), turn("a", 2, "y", "o3")]
STAGES = {
    "label": lambda turns: label_turns(turns, turns.parent / "labels.parquet", CATALOG),
    "switches": lambda turns: report_switches(turns, CATALOG),
}


@pytest.fixture(params=STAGES)
def stage(request):
    return STAGES[request.param]


def judged(turns):
    """Asks nobody: what is refused is refused before."""
    options = JudgeOptions("http://127.0.0.1:9/v1", "judge-1")
    return judge_turns(turns, turns.parent / "judged.parquet", options)


def refused(stage, path, match):
    with pytest.raises(RecordError, match=match):
        stage(path)
    assert not (path.parent / "labels.parquet").exists()


def test_half_a_table_is_refused(stage, tmp_path):
    path = write_turns(tmp_path / "t.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-60])
    refused(stage, path, "expected a complete Parquet file")


@pytest.mark.parametrize("stage", [*STAGES.values(), judged])
def test_a_table_that_is_damaged_inside_is_refused(stage, tmp_path):
    path = write_turns(tmp_path / "t.parquet", [turn("a", n, f"x{n}", "o3") for n in range(1, 900)])
    whole = bytearray(path.read_bytes())
    whole[50 : len(whole) // 2] = bytes(len(whole) // 2 - 50)
    path.write_bytes(whole)
    refused(stage, path, "copy it again")
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        ("turn_index", ["1", "2"], "turn_index is string, expected int32"),
        ("user_message", [1, 2], "user_message is int64, expected string"),
        ("conversation_id", ["a", None], "1 rows have no conversation_id"),
        ("turn_index", [1, None], "1 rows have no turn_index"),
        ("user_message", ["x", None], "1 rows have no user_message"),
    ],
)
def test_a_column_of_another_type_or_without_values_is_refused(
    stage, tmp_path, name, values, match
):
    table = pq.read_table(write_turns(tmp_path / "t.parquet", ROWS))
    column = table.schema.get_field_index(name)
    kind = pa.int32() if values == [1, None] else None
    pq.write_table(table.set_column(column, name, pa.array(values, kind)), tmp_path / "t.parquet")
    refused(stage, tmp_path / "t.parquet", match)


def test_a_table_without_rows_is_refused(stage, tmp_path):
    refused(stage, write_turns(tmp_path / "t.parquet", []), "of 0 turns")


@pytest.mark.parametrize("stage", [*STAGES.values(), judged])
@pytest.mark.parametrize("model", ["o3", None])
def test_turns_of_several_rows_are_refused_with_their_count(stage, tmp_path, model):
    more = [turn("a", 2, "another text", model), turn("b", 2, "of another conversation", "o3")]
    path = write_turns(tmp_path / "t.parquet", [*ROWS, *more])
    refused(stage, path, "1 rows repeat the conversation and index of another")


@pytest.mark.slow
def test_nul_bytes_long_messages_and_clocks_that_run_backwards_are_read(tmp_path):
    rows = [
        turn("a", 1, "x\0y", "gpt-4o", timestamp=2_000_000_000_000_000),
        turn("a", 2, "x\0y again", "o3", timestamp=1),
        turn("b", 1, "word " * 500_000, "gpt-4o"),
        turn("b", 2, "word " * 500_000, "o3"),
    ]
    path = write_turns(tmp_path / "t.parquet", rows)
    assert STAGES["label"](path).fresh
    labels = pq.read_table(tmp_path / "labels.parquet")
    places = zip(*(labels[n].to_pylist() for n in ("conversation_id", "turn_index")), strict=True)
    assert list(places) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    counts = {kind.kind: kind.count for kind in STAGES["switches"](path).switches}
    assert counts["upgrade"] == 2


# Where Python is in the callback of a weak reference, it prints the interrupt and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_labelling_at_once_and_leaves_nothing(tmp_path):
    few = pq.read_table(write_turns(tmp_path / "t.parquet", ROWS))
    label_turns(tmp_path / "t.parquet", tmp_path / "few", CATALOG)  # imports what it needs
    ids = pa.array([f"c{n}" for n in range(100_000)])
    many = few.take(pa.array([0] * len(ids))).set_column(0, few.field(0), ids)
    pq.write_table(many, tmp_path / "t.parquet")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressed = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def press(step, done, total):
        if "gather" in step and not done:
            pressed.start()

    try:
        with pytest.raises(KeyboardInterrupt):
            label_turns(tmp_path / "t.parquet", tmp_path / "l", CATALOG, on_progress=press)
    finally:
        signal.signal(signal.SIGINT, before)
    assert {path.name for path in tmp_path.iterdir() if "few" not in path.name} == {"t.parquet"}
