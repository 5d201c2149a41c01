"""A request that is forwarded by its model's name alone: not decided, not journalled."""

from __future__ import annotations

from starlette.types import Receive, Send

from turnout.errors import UpstreamError
from turnout.gateway.cancellable import CancellableRequest, stopping
from turnout.gateway.forward import Forwarded, NoAnswerError, Outgoing
from turnout.gateway.options import Target
from turnout.gateway.problems import BrokenAnswerError, no_answer, redirected
from turnout.gateway.runtime import Runtime


class PassThrough(CancellableRequest):
    """One such request.

    Args:
        runtime: What serves it.
        outgoing: What is forwarded.
        target: Where to.
        receive: Of ASGI; the body was read.
        send: Of ASGI.
    """

    def __init__(
        self, runtime: Runtime, outgoing: Outgoing, target: Target, receive: Receive, send: Send
    ) -> None:
        super().__init__(runtime, receive)
        self._outgoing = outgoing
        self._target = target
        self._send = send
        self._is_started = False

    async def run(self) -> None:
        """Serve the request.

        Raises:
            Problem: If nothing was sent yet and the gateway itself must answer.
            BrokenAnswerError: If the answer broke off.
        """
        is_done = await self.run_cancellable(self._served())
        if not is_done and self.is_stopped and not self._is_started:
            raise stopping()

    async def _served(self) -> None:
        try:
            forwarded = await self.runtime.forwarder.send(self._outgoing, [self._target])
        except NoAnswerError as error:
            raise no_answer(error) from error
        try:
            await self._relayed(forwarded)
        finally:
            forwarded.close()

    async def _relayed(self, forwarded: Forwarded) -> None:
        response = forwarded.response
        if 300 <= response.status < 400:
            raise redirected(forwarded)
        self._is_started = True
        head = {"status": response.status, "headers": forwarded.headers()}
        await self._send({"type": "http.response.start", **head})
        try:
            async for chunk in forwarded.chunks():
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except UpstreamError as error:
            raise BrokenAnswerError(str(error)) from error
        self.is_sent = True
        await self._send({"type": "http.response.body", "body": b""})
