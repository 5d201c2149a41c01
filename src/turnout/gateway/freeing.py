"""Memory of large requests, freed in a thread and a little at a time.

To free a million objects at once takes tenths of a second, in which nothing else runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

# By then nothing else holds what is to be freed.
_DELAY_S = 1.0
_N_AT_ONCE = 500


class Large(Protocol):
    """What holds many objects."""

    def parts(self) -> Iterable[Iterable[object]]:
        """The collections that hold them."""


def free_later(large: Large) -> None:
    """Free what is large, once the caller has let go of it."""
    loop = asyncio.get_running_loop()
    held = [large]
    loop.call_later(_DELAY_S, lambda: loop.run_in_executor(None, _free, held))


def _free(held: list[Large]) -> None:
    large = held.pop()
    items = [item for part in large.parts() for item in part]
    del large  # the collections go; what was in them stays
    while items:
        del items[-_N_AT_ONCE:]
