"""A hidden working folder beside an output, for everything that a run writes on the way.

It is on the output's disk, so that complete files move there by rename. A run holds a lock on its
folder while it lives: a folder whose lock is free was left by a killed run.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

PREVIOUS = "previous"
_LOCK = "in-use"
_HEX_DIGITS = 8


@contextlib.contextmanager
def workplace(output: Path) -> Iterator[Path]:
    """A new folder that only its owner may read, removed when the block ends.

    An earlier output that was moved into it, as `PREVIOUS`, is moved back unless it was replaced.

    Raises:
        OSError: If it cannot be made.
    """
    folder, lock = _claimed(output)
    try:
        yield folder
    finally:
        _empty(folder, output)
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(output: Path) -> None:
    """Remove the folders of killed runs beside an output, but none of a running one."""
    if sys.platform == "win32":
        return  # this file system cannot test the lock of another process
    pattern = f".{glob.escape(output.name)}.{'[0-9a-f]' * _HEX_DIGITS}.partial"
    with contextlib.suppress(OSError):
        for folder in output.parent.glob(pattern):
            with contextlib.suppress(OSError):
                folder.rmdir()  # killed before it took the lock
            with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
                _lock(lock)
                _empty(folder, output)
                shutil.rmtree(folder, ignore_errors=True)


def _claimed(output: Path) -> tuple[Path, TextIO]:
    """Make a folder and lock it; until it is locked, another run may take it for abandoned."""
    while True:
        folder = output.with_name(f".{output.name}.{uuid.uuid4().hex[:_HEX_DIGITS]}.partial")
        folder.mkdir(mode=0o700)
        try:
            lock = (folder / _LOCK).open("x")
        except FileNotFoundError:
            continue
        except OSError:
            folder.rmdir()
            raise
        if _holds(lock) and (folder / _LOCK).exists():
            return folder, lock
        lock.close()


def _holds(lock: TextIO) -> bool:
    try:
        _lock(lock)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: no other run can find this one free
    return True


def _empty(folder: Path, output: Path) -> None:
    """Remove everything but the lock; if the run is killed here, the next one removes the rest."""
    with contextlib.suppress(OSError):
        if not output.exists():
            (folder / PREVIOUS).rename(output)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink()


def _lock(file: TextIO) -> None:
    """Hold the file for this process; an `OSError` where another one holds it."""
    if sys.platform == "win32":
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
