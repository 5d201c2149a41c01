"""Queries that Ctrl-C ends."""

import os
import signal
import tempfile
import threading
import weakref

import duckdb
import ibis
import pytest

from tests.disks import fill, small_disk
from turnout.engine import batches, connect, materialized, reading
from turnout.errors import RecordError, StorageError


def work(n):
    """An expression of n × n steps."""
    numbers, others = (ibis.range(n).unnest().name(name).as_table() for name in ("this", "that"))
    pairs = numbers.cross_join(others)
    return pairs.agg(total=(pairs.this % 7 * pairs.that).sum())


@pytest.fixture
def default_sigint():
    """Python's own handler, also where a shell lets its background jobs ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def ctrl_c(default_sigint):
    """Presses Ctrl-C after a while."""
    pressed = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    yield pressed
    pressed.join()


@pytest.mark.parametrize(
    "ask",
    [
        lambda backend, query: backend.to_pyarrow(query),
        lambda backend, query: materialized(backend, query),
        lambda backend, query: list(batches(backend, query)),
        lambda backend, query: backend.raw_sql(backend.compile(query)).fetchall(),
    ],
    ids=["a result", "a table that is kept", "batches", "plain SQL"],
)
def test_ctrl_c_ends_a_query_at_once_as_an_interrupt(tmp_path, ctrl_c, ask):
    backend = connect()
    ask(backend, work(1))  # imports what it needs
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "turns.parquet", backend):
        ctrl_c.start()
        ask(backend, work(1_000_000))
    ctrl_c.join()
    assert threading.active_count() == threads
    assert backend.raw_sql("SELECT 1").fetchall() == [(1,)]


def test_an_interrupt_that_duckdb_words_as_an_error_is_an_interrupt(tmp_path, ctrl_c):
    signal.signal(signal.SIGINT, lambda *_: None)
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "turns.parquet", connect()):
        ctrl_c.start()
        ctrl_c.join()
        raise duckdb.Error("KeyboardInterrupt: <EMPTY MESSAGE>")


def press_where_python_goes_on():
    """Presses Ctrl-C in the callback of a weak reference, from which no exception gets out."""

    class Held:
        pass

    held = Held()
    reference = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
    del held
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_that_python_loses_ends_the_next_query(tmp_path):
    backend, results = connect(), []
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "turns.parquet", backend):
        press_where_python_goes_on()
        results.append(backend.to_pyarrow(work(60_000)))
    assert results == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_that_python_loses_ends_the_run_where_no_query_follows(tmp_path):
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "turns.parquet", connect()):
        press_where_python_goes_on()


@pytest.mark.slow
@pytest.mark.parametrize("filled", ["by the query", "by others, meanwhile"])
def test_a_full_temporary_folder_is_named_with_what_to_do(tmp_path, monkeypatch, filled):
    spilling = (
        "CREATE TEMP TABLE {} AS SELECT md5(range::VARCHAR) || md5((range + 1)::VARCHAR) AS text "
        "FROM range({})"
    )
    said = "turns.parquet: .* the temporary folder .*small is full .* set TMPDIR to a folder"
    with small_disk(tmp_path / "small", 20_000) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        backend = connect(memory_mb=50)
        with (
            pytest.raises(StorageError, match=said),
            reading(tmp_path / "turns.parquet", backend),
        ):
            if filled != "by the query":
                backend.raw_sql(spilling.format("first", 900_000))
                assert list(disk.iterdir()), "nothing was spilled"
                fill(disk)
            backend.raw_sql(spilling.format("second", 3_000_000))
        backend.disconnect()
        assert {path.name for path in disk.iterdir()} <= {"filler"}


def test_what_sparks_executors_raise_is_said_in_one_sentence(tmp_path):
    errors = pytest.importorskip("pyspark.errors")
    raised = errors.PythonException(
        "An exception was thrown from the Python worker.\nTraceback (most recent call last):\n"
        '  File "worker.py", line 1, in main\nturnout.errors.ArtifactError: router: not found\n\n'
        "\tat org.apache.spark.api.python.BasePythonRunner"
    )
    said = r"turns: Spark's executors cannot work on it \(turnout.errors.ArtifactError: router: not"
    with pytest.raises(RecordError, match=said), reading(tmp_path / "turns", connect()):
        raise raised
