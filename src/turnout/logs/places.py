"""Where logs lie: paths, patterns, folders and object stores → files to open; knows no format.

Object stores are reached through Arrow's own file systems, with the credentials that their usual
environment variables and files give. Nothing is asked of a network unless a source names one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from turnout.errors import RecordError
from turnout.manifest import MANIFEST_NAME, tree_sha256
from turnout.tables import COMPRESSIONS, decompressed

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs")
_URI = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a log.

    Attributes:
        name: Its path, or its URI without credentials: for messages and the manifest.
        path: Its path in the file system.
        filesystem: Where it lies.
        facts: Size and time of change, which stand for its content where it lies elsewhere.
    """

    name: str
    path: str
    filesystem: fs.FileSystem
    facts: str

    @property
    def suffixes(self) -> list[str]:
        """Its suffixes in lower case, a compression's left out: `.jsonl` of `a.jsonl.gz`."""
        suffixes = Path(self.path.lower()).suffixes
        return suffixes[:-1] if suffixes and suffixes[-1] in COMPRESSIONS else suffixes

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return Path(self.path).stem

    @property
    def label(self) -> str:
        """Its name without folders: what a turn's `source` says."""
        return Path(self.path).name

    def digest(self) -> str:
        """The sha256 of its bytes; elsewhere than here, of its place, size and time of change."""
        if isinstance(self.filesystem, fs.LocalFileSystem):
            return tree_sha256(Path(self.path))
        return hashlib.sha256(f"{self.name}|{self.facts}".encode()).hexdigest()

    def opened(self) -> io.BufferedReader:
        """Its bytes, decompressed; a compressed file that ends early is an `OSError` when read."""
        stream = self.filesystem.open_input_file(self.path)
        return decompressed(stream, COMPRESSIONS.get(Path(self.path.lower()).suffix))

    def at_random(self) -> pa.NativeFile:
        """Its bytes as they are, to be read in any order."""
        return self.filesystem.open_input_file(self.path)


def files_of(
    sources: Sequence[str | Path], is_log: Callable[[LogFile], bool], expected: str
) -> list[LogFile]:
    """The files that the sources name.

    A file is taken as it is; of a folder, all it holds at any depth, and of a pattern (`*`, `?`,
    `[…]`, and `**` for any depth), what matches: the logs among them, sorted, without Turnout's own
    manifests.

    Args:
        sources: Paths, patterns, folders, or URIs of one of `SCHEMES`.
        is_log: Whether a file's format is known.
        expected: What is, for messages.

    Raises:
        RecordError: If a source names nothing or cannot be reached.
    """
    files: list[LogFile] = []
    for source in sources:
        place = _place(str(source))
        try:
            found = place.files(is_log)
        except OSError as error:
            raise RecordError(
                f"{place.shown}: cannot be reached ({str(error).splitlines()[0]}); expected a "
                "readable file, folder or pattern. Check the path, and the store's credentials."
            ) from error
        if not found:
            raise RecordError(
                f"{place.shown}: no log there; expected a file, a folder or a pattern of "
                f"{expected}. Check the path."
            )
        files += found
    return files


@dataclass(frozen=True, slots=True)
class _Place:
    """A source: a file system, a path in it that has no pattern, and the pattern below it."""

    shown: str
    prefix: str
    filesystem: fs.FileSystem
    path: str
    pattern: tuple[str, ...]

    def files(self, is_log: Callable[[LogFile], bool]) -> list[LogFile]:
        if not self.pattern:
            found = self.filesystem.get_file_info(self.path)
            if found.type == fs.FileType.File:
                return [self._file(found)]
            if found.type == fs.FileType.NotFound:
                return []
        selector = fs.FileSelector(self.path or ".", allow_not_found=True, recursive=True)
        files = [
            self._file(info)
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and self._takes(info)
        ]
        return sorted(filter(is_log, files), key=lambda file: file.name)

    def _takes(self, info: fs.FileInfo) -> bool:
        below = info.path[len(self.path) :].strip("/").split("/")
        ours = info.base_name == MANIFEST_NAME or info.base_name.endswith(f".{MANIFEST_NAME}")
        return not ours and (not self.pattern or _matches(below, self.pattern))

    def _file(self, info: fs.FileInfo) -> LogFile:
        facts = f"{info.size}|{info.mtime_ns}"
        return LogFile(f"{self.prefix}{info.path}", info.path, self.filesystem, facts)


def _place(source: str) -> _Place:
    scheme = _URI.match(source)
    if scheme is None:
        path, pattern = _split(source, exists=Path(source).exists())
        return _Place(source, "", fs.LocalFileSystem(), path, pattern)
    shown = re.sub(r"//[^/@]*:[^/@]*@", "//", source.partition("?")[0])
    if scheme[1].lower() not in SCHEMES:
        raise RecordError(
            f"{shown}: an unknown kind of place; expected a path or one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}. Download it first."
        )
    address, _, query = source.partition("?")
    path, pattern = _split(address, exists=False)
    try:
        filesystem, path = fs.FileSystem.from_uri(path + (f"?{query}" if query else ""))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(
            f"{shown}: not a place that can be reached ({str(error).splitlines()[0]}); expected "
            "for example s3://BUCKET/FOLDER/*.jsonl. Check how it is written."
        ) from error
    prefix = "" if isinstance(filesystem, fs.LocalFileSystem) else f"{scheme[1].lower()}://"
    return _Place(shown, prefix, filesystem, path, pattern)


def _split(source: str, *, exists: bool) -> tuple[str, tuple[str, ...]]:
    """The part of a path before its pattern, and the rest; a file's name may look like one."""
    parts = source.split("/")
    at = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
    if exists or at == len(parts):
        return source, ()
    return "/".join(parts[:at]) or ("/" if source.startswith("/") else ""), tuple(parts[at:])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
