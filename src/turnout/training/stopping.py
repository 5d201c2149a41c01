"""Stop a run by a signal, at a step that it can be resumed from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from turnout.errors import InterruptError, StoppedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether SIGTERM or Ctrl-C asked to stop.

    Outside `held` a signal raises at once; inside, the work looks when it can stop. A second signal
    ends the process in the usual way.

    Attributes:
        signal_name: The signal that came while it was held, such as `SIGTERM`; None before.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """For work that looks at `signal_name` itself.

        Raises:
            StoppedError: At the end, if a signal came too late for the work to see it.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.signal_name is not None:
            raise self._error()

    def take(self, number: int, frame: FrameType | None) -> None:
        """The signal handler.

        Raises:
            StoppedError: Unless held.
        """
        del frame
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.signal_name = signal.Signals(number).name
        if not self._held:
            raise self._error()

    def error(self, how_far: str) -> StoppedError:
        """The error that ends the run, after Ctrl-C the one of an interrupt."""
        kind = InterruptError if self.signal_name == signal.SIGINT.name else StoppedError
        return kind(f"{self.signal_name or 'another process'}: stopped{how_far}.")

    def _error(self) -> StoppedError:
        return self.error("; nothing was left half-written. Run the same command again to go on")


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for signals while the block runs; elsewhere than in the main thread, do not."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.take) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
