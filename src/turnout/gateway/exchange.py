"""One request on its way: read, decided, forwarded, relayed, recorded; each once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import logging
import random
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Send

from turnout.errors import UpstreamError
from turnout.gateway.callers import digest_of_keys
from turnout.gateway.cancellable import CancellableRequest, stopping
from turnout.gateway.decide import Decided, effort_of
from turnout.gateway.forward import Forwarded, NoAnswerError, Outgoing
from turnout.gateway.freeing import free_later
from turnout.gateway.headers import RawHeaders, header_value
from turnout.gateway.incoming import LARGE_BYTES, off_loop
from turnout.gateway.options import Target
from turnout.gateway.problems import BrokenAnswerError, Problem, no_answer, redirected
from turnout.protocols import Answer, AnswerReader, Changes, Usage
from turnout.records import Decision, ModelClass
from turnout.routing.served import Outcome, Served
from turnout.routing.sessions import CachedPrompt

if TYPE_CHECKING:
    from turnout.gateway.parsed_request import ParsedRequest
    from turnout.gateway.runtime import Runtime

_log = logging.getLogger("turnout.access")
# A whole answer is read before anything is sent, so that one that breaks off becomes an error.
_MAX_HELD_BYTES = 1 << 20
# A response without a body has no length either (RFC 9110, section 8.6).
_NO_CONTENT = 204
_LONG_CACHE_LIFETIME_S = 3600.0
COUNT_TOKENS = "/messages/count_tokens"
_IDS = random.Random(secrets.randbits(256))  # noqa: S311 (unique, not secret)


class Exchange(CancellableRequest):
    """One request of a wire format that the gateway reads.

    Args:
        runtime: What serves it.
        parsed: The request.
        receive: Of ASGI; the body was read.
        send: Of ASGI.
        started_s: When the request came, in seconds of `time.perf_counter`.
    """

    def __init__(
        self,
        runtime: Runtime,
        parsed: ParsedRequest,
        receive: Receive,
        send: Send,
        started_s: float,
    ) -> None:
        super().__init__(runtime, receive)
        self._parsed = parsed
        self._send = send
        self._started_s = started_s
        self._arrived = dt.datetime.now(dt.UTC)
        self._progress = _Progress()

    async def run(self) -> None:
        """Serve the request.

        Raises:
            Problem: If nothing was sent yet and the gateway itself must answer.
            BrokenAnswerError: If the answer broke off.
        """
        decided = self._progress.decided = await self._decided()
        try:
            is_done = await self.run_cancellable(self._served(decided))
        except asyncio.CancelledError:
            await self._left(decided)
            raise
        except Exception:
            # Where this is a refusal of the gateway's own, it is recorded already.
            await self._record(decided, _Ended("failed", 500, Answer()))
            raise
        finally:
            if len(self._parsed.body.text) > LARGE_BYTES:
                free_later(self)
        if not is_done:
            await self._left(decided)
            if self.is_stopped and not self.caller_left and not self._progress.is_started:
                raise stopping()

    def parts(self) -> list[Sequence[object]]:
        """The collections that are as long as the conversation."""
        parsed, decided = self._parsed, self._progress.decided
        return [
            *parsed.body.lists(),
            parsed.request.messages,
            parsed.call.turns,
            *(decided.place.transcript.parts() if decided else ()),
        ]

    async def _decided(self) -> Decided:
        decide = functools.partial(self.runtime.decider.decide, self._parsed)
        n_bytes = len(self._parsed.body.text)
        if n_bytes <= LARGE_BYTES and self.runtime.decider.may_wait(self._parsed):
            return await asyncio.to_thread(decide)
        return await off_loop(n_bytes, decide)

    async def _served(self, decided: Decided) -> None:
        try:
            forwarded = await self.runtime.forwarder.send(
                self._outgoing(decided), decided.candidates
            )
        except NoAnswerError as error:
            status = 504 if error.is_late else 502
            await self._record(decided, _Ended("failed", status, Answer(), error.attempts))
            raise no_answer(error, self._headers(decided, None)) from error
        self._progress.forwarded = forwarded
        try:
            await self._relayed(decided, forwarded)
        finally:
            forwarded.close()

    def _outgoing(self, decided: Decided) -> Outgoing:
        parsed = self._parsed

        def body_for(target: Target) -> bytes:
            return body_of(parsed, target, keeps_caller_effort=decided.keeps_caller_effort)

        return Outgoing(
            "POST", parsed.path, parsed.query, parsed.raw_headers, body_for, len(parsed.body.text),
            is_anthropic=parsed.wire_format.NAME == "messages",
            caller=digest_of_keys(parsed.headers),
        )  # fmt: skip

    async def _relayed(self, decided: Decided, forwarded: Forwarded) -> None:
        response = forwarded.response
        if 300 <= response.status < 400:
            await self._refuse_redirect(decided, forwarded)
        is_stream = _is_stream(
            response.headers, response.status, streamed=self._parsed.request.streamed
        )
        reader = _reader(self._parsed, response.headers, is_stream=is_stream)
        self._progress.reader = reader
        if is_stream:
            await self._relay_stream(decided, forwarded, reader)
        else:
            await self._relay_whole(decided, forwarded, reader)

    async def _relay_stream(self, decided: Decided, forwarded: Forwarded, reader: _Reader) -> None:
        await self._start(decided, forwarded)
        status = forwarded.response.status
        try:
            async for chunk in forwarded.chunks():
                self._progress.first_byte_s = self._progress.first_byte_s or time.perf_counter()
                passed = reader.feed(chunk)
                if reader.is_complete():
                    await self._remember(decided, forwarded, reader.answer())
                if passed:
                    await self._send_body(passed)
            rest = reader.close()
        except UpstreamError as error:
            event = reader.error_event(f"turnout: {error}")
            if event:
                await self._send_body(event, last=True)
            await self._end(decided, forwarded, "failed", status, reader.answer())
            if not event:
                raise BrokenAnswerError(str(error)) from error
            return
        answer = reader.answer()
        await self._remember(decided, forwarded, answer)
        await self._send_body(rest, last=True)
        ended = reader.outcome(status, answer)
        await self._end(decided, forwarded, ended, status, answer)

    async def _relay_whole(self, decided: Decided, forwarded: Forwarded, reader: _Reader) -> None:
        held: list[bytes] = []
        n_held = 0
        status = forwarded.response.status
        try:
            async for chunk in forwarded.chunks():
                self._progress.first_byte_s = self._progress.first_byte_s or time.perf_counter()
                reader.feed(chunk)
                held.append(chunk)
                n_held += len(chunk)
                if n_held > _MAX_HELD_BYTES or self._progress.is_started:
                    await self._start_once(decided, forwarded)
                    await self._send_body(b"".join(held))
                    held = []
        except UpstreamError as error:
            await self._end(decided, forwarded, "failed", 502, reader.answer())
            if self._progress.is_started:
                raise BrokenAnswerError(str(error)) from error
            headers = self._headers(decided, forwarded)
            raise Problem(502, "upstream_error", str(error), headers) from error
        answer = reader.answer()
        await self._remember(decided, forwarded, answer)
        await self._start_once(decided, forwarded, length=n_held)
        await self._send_body(b"".join(held), last=True)
        outcome = reader.outcome(status, answer)
        if self._parsed.path == COUNT_TOKENS:
            outcome = "success" if _is_success(status) else "failed"
        await self._end(decided, forwarded, outcome, status, answer)

    async def _refuse_redirect(self, decided: Decided, forwarded: Forwarded) -> None:
        await self._end(decided, forwarded, "failed", 502, Answer())
        raise redirected(forwarded, self._headers(decided, forwarded))

    async def _start_once(
        self, decided: Decided, forwarded: Forwarded, length: int | None = None
    ) -> None:
        if not self._progress.is_started:
            await self._start(decided, forwarded, length)

    async def _start(
        self, decided: Decided, forwarded: Forwarded, length: int | None = None
    ) -> None:
        self._progress.is_started = True
        headers = forwarded.headers() + self._headers(decided, forwarded)
        if length is not None and forwarded.response.status != _NO_CONTENT:
            headers.append((b"content-length", str(length).encode()))
        await self._send(
            {
                "type": "http.response.start",
                "status": forwarded.response.status,
                "headers": headers,
            }
        )

    async def _send_body(self, data: bytes, *, last: bool = False) -> None:
        if last:
            self.is_sent = True
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _left(self, decided: Decided) -> None:
        """The caller has gone, or the gateway stops: the upstream call has ended."""
        progress, forwarded = self._progress, self._progress.forwarded
        answer = progress.reader.answer() if progress.reader else Answer()
        outcome: Outcome = "success" if answer.complete else "cancelled"
        status = forwarded.response.status if forwarded and progress.is_started else None
        if self.is_stopped and not self.caller_left:
            outcome = "success" if answer.complete else "failed"
            status = status or 503
            await self._say_stopped(progress)
        attempts = forwarded.attempts if forwarded else []
        await self._record(decided, _Ended(outcome, status, answer, attempts, forwarded))

    async def _say_stopped(self, progress: _Progress) -> None:
        if progress.reader is None or not progress.is_started or self.is_sent:
            return
        event = progress.reader.error_event(f"turnout: {stopping()}")
        if not event:
            return
        with contextlib.suppress(Exception):  # the connection may be gone
            await self._send_body(event, last=True)

    async def _remember(self, decided: Decided, forwarded: Forwarded, answer: Answer) -> None:
        """Note the answer before its last byte is sent: the next turn may come at once."""
        if self._progress.is_remembered or self._parsed.path == COUNT_TOKENS:
            return
        self._progress.is_remembered = True
        conversations = self.runtime.conversations
        if not (answer.complete or answer.pending):
            await self._in_store(conversations.unanswered, decided.place)
        elif self._parsed.kind in ("turn", "continuation", "sub-agent"):
            if self._parsed.wire_format.NAME != "responses":
                answer = replace(answer, response_id=None)  # nobody can go on from it
            model_class = self._class_of(forwarded.target)
            await self._in_store(
                conversations.answered, decided.place, answer, self._cached(answer, model_class),
                model_class, forwarded.target.name,
                *self._spent_usd(decided.decision, model_class, answer.usage),
            )  # fmt: skip

    async def _in_store(self, call: Any, *arguments: object) -> None:  # noqa: ANN401
        n_bytes = len(self._parsed.body.text)
        if n_bytes <= LARGE_BYTES and self.runtime.conversations.store.blocking:
            await asyncio.to_thread(call, *arguments)
        else:
            await off_loop(n_bytes, functools.partial(call, *arguments))

    def _cached(self, answer: Answer, model_class: ModelClass | None) -> CachedPrompt | None:
        """What the upstream's prompt cache holds since this request, as a replay counts it.

        That is the prompt, not the answer, and its lifetime begins with the request.
        """
        usage = answer.usage
        if usage.prompt_tokens is None:
            return None
        lifetime_s = self.runtime.router.cache_lifetime_s(model_class)
        if usage.cache_write_1h_tokens:
            lifetime_s = max(lifetime_s, _LONG_CACHE_LIFETIME_S)
        return CachedPrompt(usage.prompt_tokens, self._arrived.timestamp(), lifetime_s)

    def _spent_usd(
        self, decision: Decision | None, model_class: ModelClass | None, usage: Usage
    ) -> tuple[float, float]:
        """What an answer cost, and what of it the switch to its class cost, as the budget counts.

        Both 0 where the class has no prices; they are known for policies that use them.
        """
        target = self.runtime.router.targets.get(model_class) if model_class else None
        if target is None or usage.prompt_tokens is None:
            return 0.0, 0.0
        cost_usd = target.prices.cost_usd(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens or 0,
            cached_tokens=usage.cached_tokens or 0,
            written_tokens=usage.cache_write_tokens or 0,
        )
        switched = decision and decision.previous_class not in (None, model_class)
        return cost_usd, (decision.switching_usd or 0.0) if decision and switched else 0.0

    def _class_of(self, target: Target) -> ModelClass | None:
        return self.runtime.classes.get(id(target))

    async def _end(
        self,
        decided: Decided,
        forwarded: Forwarded,
        outcome: Outcome,
        status: int,
        answer: Answer,
    ) -> None:
        await self._record(decided, _Ended(outcome, status, answer, forwarded.attempts, forwarded))

    async def _record(self, decided: Decided, ended: _Ended) -> None:
        if self._progress.is_recorded:
            return
        self._progress.is_recorded = True
        served = self._record_of(decided, ended)
        if self.runtime.journal is not None:
            self.runtime.journal.write(served)
        if _log.isEnabledFor(logging.INFO):
            arguments = (
                self._parsed.path, served.status, served.outcome, served.kind,
                served.model_class or "-", served.target, served.duration_ms,
            )  # fmt: skip
            line = "POST /v1%s %s %s %s %s %s %d ms"
            # `info` would look through the stack for its caller, at each request.
            _log.handle(logging.LogRecord(_log.name, logging.INFO, "", 0, line, arguments, None))

    def _record_of(self, decided: Decided, ended: _Ended) -> Served:
        parsed, place, decision = self._parsed, decided.place, decided.decision
        target = ended.forwarded.target if ended.forwarded else decided.candidates[0]
        fell_back = target != decided.candidates[0]
        first_byte_s = self._progress.first_byte_s
        return Served(
            request_id=f"{_IDS.getrandbits(96):024x}",
            timestamp=self._arrived,
            protocol=parsed.wire_format.NAME,
            kind=parsed.kind,
            conversation_id=place.conversation_id,
            turn_index=place.turn_index,
            requested_model=parsed.request.model,
            model=ended.answer.model or target.model,
            model_class=self._class_of(target) or decided.model_class,
            target=target.name,
            chosen_by="product" if fell_back else decided.chosen_by,
            outcome=ended.outcome,
            identified_by=place.identified_by,
            user_message=parsed.user_message(),
            assistant_message=ended.answer.text or None,
            user_id=parsed.identity.user or None,
            caller=parsed.caller,
            decided_class=decided.decided_class,
            p_reasoning=decision.p_reasoning if decision else None,
            population=decision.population if decision else None,
            threshold=decision.threshold if decision else None,
            policy=decided.policy,
            reason=decided.reason,
            propensity=None if fell_back else decided.propensity,
            router=self.runtime.router.folder.digest,
            status=ended.status,
            attempts=tuple(ended.attempts),
            usage=ended.answer.usage,
            tool_counts=Counter(ended.answer.tools),
            duration_ms=round(1000 * (time.perf_counter() - self._started_s)),
            first_byte_ms=round(1000 * (first_byte_s - self._started_s)) if first_byte_s else None,
            decision_ms=round(decided.decision_ms, 3),
        )

    def _headers(self, decided: Decided, forwarded: Forwarded | None) -> RawHeaders:
        """The gateway's own response headers."""
        target = forwarded.target if forwarded else decided.candidates[0]
        place, decision = decided.place, decided.decision
        values = {
            "conversation-id": place.shown_id,
            "class": str(self._class_of(target) or decided.model_class or "none"),
            "model": target.model,
            "target": target.name,
            "turn": str(place.turn_index),
            "request-kind": self._parsed.kind,
            "policy": decided.policy,
            "reason": decided.reason,
            "latency-ms": f"{decided.decision_ms:.1f}",
        }
        asked_effort = self._parsed.request.effort if decided.keeps_caller_effort else None
        effort = asked_effort or effort_of(target, self._parsed)
        if effort:
            values["effort"] = effort
        if decision is not None:
            values |= {
                "threshold": f"{decision.threshold:.4f}",
                "population": decision.population,
                "switched": str(decision.switched).lower(),
            }
            if decision.p_reasoning is not None:
                values["p-reasoning"] = f"{decision.p_reasoning:.4f}"
        return [(f"x-turnout-{name}".encode(), header_value(v)) for name, v in values.items()]


@dataclass(slots=True)
class _Progress:
    """How far an exchange has come."""

    decided: Decided | None = None
    forwarded: Forwarded | None = None
    reader: _Reader | None = None
    first_byte_s: float | None = None
    is_started: bool = False
    is_remembered: bool = False
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an exchange ended."""

    outcome: Outcome
    status: int | None
    answer: Answer
    attempts: list[Any] = field(default_factory=list)
    forwarded: Forwarded | None = None


class _Reader:
    """Reads an answer while it is relayed; a compressed one is unpacked beside it.

    Whether it is events or one JSON object its first byte says; some servers call one the other.

    Args:
        read_as: Makes a reader, of events or of one object.
        encoding: The answer's content coding, in lower case.
        is_stream: Whether it may be events.
    """

    def __init__(
        self, read_as: Callable[[bool], AnswerReader], encoding: str, *, is_stream: bool
    ) -> None:
        self._read_as = read_as
        self._reader = read_as(is_stream)
        self._is_begun = False
        self._is_events = is_stream
        # 32: either gzip or zlib, whichever the head says.
        self._unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS) if _unpacks(encoding) else None
        self.is_readable = encoding in ("", "identity") or self._unpacker is not None
        self._is_packed = encoding not in ("", "identity")

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; gives what is passed on."""
        if not self._is_packed:
            return self._feed(chunk)
        if self._unpacker is not None:
            with contextlib.suppress(zlib.error):
                self._feed(self._unpacker.decompress(chunk, 8 << 20))
        return chunk

    def _feed(self, data: bytes) -> bytes:
        if not self._is_begun and (beginning := data.lstrip()):
            self._is_begun = True
            if self._is_events and beginning.startswith(b"{"):
                self._is_events = False
                self._reader = self._read_as(False)
        return self._reader.feed(data)

    def close(self) -> bytes:
        """Note the regular end; gives what was still held."""
        rest = self._reader.close()
        return b"" if self._is_packed else rest

    def is_complete(self) -> bool:
        """Whether a stream's last event came."""
        return self._reader.is_complete()

    def answer(self) -> Answer:
        """What was answered so far."""
        return self._reader.answer()

    def outcome(self, status: int, answer: Answer) -> Outcome:
        """How an answer ended that came to its regular end."""
        if not _is_success(status) or answer.failed:
            return "failed"
        if answer.pending:
            return "pending"
        return "success" if answer.complete or not self.is_readable else "failed"

    def error_event(self, message: str) -> bytes:
        """What ends a stream that broke; empty where only closing the connection can say so."""
        if self._is_packed or not self._is_events:
            return b""
        return self._reader.error_event(message)


def _is_success(status: int) -> bool:
    return status < 400


def _unpacks(encoding: str) -> bool:
    return encoding in ("gzip", "x-gzip", "deflate")


def _reader(parsed: ParsedRequest, headers: Mapping[str, str], *, is_stream: bool) -> _Reader:
    withheld = is_stream and bool(parsed.wire_format.usage_parameters(parsed.body.values))

    def read_as(streamed: bool) -> AnswerReader:
        return AnswerReader(parsed.wire_format, streamed=streamed, usage_withheld=withheld)

    encoding = headers.get("content-encoding", "").strip().lower()
    return _Reader(read_as, encoding, is_stream=is_stream)


def _is_stream(headers: Mapping[str, str], status: int, *, streamed: bool) -> bool:
    """Whether an answer is relayed as it arrives."""
    if _media_type(headers) == "text/event-stream":
        return True
    return streamed and _is_success(status)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def body_of(parsed: ParsedRequest, target: Target, *, keeps_caller_effort: bool) -> bytes:
    """What a target gets: the caller's body, but for the model and the target's parameters."""
    values: MutableMapping[str, object] = {"model": target.model}
    if parsed.path != COUNT_TOKENS:
        own = dict(parsed.wire_format.effort_parameters(target.effort)) if target.effort else {}
        own |= target.parameters
        if keeps_caller_effort and parsed.request.effort is not None:
            own = {n: v for n, v in own.items() if n not in parsed.wire_format.EFFORT_NAMES}
        values = {
            **values, **parsed.wire_format.usage_parameters(parsed.body.values), **own,
        }  # fmt: skip
    return parsed.body.changed(Changes(values, target.drop, target.rename))
