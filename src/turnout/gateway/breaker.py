"""Which targets are left alone for a while, since they failed."""

from __future__ import annotations

import time
from collections.abc import Callable

N_FAILURES = 5
OPEN_S = 30.0
MAX_RETRY_AFTER_S = 300.0
_MAX_CIRCUITS = 10_000


class Breaker:
    """Passes over a target that failed `N_FAILURES` times in a row, for `OPEN_S` seconds.

    After that one request tries it again. A target that asked to be left alone (`Retry-After`) is
    passed over for as long as it said. What concerns one caller's key alone is kept for that
    caller.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By target and caller; an empty caller is everybody.
        self._failures: dict[tuple[str, str], int] = {}
        self._closed_until: dict[tuple[str, str], float] = {}

    def allows(self, target: str, caller: str = "") -> bool:
        """Whether a request may go to a target; the first one after the pause is a trial."""
        now = self._clock()
        closed = [each for each in {(target, ""), (target, caller)} if each in self._closed_until]
        if any(now < self._closed_until[each] for each in closed):
            return False
        for each in closed:
            self._closed_until[each] = now + OPEN_S
        return True

    def succeeded(self, target: str, caller: str = "") -> None:
        """Note that a target answered."""
        for each in {(target, ""), (target, caller)}:
            self._failures.pop(each, None)
            self._closed_until.pop(each, None)

    def failed(self, target: str, retry_after_s: float | None = None, caller: str = "") -> None:
        """Note that a target failed, and for how long it asked to be left alone.

        Args:
            target: Its name.
            retry_after_s: What it asked for.
            caller: Whom alone it concerns; empty for everybody.
        """
        circuit = target, caller
        self._failures[circuit] = self._failures.get(circuit, 0) + 1
        if len(self._failures) > _MAX_CIRCUITS:
            oldest = next(iter(self._failures))
            del self._failures[oldest]
            self._closed_until.pop(oldest, None)
        if retry_after_s is not None:
            pause_s = min(retry_after_s, MAX_RETRY_AFTER_S)
        elif self._failures[circuit] >= N_FAILURES:
            pause_s = OPEN_S
        else:
            return
        self._closed_until[circuit] = self._clock() + pause_s

    def paused(self) -> list[str]:
        """Targets that are passed over now, for everybody or for one caller."""
        now = self._clock()
        return sorted({name for (name, _), until in self._closed_until.items() if now < until})
