"""What the gateway served, as JSON Lines that `turnout ingest` reads back.

One thread writes, from a bounded queue: a disk that is full, slow or stuck delays no request.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from turnout.protocols.parts import pieces
from turnout.routing.served import Served
from turnout.storage import storage_error

_log = logging.getLogger("turnout.journal")
TextMode = Literal["on", "hashed", "off"]
_MAX_QUEUED = 10_000
_MAX_QUEUED_BYTES = 256 << 20
_FILE = re.compile(r"journal-(\d{4}-\d{2}-\d{2})(?:\.(\d+))?\.jsonl$")
_DAY_S = 86_400.0
_MB = 1e6


class Journal:
    """Appends one line a request to `journal-YYYY-MM-DD.jsonl` (UTC), readable by its owner alone.

    A file that has grown too large is followed by `journal-YYYY-MM-DD.1.jsonl` and so on.

    Args:
        folder: Created where it is not.
        text: Whether messages and answers are written, hashed or left out.
        max_mb: Most that the folder's journals take, in millions of bytes; the oldest files go.
        max_days: Age after which a file goes.
        now: The time; files are named for its date.

    Raises:
        StorageError: If the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        text: TextMode = "on",
        max_mb: float = 10_240.0,
        max_days: float = 365.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._text = text
        self._file = _JournalFiles(folder, max_mb * _MB, max_days * _DAY_S, now)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise storage_error(folder, error) from error
        self._folder = folder
        self._queue: queue.SimpleQueue[Served | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._n_queued = self._queued_bytes = 0
        self._n_lost = 0
        self._says_lost = True
        self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._writer.start()

    @property
    def lost_lines(self) -> int:
        """Records that could not be written."""
        return self._n_lost

    def write(self, served: Served) -> None:
        """Queue a record; never waits. One that does not fit is counted as lost."""
        n_bytes = _size(served)
        with self._lock:
            fits = (
                self._n_queued < _MAX_QUEUED and self._queued_bytes + n_bytes <= _MAX_QUEUED_BYTES
            )
            if fits:
                self._n_queued += 1
                self._queued_bytes += n_bytes
        if fits:
            self._queue.put(served)
        else:
            self._lose("the disk is too slow: too many records wait")

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything queued is written or lost; False where it takes longer."""
        until = time.monotonic() + timeout_s
        while self._n_queued and time.monotonic() < until:
            time.sleep(0.005)
        return not self._n_queued

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued and stop; what a stuck disk does not take is counted as lost."""
        self._queue.put(None)
        self._writer.join(timeout_s)
        with self._lock:
            left = self._n_queued
        if left:
            self._n_lost += left
            _log.warning("%s: %d records were not written before the end.", self._folder, left)
        else:
            self._file.close()

    def _write_all(self) -> None:
        while (served := self._queue.get()) is not None:
            try:
                self._file.append(_line(_with_text(served, self._text)))
                self._says_lost = True
            except OSError as error:
                self._lose(str(storage_error(self._folder, error)))
            with self._lock:
                self._n_queued -= 1
                self._queued_bytes -= _size(served)

    def _lose(self, why: str) -> None:
        with self._lock:
            self._n_lost += 1
            says, self._says_lost = self._says_lost, False
        if says:
            _log.warning("%s: %s Requests go on; their records are lost.", self._folder, why)


class _JournalFiles:
    """The file that is written to, and those before it; used by one thread."""

    def __init__(
        self, folder: Path, max_bytes: float, max_age_s: float, now: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_file_bytes = max(max_bytes / 10, 1.0)
        self._max_age_s = max_age_s
        self._now = now
        self._clocks_s = now() - time.monotonic()
        self._path: Path | None = None
        self._stream = -1
        self._size = 0
        self._is_torn = False
        self._day = ""

    def append(self, line: bytes) -> None:
        """Append a line.

        Raises:
            OSError: If it cannot be written whole.
        """
        self._turn_over(len(line))
        data = b"\n" + line if self._is_torn else line
        try:
            n_written = os.write(self._stream, data)
        except OSError:
            self.close()
            raise
        self._size += n_written
        self._is_torn = n_written < len(data) and n_written > 0
        if n_written < len(data):
            self.close()
            raise OSError(28, "No space left on device", str(self._path))

    def close(self) -> None:
        """Close the file; the next line opens one."""
        if self._stream >= 0:
            os.close(self._stream)
        self._stream = -1

    def _turn_over(self, n_bytes: int) -> None:
        """See to it that the right file is open."""
        day = f"{dt.datetime.fromtimestamp(self._now(), dt.UTC):%Y-%m-%d}"
        is_full = self._size + n_bytes > self._max_file_bytes and self._size > 0
        if self._stream >= 0 and day == self._day and not is_full and self._is_there():
            return
        self.close()
        self._remove_old()
        self._open(day)

    def _is_there(self) -> bool:
        """Whether the file still lies where it was opened."""
        if self._path is None:
            return False
        try:
            status = self._path.stat()
        except OSError:
            return False
        return status.st_ino == os.fstat(self._stream).st_ino

    def _open(self, day: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path, number = self._folder / f"journal-{day}.jsonl", 0
        while path.exists() and path.stat().st_size >= self._max_file_bytes:
            number += 1
            path = self._folder / f"journal-{day}.{number}.jsonl"
        self._stream = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._path, self._day = path, day
        self._size = os.fstat(self._stream).st_size
        # A process that was killed may have left half a line.
        self._is_torn = self._size > 0 and os.pread(self._stream, 1, self._size - 1) != b"\n"

    def _remove_old(self) -> None:
        """Remove files that are too old, and the oldest while all take too much."""
        files = sorted(
            (path for path in self._folder.glob("journal-*.jsonl") if _FILE.search(path.name)),
            key=_file_order,
        )
        sizes = {path: path.stat().st_size for path in files}
        total = sum(sizes.values())
        # A clock that was set makes no file old.
        is_set = abs(self._now() - time.monotonic() - self._clocks_s) > _DAY_S
        for path in files:
            age_s = 0.0 if is_set else self._now() - path.stat().st_mtime
            if age_s <= self._max_age_s and total <= self._max_bytes - self._max_file_bytes:
                continue
            total -= sizes[path]
            path.unlink(missing_ok=True)


def _file_order(path: Path) -> tuple[str, int]:
    match = _FILE.search(path.name)
    return (match[1], int(match[2] or 0)) if match else ("", 0)


def _size(served: Served) -> int:
    """About how much memory a record takes, in bytes."""
    return 2_000 + len(served.user_message or "") + len(served.assistant_message or "")


def _line(served: Served) -> bytes:
    """A record as a line; a long text in pieces, so that no request waits for it meanwhile."""
    values = served.as_json()
    members = (f"{json.dumps(name)}: {_json(value)}" for name, value in values.items())
    line = f"{{{', '.join(members)}}}\n"
    # A message may hold half of a surrogate pair; the line must be written all the same.
    return b"".join([piece.encode("utf-8", "replace") for piece in pieces(line)])


def _json(value: object) -> str:
    if isinstance(value, str):
        escaped = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces(value)]
        return f'"{"".join(escaped)}"'
    return json.dumps(value, ensure_ascii=False, default=str)


def _with_text(served: Served, text: TextMode) -> Served:
    if text == "on":
        return served
    hashed = None
    if text == "hashed" and served.user_message is not None:
        hashed = hashlib.sha256(served.user_message.encode("utf-8", "replace")).hexdigest()
    return replace(served, user_message=None, assistant_message=None, user_message_hash=hashed)
