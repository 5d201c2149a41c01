"""Failed writes → errors that name the place and the cause."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from turnout.errors import StorageError

_PROBE_BYTES = 1 << 16
_CAUSES = {
    errno.ENOSPC: ("no space is left on the device", "Free some space and run it again"),
    errno.EDQUOT: ("the quota is used up", "Free some space and run it again"),
    errno.EACCES: ("permission was denied", "Choose a folder you may write to"),
    errno.EPERM: ("permission was denied", "Choose a folder you may write to"),
    errno.EISDIR: ("a folder is there already", "Choose the path of a file"),
    errno.EROFS: ("the file system is read-only", "Choose another folder"),
    errno.EEXIST: ("a parent of the path is a file", "Choose another path"),
    errno.ENOTDIR: ("a parent of the path is a file", "Choose another path"),
}


def storage_error(output: Path, error: OSError) -> StorageError:
    """Our error for a failed write to `output`."""
    cause, remedy = _CAUSES.get(error.errno or 0, (str(error), "Check the path and run it again"))
    return StorageError(
        f"{output}: {cause}; expected a place that can be written. {remedy}; "
        "nothing was left half-written."
    )


def failed_place(error: OSError, place: Path) -> Path | None:
    """The path of the write that failed while `place` was filled; None if it was not ours.

    If the error names no file, a full disk is looked for: the disk of the output first, then that
    of the temporary folder.

    Args:
        error: What was raised.
        place: The folder that the run fills; it must still exist.
    """
    if error.filename is not None:
        named = Path(os.fsdecode(error.filename))
        inside = named.resolve().is_relative_to(place.resolve())
        return place if inside and not isinstance(error, FileNotFoundError) else None
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return next((p for p in (place, Path(tempfile.gettempdir())) if not _has_room(p)), None)


def _has_room(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(os.urandom(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True
