"""How a stage tells how far it is; knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

OnProgress = Callable[[str, int, int | None], None]
"""Called with a step's name, units done, and units in all (None where that is not known)."""

Tell: TypeAlias = Callable[[int], None]
"""Called with the units of a step that are done."""

_Item = TypeVar("_Item")
_UNITS_BETWEEN = 1_000


def silent(step: str, done: int, total: int | None) -> None:
    """Report nothing."""


class Steps:
    """The steps of a stage, each told by its name and number: `2 of 4: draw rows`.

    Of a step that an engine takes in one piece nobody knows how far it is: its name says which of
    how many it is, and it has one unit, told when it is over.

    Args:
        on_progress: Told of every step.
        names: Of all steps, in order.
    """

    def __init__(self, on_progress: OnProgress, *names: str) -> None:
        self._on_progress = on_progress
        self._names = names

    @contextmanager
    def step(self, name: str, total: int | None = None, *, attempt: int = 1) -> Iterator[Tell]:
        """Take a step; one that fails is not told as done.

        Args:
            name: One of the names.
            total: Its units; None where they are not known.
            attempt: Which time it is taken; told apart from the times before.
        """
        label = f"{self._names.index(name) + 1} of {len(self._names)}: {name}"
        if attempt > 1:
            label += f", attempt {attempt}"
        self._on_progress(label, 0, total)
        yield lambda done: self._on_progress(label, done, total)
        units = 1 if total is None else total
        self._on_progress(label, units, units)


def watched(items: Iterable[_Item], tell: Tell, units: Callable[[_Item], int]) -> Iterator[_Item]:
    """The same items; how many units are through is told every thousand or so."""
    done = told = 0
    for item in items:
        yield item
        done += units(item)
        if done - told >= _UNITS_BETWEEN:
            tell(done)
            told = done
