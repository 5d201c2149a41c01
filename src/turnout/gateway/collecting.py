"""When Python looks for garbage: not while a large request is read, nor through its objects.

One look through a million objects stops every thread for tenths of a second.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()


class _State:
    """What this process does about garbage."""

    is_managed = False
    n_large = 0
    has_frozen = False


def manage() -> None:
    """Take charge of this process's garbage collector; for a process that only serves."""
    _State.is_managed = True
    # What was loaded stays, and need not be looked at again; large bodies are no garbage either.
    gc.collect()
    gc.freeze()
    # Few objects at a time; all of them only in `collect`.
    gc.set_threshold(1_000, 5, 1_000_000)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Make objects that are never looked through; they are freed when nothing refers to them."""
    if not _State.is_managed:
        yield
        return
    with _lock:
        _State.n_large += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            gc.freeze()
            _State.has_frozen = True
            _State.n_large -= 1
            if not _State.n_large:
                gc.enable()


def collect() -> None:
    """Look through everything; at best while nobody waits for an answer."""
    with _lock:
        if _State.n_large:
            return
        if _State.has_frozen:
            gc.unfreeze()
        gc.collect()
        if _State.has_frozen:
            gc.freeze()
            _State.has_frozen = False
