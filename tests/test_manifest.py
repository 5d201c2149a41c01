"""Outputs appear only when whole, and a rerun knows its own."""

import errno
from pathlib import Path

import pytest

from turnout.errors import ArtifactError, RecordError, StorageError
from turnout.manifest import Manifest, read_manifest, staged_output, tree_sha256, up_to_date


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("rows")
    return path


def write(output, manifest, text="result"):
    with staged_output(output, manifest) as partial:
        partial.mkdir()
        (partial / "part").write_text(text)


def test_an_output_is_up_to_date_only_for_the_same_inputs_options_and_content(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", [source], {"seed": 1})
    assert not up_to_date(output, manifest)
    write(output, manifest)
    assert up_to_date(output, Manifest.of("stage", [source], {"seed": 1}))
    assert not up_to_date(output, Manifest.of("stage", [source], {"seed": 2}))
    (output / "part").write_text("edited")
    assert not up_to_date(output, Manifest.of("stage", [source], {"seed": 1}))
    write(output, manifest)
    source.write_text("other rows")
    assert not up_to_date(output, Manifest.of("stage", [source], {"seed": 1}))


def test_a_file_carries_its_manifest_beside_it(tmp_path, source):
    output = tmp_path / "turns.parquet"
    manifest = Manifest.of("stage", [source], {})
    manifest.counts["kept"] = 3
    with staged_output(output, manifest) as partial:
        partial.write_text("x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.txt",
        "turns.parquet",
        "turns.parquet.manifest.json",
    ]
    found = read_manifest(output)
    assert found is not None
    assert found["counts"] == {"kept": 3}
    assert up_to_date(output, manifest)


def test_a_failed_run_leaves_the_earlier_output_and_nothing_else(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", [source], {})
    write(output, manifest, "first")
    with pytest.raises(RuntimeError), staged_output(output, manifest) as partial:
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
        write(output, Manifest.of("stage", [source], {}))
    assert (output / "cat.jpg").read_text() == "meow"


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path, source):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    manifest = Manifest.of("stage", [source], {})
    with pytest.raises(StorageError, match=r"there is a file already, and no letter\.txt\.manif"):
        up_to_date(letter, manifest)
    with pytest.raises(StorageError, match="there is a file already"):
        write(letter, manifest)
    assert letter.read_text() == "dear"


def test_what_another_stage_wrote_is_never_replaced(tmp_path, source):
    output = tmp_path / "out"
    write(output, Manifest.of("train", [source], {}), "weeks of work")
    with pytest.raises(StorageError, match="holds what `turnout train` wrote"):
        up_to_date(output, Manifest.of("build", [source], {}))
    assert (output / "part").read_text() == "weeks of work"


@pytest.mark.parametrize("place", ["log", "log/turns.parquet"])
def test_what_a_run_reads_is_never_replaced(tmp_path, place, monkeypatch):
    write(tmp_path / "log", Manifest.of("stage", [], {}))
    read = tmp_path / "log" / "turns.parquet"
    with staged_output(read, Manifest.of("stage", [], {})) as partial:
        partial.write_text("turns")
    monkeypatch.chdir(tmp_path / "log")
    with pytest.raises(StorageError, match=r"turns\.parquet, which is read"):
        up_to_date(tmp_path / place, Manifest.of("stage", [Path("turns.parquet")], {}))
    assert read.read_text() == "turns"


def test_a_folder_where_a_file_goes_is_told_as_such(tmp_path, source):
    (tmp_path / "out").mkdir()
    manifest = Manifest.of("stage", [source], {})
    with (
        pytest.raises(StorageError, match="a folder is there already"),
        staged_output(tmp_path / "out", manifest) as partial,
    ):
        partial.write_text("result")


def test_a_file_killed_between_its_two_renames_is_written_again(tmp_path, source, monkeypatch):
    output = tmp_path / "turns.parquet"

    def write_file(text):
        with staged_output(output, Manifest.of("stage", [source], {"text": text})) as partial:
            partial.write_text(text)

    write_file("first")
    moves = []
    move = Path.replace
    monkeypatch.setattr(Path, "replace", lambda a, b: moves.append(b.name) or move(a, b))
    write_file("second")
    assert moves == ["turns.parquet.manifest.json", "turns.parquet"]
    output.write_text("first")
    assert not up_to_date(output, Manifest.of("stage", [source], {"text": "second"}))


def test_a_full_disk_is_told_as_such_and_nothing_stays(tmp_path, source):
    output = tmp_path / "out"
    with (
        pytest.raises(StorageError, match="no space is left"),
        staged_output(output, Manifest.of("stage", [source], {})) as partial,
    ):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["in.txt"]


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"absent\.parquet: not found"):
        tree_sha256(tmp_path / "absent.parquet")


def test_a_broken_manifest_is_told_as_such(tmp_path, source):
    output = tmp_path / "out"
    manifest = Manifest.of("stage", [source], {})
    write(output, manifest)
    (output / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not readable as JSON"):
        up_to_date(output, manifest)
