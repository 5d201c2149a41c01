"""Manifests: the inputs, options and digests of an output, stored beside it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from turnout.errors import ArtifactError, RecordError
from turnout.storage import storage_error
from turnout.workplace import remove_abandoned, workplace

MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """A file, a folder or an address that a stage reads.

    Attributes:
        path: As the user gave it.
        sha256: Hex digest of its content.
    """

    path: str
    sha256: str


Paths: TypeAlias = Path | Sequence[Path] | None


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
        verb: The verb that ran.
        inputs: Role (`turns`, `truth`, …) → what was read in that role, in order.
        options: Every option that changes the output, including the seed.
        libraries: Versions of the libraries whose arithmetic changes the output.
        counts: Counts of the stage, filled while it runs.
        notes: Further facts for a reader (versions, machine), filled while it runs.
    """

    verb: str
    inputs: dict[str, list[Input]]
    options: dict[str, Any]
    libraries: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        verb: str,
        inputs: Mapping[str, Paths],
        options: Mapping[str, Any],
        *,
        libraries: Sequence[str] = (),
    ) -> Manifest:
        """The manifest of a run that is about to start; computes the digests of its inputs.

        Args:
            verb: The verb that runs.
            inputs: Role → path or paths; roles without one are left out.
            options: Every option that changes the output.
            libraries: Installed packages whose version changes numbers in the output.

        Raises:
            RecordError: If an input is missing or unreadable.
        """
        read = {
            role: [Input(str(path), tree_sha256(path)) for path in _listed(paths)]
            for role, paths in inputs.items()
        }
        return cls(
            verb,
            {role: files for role, files in read.items() if files},
            json.loads(json.dumps(dict(options), default=str)),
            {name: metadata.version(name) for name in libraries},
        )

    @property
    def key(self) -> str:
        """Hex sha256 over everything that changes the output; paths do not."""
        digests = {role: [file.sha256 for file in files] for role, files in self.inputs.items()}
        deciding = [self.verb, digests, self.options, self.libraries, package_version()]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def to_json(self, outputs: Mapping[str, str]) -> dict[str, Any]:
        """The manifest as it is written, with the digests of what was written."""
        return {
            "stage": self.verb,
            "key": self.key,
            "turnout": package_version(),
            "python": sys.version.split()[0],
            "inputs": {role: list(map(asdict, files)) for role, files in self.inputs.items()},
            "options": self.options,
            "libraries": self.libraries,
            "counts": self.counts,
            "notes": self.notes,
            "outputs": dict(outputs),
        }


def _listed(paths: Paths) -> Sequence[Path]:
    if paths is None:
        return ()
    return (paths,) if isinstance(paths, Path) else paths


def manifest_path(output: Path) -> Path:
    """Path of an output's manifest: inside a folder, beside a file."""
    return manifest_beside(output) if output.is_file() else output / MANIFEST_NAME


def manifest_beside(file: Path) -> Path:
    """Path of the manifest of an output that is a file."""
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
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: not readable as JSON ({error}); expected the manifest that Turnout wrote. "
            "Delete the output and run the stage again."
        ) from error
    return stored


def input_digests(output: Path, role: str) -> list[str]:
    """Digests of what an output was made from in a role; empty where no manifest says so."""
    stored = (read_manifest(output) or {}).get("inputs", {}).get(role, [])
    return [file["sha256"] for file in stored]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as the text of its file."""
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


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
                (place / MANIFEST_NAME).write_text(manifest_text(manifest), encoding="utf-8")
            (place / name).replace(output / name)
            if manifest is not None:
                (place / MANIFEST_NAME).replace(output / MANIFEST_NAME)
    except OSError as error:
        raise storage_error(output / name, error) from error
