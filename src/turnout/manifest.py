"""What a stage read, did and wrote, and outputs that appear only when whole; knows no stage.

A stage asks `up_to_date` first, then writes inside `staged_output`: a hidden sibling is filled,
its manifest added, and the whole renamed into place. A failed or killed run leaves the previous
output untouched, and what it had written goes with it or with the next run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from turnout.errors import ArtifactError, RecordError, StorageError, TurnoutError
from turnout.workplace import PREVIOUS, remove_abandoned, workplace

MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def tree_sha256(path: Path) -> str:
    """Hex sha256 of a file, or of a folder's files (names and bytes, manifests left out).

    Raises:
        RecordError: If the path does not exist or cannot be read.
    """
    if not path.exists():
        raise RecordError(f"{path}: not found; expected a file or folder to read. Check the path.")
    try:
        if path.is_file():
            return file_sha256(path)
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST_NAME):
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            digest.update(file_sha256(file).encode())
        return digest.hexdigest()
    except PermissionError as error:
        raise RecordError(
            f"{path}: cannot be read ({error.strerror}); expected a readable file or folder. "
            "Check its permissions."
        ) from error


def package_version() -> str:
    """Turnout's installed version."""
    return metadata.version("turnout")


@dataclass(slots=True)
class Manifest:
    """The record beside an output.

    Attributes:
        stage: The verb that ran.
        inputs: Path as given → sha256 of its content.
        options: Every option that decides the output, the seed among them.
        counts: What the stage counted (rows kept, dropped by reason, …), filled while it runs.
        notes: Free facts for a reader (versions, machine), filled while it runs.
    """

    stage: str
    inputs: dict[str, str]
    options: dict[str, Any]
    counts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: str, inputs: Sequence[Path], options: Mapping[str, Any]) -> Manifest:
        """Describe a run before it starts; digests the inputs.

        Raises:
            RecordError: If an input is missing or unreadable.
        """
        digests = {str(path): tree_sha256(path) for path in inputs}
        return cls(stage, digests, json.loads(json.dumps(dict(options), default=str)))

    @property
    def key(self) -> str:
        """Hex sha256 over all that decides the output: stage, inputs' content, options, version."""
        deciding = [self.stage, sorted(self.inputs.values()), self.options, package_version()]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def to_json(self, outputs: Mapping[str, str]) -> dict[str, Any]:
        """The manifest as it is written, with the digests of what was written."""
        return {
            "stage": self.stage,
            "key": self.key,
            "turnout": package_version(),
            "python": sys.version.split()[0],
            "inputs": self.inputs,
            "options": self.options,
            "counts": self.counts,
            "notes": self.notes,
            "outputs": dict(outputs),
        }


def manifest_path(output: Path) -> Path:
    """Where an output's manifest lies: inside a folder, beside a file."""
    return _beside(output) if output.is_file() else output / MANIFEST_NAME


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.{MANIFEST_NAME}")


def read_manifest(output: Path) -> dict[str, Any] | None:
    """The manifest of an output, or None where there is none.

    Raises:
        ArtifactError: If the manifest is there but is not JSON.
    """
    path = manifest_path(output)
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: not readable as JSON ({error}); expected the manifest that Turnout wrote. "
            "Delete the output and run the stage again."
        ) from error
    return found


def up_to_date(output: Path, manifest: Manifest) -> bool:
    """Whether `output` was already made, whole and unchanged, from these inputs and options.

    What killed runs left beside it is removed first.

    Raises:
        StorageError: If the place holds what this stage must not replace; see `staged_output`.
    """
    remove_abandoned(output)
    _refuse_to_replace(output, manifest)
    found = read_manifest(output) if output.exists() else None
    if found is None or found.get("key") != manifest.key:
        return False
    return found.get("outputs") == _output_digests(output)


@contextlib.contextmanager
def staged_output(output: Path, manifest: Manifest) -> Iterator[Path]:
    """Give a hidden path to fill; rename it to `output` when the block ends without an error.

    The path given does not exist yet: the block creates a file or a folder there. It lies on the
    output's disk, in a folder of this run's own: what the block writes beside it goes with the run.
    What the run reads, what another stage wrote and what Turnout did not write are refused rather
    than replaced.

    Raises:
        StorageError: If the place cannot be written, is full, or holds such things.
    """
    _refuse_to_replace(output, manifest)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with workplace(output) as place:
            new = place / "new"
            yield new
            digests = _output_digests(new, shown=output.name)
            # All is written before anything moves.
            told = (new if new.is_dir() else place) / MANIFEST_NAME
            told.write_text(_as_text(manifest.to_json(digests)), encoding="utf-8")
            if new.is_dir() and output.is_dir():
                # A folder cannot be renamed over another; the old one steps aside for an instant.
                output.rename(place / PREVIOUS)
            if new.is_file():
                # First: a file without a manifest is not known as ours, should this be the end.
                told.replace(_beside(output))
            new.replace(output)
    except OSError as error:
        raise storage_error(output, error) from error


def replace_file(output: Path, name: str, text: str) -> None:
    """Replace one file of an output folder by rename, and its digest in the manifest.

    Raises:
        StorageError: If the folder cannot be written.
    """
    manifest = read_manifest(output)
    remove_abandoned(output / name)
    try:
        with workplace(output / name) as place:
            (place / name).write_text(text, encoding="utf-8")
            if manifest is not None:
                manifest["outputs"][name] = file_sha256(place / name)
                (place / MANIFEST_NAME).write_text(_as_text(manifest), encoding="utf-8")
            (place / name).replace(output / name)
            if manifest is not None:
                (place / MANIFEST_NAME).replace(output / MANIFEST_NAME)
    except OSError as error:
        raise storage_error(output / name, error) from error


def _as_text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def storage_error(output: Path, error: OSError) -> TurnoutError:
    """Our error for a failed write."""
    what = {
        errno.ENOSPC: ("no space is left on the device", "Free some space and run it again"),
        errno.EACCES: ("permission was denied", "Choose a folder you may write to"),
        errno.EISDIR: ("a folder is there already", "Choose the path of a file"),
        errno.EROFS: ("the file system is read-only", "Choose another folder"),
        errno.EEXIST: ("a parent of the path is a file", "Choose another path"),
        errno.ENOTDIR: ("a parent of the path is a file", "Choose another path"),
    }.get(error.errno or 0, (str(error), "Check the path and run it again"))
    return StorageError(
        f"{output}: {what[0]}; expected a place that can be written. {what[1]}; "
        "nothing was left half-written."
    )


def _output_digests(output: Path, shown: str | None = None) -> dict[str, str]:
    if output.is_file():
        return {shown or output.name: file_sha256(output)}
    files = (p for p in output.rglob("*") if p.is_file() and p.name != MANIFEST_NAME)
    return {p.relative_to(output).as_posix(): file_sha256(p) for p in sorted(files)}


def _refuse_to_replace(output: Path, manifest: Manifest) -> None:
    place = output.resolve()
    for name in manifest.inputs:
        if place in (Path(name).resolve(), *Path(name).resolve().parents):
            raise StorageError(
                f"{output}: holds {name}, which is read; expected another place for the result. "
                "Choose another path."
            )
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    found = read_manifest(output)
    if found is None:
        what = (
            f"the folder is not empty and holds no {MANIFEST_NAME}"
            if output.is_dir()
            else f"there is a file already, and no {_beside(output).name} beside it"
        )
        raise StorageError(
            f"{output}: {what}; expected a new path or an earlier output of Turnout. Choose "
            "another path."
        )
    if found.get("stage") != manifest.stage:
        raise StorageError(
            f"{output}: holds what `turnout {found.get('stage')}` wrote; expected a new path or an "
            f"earlier output of `turnout {manifest.stage}`. Choose another path, or delete it."
        )
