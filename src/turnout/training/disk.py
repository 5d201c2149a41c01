"""Failed writes of other libraries as OSError."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_BYTES = 1 << 16


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise OSError where a library raises another error for a failed write.

    Libraries written in Rust put the error's number into their own exception; onnx ignores a failed
    write and fails later on the file, with the disk full.

    Raises:
        OSError: If a file could not be written into the folder.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises Exception itself
        if match := _RUST_ERROR.search(str(error)):
            number = int(match[1])
        elif shutil.disk_usage(folder).free < _FULL_BYTES:
            number = errno.ENOSPC
        else:
            raise
        raise OSError(number, os.strerror(number)) from error
