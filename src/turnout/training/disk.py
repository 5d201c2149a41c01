"""How other libraries fail when a file cannot be written → OSError; knows no file."""

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
    """Raise OSError where a library says it in another way.

    Those written in Rust name the error in their own exception; onnx overlooks a failed write and
    stumbles over the file afterwards, with the disk full.

    Raises:
        OSError: If a file could not be written into the folder.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises Exception itself
        if found := _RUST_ERROR.search(str(error)):
            number = int(found[1])
        elif shutil.disk_usage(folder).free < _FULL_BYTES:
            number = errno.ENOSPC
        else:
            raise
        raise OSError(number, os.strerror(number)) from error
