"""A hidden folder beside an output for rows on their way to it; knows no row.

It lies on the disk that has to hold the result anyway, and goes with the run. What a killed run
left behind goes with the next one.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_SUFFIX = ".scratch"
_LOCK = "in-use"


@contextlib.contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A new folder, removed when the block ends."""
    _remove_abandoned(out)
    with (
        tempfile.TemporaryDirectory(
            dir=out.parent, prefix=f".{out.name}.", suffix=_SUFFIX, ignore_cleanup_errors=True
        ) as folder,
        (Path(folder) / _LOCK).open("w", encoding="utf-8") as lock,
    ):
        _lock(lock)
        yield Path(folder)


def _remove_abandoned(out: Path) -> None:
    for folder in out.parent.glob(f".{out.name}.*{_SUFFIX}"):
        # A folder without the file is just being made.
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+", encoding="utf-8") as lock:
            _lock(lock)
            shutil.rmtree(folder, ignore_errors=True)


def _lock(file: TextIO) -> None:
    """Hold the file for this process; an `OSError` where another one holds it."""
    if sys.platform == "win32":
        return  # a file that is open there cannot be removed
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
