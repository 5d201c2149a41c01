"""Work for one caller, which ends at once when the caller leaves or the gateway stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive

from turnout.gateway.problems import Problem
from turnout.gateway.runtime import Runtime


class CancellableRequest:
    """A request that is being served.

    Args:
        runtime: What serves it.
        receive: Of ASGI; the body was read.

    Attributes:
        runtime: What serves it.
        is_sent: Whether the answer's last byte was given to the server.
        caller_left: Whether the caller has gone.
        is_stopped: Whether the gateway stops.
    """

    def __init__(self, runtime: Runtime, receive: Receive) -> None:
        self.runtime = runtime
        self.is_sent = False
        self.caller_left = False
        self.is_stopped = False
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None

    def stop(self) -> None:
        """End the work, since the gateway stops."""
        self.is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def run_cancellable(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work; False where it was ended before it was done."""
        if self.is_stopped:
            work.close()
            return False
        self._task = asyncio.current_task()
        watch = asyncio.ensure_future(self._watch())
        try:
            await work
        except asyncio.CancelledError:
            if self._task is None or not (self.caller_left or self.is_stopped):
                raise
            self._task.uncancel()
            return False
        finally:
            self._task = None
            watch.cancel()
        return True

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.is_sent and self._task is not None:
            self.caller_left = True
            self._task.cancel()


def stopping() -> Problem:
    """That a request cannot be served any more."""
    return Problem(503, "stopping", "the gateway is stopping. Ask again.")
