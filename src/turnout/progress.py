"""How a stage tells how far it is; knows no terminal."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int | None], None]
"""Called with a step's name, units done, and units in all (None where that is not known)."""


def silent(step: str, done: int, total: int | None) -> None:
    """Report nothing."""
