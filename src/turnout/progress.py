"""Progress of a stage: its steps, and how many units of a step are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

OnProgress = Callable[[str, int, int | None], None]
"""Called with a step's name, units done, and units in all (None where that is not known)."""

Advance: TypeAlias = Callable[[int], None]
"""Called with the number of units of a step that are done."""

_Item = TypeVar("_Item")
_UNITS_BETWEEN = 1_000


def silent(step: str, done: int, total: int | None) -> None:
    """Report nothing."""


class Steps:
    """The steps of a stage, reported by number and name: `2 of 4: draw rows`.

    A step that runs as one query of an engine has no measurable progress. It has one unit, which is
    reported as done when the query ends.

    Args:
        on_progress: Called at the start and the end of every step, and in between as it advances.
        names: The names of all steps, in order.
    """

    def __init__(self, on_progress: OnProgress, *names: str) -> None:
        self._on_progress = on_progress
        self._names = names

    @contextmanager
    def step(self, name: str, total: int | None = None, *, attempt: int = 1) -> Iterator[Advance]:
        """Run a step; a step that fails is not reported as done.

        Args:
            name: One of the names.
            total: How many units it has; None if unknown.
            attempt: 1-based; from the second attempt on it is part of the label.
        """
        label = f"{self._names.index(name) + 1} of {len(self._names)}: {name}"
        if attempt > 1:
            label += f", attempt {attempt}"
        self._on_progress(label, 0, total)
        yield lambda done: self._on_progress(label, done, total)
        units = 1 if total is None else total
        self._on_progress(label, units, units)


def watched(
    items: Iterable[_Item], advance: Advance, units: Callable[[_Item], int]
) -> Iterator[_Item]:
    """Pass the items on, and report progress about every thousand units."""
    done = reported = 0
    for item in items:
        yield item
        done += units(item)
        if done - reported >= _UNITS_BETWEEN:
            advance(done)
            reported = done
