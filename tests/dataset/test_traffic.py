"""The sample of the log beside a data set: as the log is, and not what a router learns from."""

from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.dataset.drawing import Log
from turnout.dataset.traffic import TrafficSample
from turnout.engine import connect
from turnout.routing import Formatter
from turnout.routing.formatter import SEPARATOR
from turnout.samples import DatasetFolder
from turnout.turns import read_turns

CATALOG = load_catalog()


def log(path, n=400):
    """Half of the conversations begin with one and the same message."""
    rows = []
    for number in range(n):
        model = "claude-opus-4-5" if number % 4 == 0 else "claude-haiku-4-5"
        first = "hi" if number % 2 else f"question number {number} about part {number * 7}"
        rows.append(turn(f"c{number:03}", 1, first, model, assistant_message="yes"))
        rows += [
            turn(f"c{number:03}", i, f"more {number} {i}", model) for i in range(2, 2 + number % 3)
        ]
    return write_turns(path, rows)


@pytest.fixture(scope="module", params=["session", "conversation"])
def built(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("traffic")
    turns = log(folder / "turns.parquet")
    build_from_turns(turns, folder / "data", architecture=request.param, catalog=CATALOG)
    return folder / "data", request.param, turns


def read(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_no_conversation_of_the_sample_has_a_training_row(built):
    trained = {row["conversation_id"] for row in read(built[0], "train")}
    sampled = {row["conversation_id"] for row in read(built[0], "traffic")}
    assert sampled
    assert not trained & sampled


def test_the_sample_is_as_the_log_is_though_the_rows_are_not(built):
    data, architecture, turns = built
    logged = pq.read_table(turns).to_pylist()
    if architecture == "session":
        logged = [row for row in logged if row["turn_index"] == 1]
    of_log = sum(row["user_message"] == "hi" for row in logged) / len(logged)
    sampled = read(data, "traffic")
    weight = sum(row["weight"] for row in sampled)
    of_sample = sum(row["weight"] for row in sampled if row["message"] == "hi") / weight
    assert abs(of_sample - of_log) < 0.07
    rows = [row for name in ("train", "validation", "test") for row in read(data, name)]
    assert sum(row["message"] == "hi" for row in rows) < 5


def test_turns_are_shown_as_the_router_reads_them(built):
    data, architecture, turns = built
    sampled = read(data, "traffic")
    counts = Counter(row["conversation_id"] for row in pq.read_table(turns).to_pylist())
    assert all(row["turn_count"] == counts[row["conversation_id"]] for row in sampled)
    later = [row for row in sampled if row["context"]]
    assert bool(later) == (architecture == "conversation")
    if later:
        assert later[0]["context"].startswith("turn two")


def test_the_sample_can_be_shown_with_another_number_of_previous_turns(built):
    data = DatasetFolder.read(built[0])
    shown = data.traffic(replace(data.formatter, previous_turns=0)).inputs
    assert [row.message for row in shown] == [row.message for row in data.traffic().inputs]
    stored = read(built[0], "traffic")
    for row, model_input in zip(stored, shown, strict=True):
        assert model_input.context == row["context"].partition(SEPARATOR)[0]
        assert len(row["previous"]) == row["context"].count(SEPARATOR)


def test_the_sample_is_read_with_the_drawn_turns_and_is_the_same_as_read_apart(tmp_path):
    path = log(tmp_path / "turns.parquet")
    rows = pq.read_table(path).to_pylist()
    # Of its turns 1 and 2 none is among the sixteen indices before turn 20.
    rows += [turn("gaps", i, f"turn {i}", "gpt-4o") for i in (1, 2, *range(20, 26))]
    again = [row | {"user_message": "more", "assistant_message": "no"} for row in rows[::3]]
    path = write_turns(tmp_path / "turns.parquet", rows + again)
    backend, formatter = connect(), Formatter("conversation")
    logged = Log(backend, path, None, formatter, CATALOG, 0)
    available = logged.available.items()
    draws = {cell: min(5, n) for cell, n in available if cell.position == "late"}
    apart, together = (
        TrafficSample(backend, read_turns(backend, path), formatter, 0, logged.conversations)
        for _ in range(2)
    )
    drawn = list(logged.draw(draws))
    ahead = together.ahead(sum(draws.values()))
    seen = list(together.reading(logged.draw(draws, ahead), ahead))
    assert Counter(seen) == Counter(drawn)
    used = {"train": {turn.conversation_id for turn in drawn if turn.order_key} - {"gaps"}}
    sample = apart.table(used)
    assert len(sample) > 100
    assert together.ahead(sum(draws.values())) == []
    path.unlink()  # it is not read again
    assert together.table(used) == sample
