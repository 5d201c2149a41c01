"""Which targets are left alone for a while, since they failed."""

from __future__ import annotations

import time
from collections.abc import Callable

N_FAILURES = 5
OPEN_S = 30.0
MAX_RETRY_AFTER_S = 300.0


class Breaker:
    """Passes over a target that failed `N_FAILURES` times in a row, for `OPEN_S` seconds.

    After that one request tries it again. A target that asked to be left alone (`Retry-After`) is
    passed over for as long as it said.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._closed_until: dict[str, float] = {}

    def allows(self, target: str) -> bool:
        """Whether a request may go to a target; the first one after the pause is a trial."""
        until = self._closed_until.get(target)
        if until is None:
            return True
        if self._clock() < until:
            return False
        self._closed_until[target] = self._clock() + OPEN_S
        return True

    def succeeded(self, target: str) -> None:
        """Note that a target answered."""
        self._failures.pop(target, None)
        self._closed_until.pop(target, None)

    def failed(self, target: str, retry_after_s: float | None = None) -> None:
        """Note that a target failed, and for how long it asked to be left alone."""
        self._failures[target] = self._failures.get(target, 0) + 1
        if retry_after_s is not None:
            pause_s = min(retry_after_s, MAX_RETRY_AFTER_S)
        elif self._failures[target] >= N_FAILURES:
            pause_s = OPEN_S
        else:
            return
        self._closed_until[target] = self._clock() + pause_s

    def paused(self) -> list[str]:
        """Targets that are passed over now."""
        now = self._clock()
        return sorted(name for name, until in self._closed_until.items() if now < until)
