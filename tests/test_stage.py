"""Outputs appear only when whole, and a rerun knows its own."""

import errno
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import pytest

from tests.disks import fill, small_disk
from turnout.errors import ArtifactError, RecordError, StorageError
from turnout.manifest import Manifest, read_manifest, tree_sha256
from turnout.stage import StageRun


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("rows")
    return path


def write(output, manifest, text="result"):
    with StageRun(output, manifest).output() as partial:
        partial.mkdir()
        (partial / "part").write_text(text)


def test_an_output_is_up_to_date_only_for_the_same_inputs_options_and_content(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", {"log": source}, {"seed": 1})
    assert not StageRun(output, manifest).is_done()
    write(output, manifest)
    assert StageRun(output, Manifest.of("stage", {"log": source}, {"seed": 1})).is_done()
    assert not StageRun(output, Manifest.of("stage", {"log": source}, {"seed": 2})).is_done()
    (output / "part").write_text("edited")
    assert not StageRun(output, Manifest.of("stage", {"log": source}, {"seed": 1})).is_done()
    write(output, manifest)
    source.write_text("other rows")
    assert not StageRun(output, Manifest.of("stage", {"log": source}, {"seed": 1})).is_done()


@dataclass
class Counted:
    n_kept: int
    fresh: bool = True


@dataclass
class CountedToo(Counted):
    dropped: int = field(kw_only=True)


def test_a_report_that_another_state_of_the_program_recorded_is_made_again(tmp_path, source):
    run = StageRun(tmp_path / "out", Manifest.of("stage", {"log": source}, {}))
    run.record(Counted(3))
    with run.output() as partial:
        partial.mkdir()
        (partial / "report.json").write_text('{"n_kept": 4}')
    assert run.earlier(Counted) == Counted(3, fresh=False)
    assert run.earlier(Counted, "report.json") == Counted(4, fresh=False)
    assert run.earlier(CountedToo) is None
    assert run.earlier(CountedToo, "report.json") is None


def test_a_file_carries_its_manifest_beside_it(tmp_path, source):
    output = tmp_path / "turns.parquet"
    manifest = Manifest.of("stage", {"log": source}, {})
    manifest.counts["kept"] = 3
    with StageRun(output, manifest).output() as partial:
        partial.write_text("x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.txt",
        "turns.parquet",
        "turns.parquet.manifest.json",
    ]
    stored = read_manifest(output)
    assert stored is not None
    assert stored["counts"] == {"kept": 3}
    assert StageRun(output, manifest).is_done()


def test_a_failed_run_leaves_the_earlier_output_and_nothing_else(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", {"log": source}, {})
    write(output, manifest, "first")
    with pytest.raises(RuntimeError), StageRun(output, manifest).output() as partial:
        partial.mkdir()
        (partial / "part").write_text("half")
        raise RuntimeError
    assert (output / "part").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "out"]


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path, source):
    output = tmp_path / "photos"
    output.mkdir()
    (output / "cat.jpg").write_text("meow")
    with pytest.raises(StorageError, match="photos: the folder is not empty"):
        write(output, Manifest.of("stage", {"log": source}, {}))
    assert (output / "cat.jpg").read_text() == "meow"


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path, source):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    manifest = Manifest.of("stage", {"log": source}, {})
    with pytest.raises(StorageError, match=r"there is a file already, and no letter\.txt\.manif"):
        StageRun(letter, manifest).is_done()
    with pytest.raises(StorageError, match="there is a file already"):
        write(letter, manifest)
    assert letter.read_text() == "dear"


def test_what_another_stage_wrote_is_never_replaced(tmp_path, source):
    output = tmp_path / "out"
    write(output, Manifest.of("train", {"log": source}, {}), "weeks of work")
    with pytest.raises(StorageError, match="holds what `turnout train` wrote"):
        StageRun(output, Manifest.of("build", {"log": source}, {})).is_done()
    assert (output / "part").read_text() == "weeks of work"


@pytest.mark.parametrize("place", ["log", "log/turns.parquet"])
def test_what_a_run_reads_is_never_replaced(tmp_path, place, monkeypatch):
    write(tmp_path / "log", Manifest.of("stage", {}, {}))
    read = tmp_path / "log" / "turns.parquet"
    with StageRun(read, Manifest.of("stage", {}, {})).output() as partial:
        partial.write_text("turns")
    monkeypatch.chdir(tmp_path / "log")
    with pytest.raises(StorageError, match=r"the input .*turns\.parquet"):
        StageRun(
            tmp_path / place, Manifest.of("stage", {"turns": Path("turns.parquet")}, {})
        ).is_done()
    assert read.read_text() == "turns"


def test_a_folder_where_a_file_goes_is_told_as_such(tmp_path, source):
    (tmp_path / "out").mkdir()
    manifest = Manifest.of("stage", {"log": source}, {})
    with (
        pytest.raises(StorageError, match="a folder is there already"),
        StageRun(tmp_path / "out", manifest).output() as partial,
    ):
        partial.write_text("result")


def test_a_file_killed_between_its_two_renames_is_written_again(tmp_path, source, monkeypatch):
    output = tmp_path / "turns.parquet"

    def write_file(text):
        with StageRun(
            output, Manifest.of("stage", {"log": source}, {"text": text})
        ).output() as partial:
            partial.write_text(text)

    write_file("first")
    moves = []
    move = Path.replace
    monkeypatch.setattr(Path, "replace", lambda a, b: moves.append(b.name) or move(a, b))
    write_file("second")
    assert moves == ["turns.parquet.manifest.json", "turns.parquet"]
    output.write_text("first")
    assert not StageRun(output, Manifest.of("stage", {"log": source}, {"text": "second"})).is_done()


def test_a_full_disk_is_named_and_nothing_stays(tmp_path, source):
    with small_disk(tmp_path / "disk", 512) as disk:
        run = StageRun(disk / "out", Manifest.of("stage", {"log": source}, {}))
        with (
            pytest.raises(StorageError, match="out: no space is left"),
            run.output() as partial,
            partial.open("wb") as stream,
        ):
            stream.write(bytes(1 << 20))
        assert not list(disk.iterdir())


def test_a_full_temporary_folder_is_named_rather_than_the_output(tmp_path, source, monkeypatch):
    with small_disk(tmp_path / "tmp", 512) as temporary:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        run = StageRun(tmp_path / "out", Manifest.of("stage", {"log": source}, {}))
        fill(temporary)
        with (
            pytest.raises(StorageError, match=f"{temporary}: no space is left"),
            run.output(),
            tempfile.TemporaryFile() as stream,
        ):
            stream.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(FileNotFoundError(errno.ENOENT, "No such file", "rows.csv"), id="lost input"),
        pytest.param(BrokenPipeError(errno.EPIPE, "Broken pipe"), id="closed pipe"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="another full disk"),
        pytest.param(OSError(errno.EACCES, "Permission denied", "/etc/x"), id="another folder"),
    ],
)
def test_errors_that_are_no_failed_writes_pass_through(tmp_path, source, error):
    run = StageRun(tmp_path / "out", Manifest.of("stage", {"log": source}, {}))
    with pytest.raises(OSError) as raised, run.output():
        raise error
    assert raised.value is error


def test_an_input_in_another_role_is_another_run(tmp_path):
    truth, human = tmp_path / "truth.csv", tmp_path / "human.csv"
    truth.write_text("a")
    human.write_text("b")
    write(tmp_path / "out", Manifest.of("label", {"truth": truth, "human": human}, {}))
    swapped = Manifest.of("label", {"truth": human, "human": truth}, {})
    assert not StageRun(tmp_path / "out", swapped).is_done()
    ordered = [
        Manifest.of("evaluate", {"dataset": files}, {})
        for files in ([truth, human], [human, truth])
    ]
    assert ordered[0].key != ordered[1].key


def test_another_version_of_a_library_that_decides_numbers_is_another_run(monkeypatch):
    here = Manifest.of("score", {}, {}, libraries=["numpy"]).key
    monkeypatch.setattr(metadata, "version", lambda name: "0.0")
    assert Manifest.of("score", {}, {}, libraries=["numpy"]).key != here


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None


@dataclass(frozen=True)
class Report:
    rows: int
    parts: tuple[Part, ...]
    fresh: bool


def test_a_report_comes_back_as_it_was_with_null_for_what_could_not_be_measured(tmp_path):
    run = StageRun(tmp_path / "out", Manifest.of("stage", {}, {}))
    run.record(Report(3, (Part("a", 0.5), Part("b", float("nan"))), fresh=True))
    with run.output() as partial:
        partial.write_text("rows")
    assert run.earlier(Report) == Report(3, (Part("a", 0.5), Part("b", None)), fresh=False)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"absent\.parquet: not found"):
        tree_sha256(tmp_path / "absent.parquet")


def test_a_broken_manifest_is_told_as_such(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", {"log": source}, {})
    write(output, manifest)
    (output / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not readable as JSON"):
        StageRun(output, manifest).is_done()
