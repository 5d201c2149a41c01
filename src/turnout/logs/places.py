"""Finds the files that paths, patterns, folders and addresses of object stores name.

A network is asked only where a source names one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from turnout.errors import RecordError
from turnout.logs.archives import ARCHIVE, members_of, opened_member
from turnout.logs.stores import (
    FAILURES,
    credentials,
    first_answer,
    opened,
    reason,
    scheme_of,
    shown,
)
from turnout.manifest import MANIFEST_NAME, tree_sha256
from turnout.tables import COMPRESSIONS, decompressed

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of a log.

    Attributes:
        name: Its path, or its address without credentials: for messages and the manifest.
        path: Its path in the file system.
        filesystem: Where it lies.
        facts: Size and time of change, which stand for its content where it lies elsewhere.
        named: Whether the user named it, rather than its folder, an archive or a pattern.
        member: Its path in the archive that lies at `path`; None where it lies there itself.
    """

    name: str
    path: str
    filesystem: fs.FileSystem
    facts: str
    named: bool = False
    member: str | None = None

    @property
    def suffixes(self) -> list[str]:
        """Its suffixes in lower case, a compression's left out: `.jsonl` of `a.jsonl.gz`."""
        suffixes = Path(self._own_path.lower()).suffixes
        return suffixes[:-1] if suffixes and suffixes[-1] in COMPRESSIONS else suffixes

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return Path(self._own_path).stem

    @property
    def label(self) -> str:
        """Its name without folders: what a turn's `source` says."""
        return Path(self._own_path).name

    def digest(self) -> str:
        """The sha256 of its bytes; elsewhere than here, of its place, size and time of change."""
        if isinstance(self.filesystem, fs.LocalFileSystem) and self.member is None:
            return tree_sha256(Path(self.path))
        return hashlib.sha256(f"{self.name}|{self.facts}".encode()).hexdigest()

    def opened(self) -> io.BufferedReader:
        """Its bytes, decompressed; a compressed file that ends early is an `OSError` when read."""
        stream = self.at_random()
        return decompressed(stream, COMPRESSIONS.get(Path(self._own_path.lower()).suffix))

    def at_random(self) -> pa.NativeFile:
        """Its bytes as they are, to be read in any order."""
        stream = self.filesystem.open_input_file(self.path)
        return stream if self.member is None else opened_member(stream, self.member)

    def members(self) -> list[Self]:
        """The files of an archive; of any other file none.

        Raises:
            RecordError: If the archive cannot be read.
        """
        if self.suffixes[-1:] != [ARCHIVE] or self.member is not None:
            return []
        with self.filesystem.open_input_file(self.path) as stream:
            named_members = members_of(stream, self.name)
        return [
            replace(self, name=f"{self.name}/{name}", facts=facts, member=name, named=False)
            for name, facts in named_members
        ]

    @property
    def _own_path(self) -> str:
        return self.path if self.member is None else self.member


def files_of(
    sources: Sequence[str | Path], is_log: Callable[[LogFile], bool], expected: str
) -> list[LogFile]:
    """The files that the sources name.

    A file is taken as it is; of a folder or a .zip archive, all it holds at any depth, and of a
    pattern (`*`, `?`, `[…]`, and `**` for any depth), what matches: the logs among them, sorted,
    without Turnout's own manifests.

    Args:
        sources: Paths, patterns, folders, or addresses of one of `stores.SCHEMES`.
        is_log: Whether a file's format is known.
        expected: What is, for messages.

    Raises:
        RecordError: If a source names nothing or cannot be reached.
    """
    files: list[LogFile] = []
    for source in sources:
        place = _place(str(source))
        try:
            named = place.files(is_log)
        except UnicodeDecodeError as error:
            name = bytes(error.object).decode(errors="replace")
            raise RecordError(
                f"{place.shown}: a name in it is not UTF-8 ({name}); expected names in UTF-8. "
                "Rename it, or name the log's own files."
            ) from error
        except FAILURES as error:
            raise RecordError(
                f"{place.shown}: cannot be reached ({reason(error)}); expected a readable file, "
                f"folder or pattern. Check the path.{credentials(place.shown)}"
            ) from error
        if not named:
            raise RecordError(
                f"{place.shown}: no log there; expected a file, a folder or a pattern of "
                f"{expected}. Check the path."
            )
        files += named
    return files


@dataclass(frozen=True, slots=True)
class _Place:
    """A source: a file system, a path in it that has no pattern, and the pattern below it.

    Attributes:
        shown: The source, for messages.
        address: How the path's name begins outside of the file system; None where it lies here.
        filesystem: Where the path lies.
        path: Has no pattern.
        pattern: What follows it.
    """

    shown: str
    address: str | None
    filesystem: fs.FileSystem
    path: str
    pattern: tuple[str, ...]

    def files(self, is_log: Callable[[LogFile], bool]) -> list[LogFile]:
        info = first_answer(self._info)
        if info is not None and not self.pattern and info.type == fs.FileType.File:
            file = replace(self._file(info), named=True)
            if file.suffixes[-1:] == [ARCHIVE]:
                return sorted(filter(is_log, file.members()), key=lambda file: file.name)
            return [file]
        if info is not None and info.type != fs.FileType.Directory:
            return []
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        files = [
            self._file(info)
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and self._takes(info)
        ]
        files += [member for file in files for member in file.members()]
        return sorted(filter(is_log, files), key=lambda file: file.name)

    def _info(self) -> fs.FileInfo | None:
        """What the path is; None for a bucket or a container.

        Whoever may list and read what is in one may not always ask about the bucket itself.
        """
        is_bucket = self.address is not None and "/" not in self.path
        asked = f"{self.path}/{MANIFEST_NAME}" if is_bucket else self.path
        info = self.filesystem.get_file_info(asked)
        return None if is_bucket else info

    def _takes(self, info: fs.FileInfo) -> bool:
        below = info.path[len(self.path) :].strip("/").split("/")
        ours = info.base_name == MANIFEST_NAME or info.base_name.endswith(f".{MANIFEST_NAME}")
        return not ours and (not self.pattern or _matches(below, self.pattern))

    def _file(self, info: fs.FileInfo) -> LogFile:
        facts = f"{info.size}|{info.mtime_ns}"
        name = info.path if self.address is None else self.address + info.path[len(self.path) :]
        return LogFile(name, info.path, self.filesystem, facts)


def _place(source: str) -> _Place:
    if scheme_of(source) is None:
        path, pattern = _split(source, exists=Path(source).exists())
        return _Place(source, None, fs.LocalFileSystem(), path or ".", pattern)
    address, _, query = source.partition("?")
    address, pattern = _split(address, exists=False)
    pattern = tuple(map(unquote, pattern))
    filesystem, path = opened(address, query)
    if isinstance(filesystem, fs.LocalFileSystem):
        return _Place(shown(source), None, filesystem, path, pattern)
    name = unquote(shown(address).rstrip("/"))
    return _Place(shown(source), name, filesystem, path.rstrip("/") or ".", pattern)


def _split(source: str, *, exists: bool) -> tuple[str, tuple[str, ...]]:
    """The part of a path before its pattern, and the rest; a file's name may look like one."""
    parts = source.split("/")
    wild = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
    if exists or wild == len(parts):
        return source, ()
    return "/".join(parts[:wild]) or ("/" if source.startswith("/") else ""), tuple(parts[wild:])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
