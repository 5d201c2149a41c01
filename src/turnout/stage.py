"""One run of a stage: recognises its own earlier output, and replaces it only when complete."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from turnout.errors import StorageError
from turnout.manifest import (
    MANIFEST_NAME,
    Manifest,
    file_sha256,
    manifest_beside,
    manifest_text,
    read_manifest,
)
from turnout.storage import failed_place, storage_error
from turnout.workplace import PREVIOUS, remove_abandoned, workplace

_Report = TypeVar("_Report")


def report_json(report: object) -> dict[str, Any]:
    """A report (a dataclass) as JSON, without `fresh`.

    NaN, a value that could not be measured, becomes null.
    """
    content = TypeAdapter(type(report)).dump_python(report, mode="json", exclude={"fresh"})
    stored: dict[str, Any] = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return stored


class StageRun:
    """A stage's output, and the manifest of the run that makes it.

    Args:
        out: The file or folder that the stage writes.
        manifest: The inputs and options of the run.
    """

    def __init__(self, out: Path, manifest: Manifest) -> None:
        self.out = out
        self.manifest = manifest

    def is_done(self) -> bool:
        """Whether a complete, unchanged output of these inputs and options exists already.

        Removes the leftovers of killed runs beside it first.

        Raises:
            StorageError: If the place holds what this stage must not replace; see `output`.
        """
        remove_abandoned(self.out)
        self._refuse_to_replace()
        stored = read_manifest(self.out) if self.out.exists() else None
        if stored is None or stored.get("key") != self.manifest.key:
            return False
        return stored.get("outputs") == _output_digests(self.out)

    def is_changed(self) -> bool:
        """Whether the output is there and is not, or no longer, what a run wrote."""
        stored = read_manifest(self.out) if self.out.exists() else None
        return self.out.exists() and (
            stored is None or stored.get("outputs") != _output_digests(self.out)
        )

    def earlier(self, report: type[_Report], file_name: str = "") -> _Report | None:
        """The report of a complete, unchanged earlier run; its `fresh` is false.

        Args:
            report: Its class.
            file_name: The JSON file in the output folder that holds it; "" for the manifest, where
                `record` puts it.

        Returns:
            None where there is no such run, or where another state of Turnout recorded a report of
            another form: the stage then runs again.

        Raises:
            StorageError: As `is_done`.
        """
        if not self.is_done():
            return None
        if file_name:
            content = json.loads((self.out / file_name).read_text(encoding="utf-8"))
        else:
            content = (read_manifest(self.out) or {})["counts"]
        try:
            return TypeAdapter(report).validate_python({**content, "fresh": False})
        except ValidationError:
            return None

    def record(self, report: object) -> None:
        """Store a report in the manifest; see `report_json`."""
        self.manifest.counts.update(report_json(report))

    @contextlib.contextmanager
    def output(self) -> Iterator[Path]:
        """Give a hidden path to fill; rename it to `out` when the block ends without an error.

        The path does not exist yet: the block creates a file or a folder there. It lies on the
        output's disk, in a folder of this run's own: what the block writes beside it goes with the
        run. What the run reads, what another stage wrote and what Turnout did not write are refused
        rather than replaced.

        Raises:
            StorageError: If the place cannot be written, is full, or holds such things. Other
                errors of the block pass through.
        """
        self._refuse_to_replace()
        with contextlib.ExitStack() as stack:
            try:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                place = stack.enter_context(workplace(self.out))
            except OSError as error:
                raise storage_error(self.out, error) from error
            new = place / "new"
            try:
                yield new
            except OSError as error:
                failed = failed_place(error, place)
                if failed is None:
                    raise
                raise storage_error(self.out if failed == place else failed, error) from error
            try:
                self._replace(new, place)
            except OSError as error:
                raise storage_error(self.out, error) from error

    def _replace(self, new: Path, place: Path) -> None:
        digests = _output_digests(new, name=self.out.name)
        # Write everything before moving anything.
        written = (new if new.is_dir() else place) / MANIFEST_NAME
        written.write_text(manifest_text(self.manifest.to_json(digests)), encoding="utf-8")
        if new.is_dir() and self.out.is_dir():
            # A folder cannot be renamed over another, so the old one is moved away first.
            self.out.rename(place / PREVIOUS)
        if new.is_file():
            # The manifest goes first: if the run dies here, the file is still recognised as ours.
            written.replace(manifest_beside(self.out))
        new.replace(self.out)

    def _refuse_to_replace(self) -> None:
        out = self.out
        for path in (file.path for files in self.manifest.inputs.values() for file in files):
            if out.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
                raise StorageError(
                    f"{out}: holds the input {path}; expected another place for the result. "
                    "Choose another path."
                )
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
        stored = read_manifest(out)
        if stored is None:
            raise StorageError(
                f"{out}: {_without_manifest(out)}; expected a new path or an earlier output of "
                "Turnout. Choose another path."
            )
        if stored.get("stage") != self.manifest.verb:
            raise StorageError(
                f"{out}: holds what `turnout {stored.get('stage')}` wrote; expected a new path or "
                f"an earlier output of `turnout {self.manifest.verb}`. Choose another path, or "
                "delete it."
            )


def _without_manifest(out: Path) -> str:
    if out.is_dir():
        return f"the folder is not empty and holds no {MANIFEST_NAME}"
    return f"there is a file already, and no {manifest_beside(out).name} beside it"


def _output_digests(output: Path, name: str | None = None) -> dict[str, Any]:
    if output.is_file():
        return {name or output.name: file_sha256(output)}
    files = (p for p in output.rglob("*") if p.is_file() and p.name != MANIFEST_NAME)
    return {p.relative_to(output).as_posix(): file_sha256(p) for p in sorted(files)}
