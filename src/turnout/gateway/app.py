"""The gateway as an ASGI application."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from turnout.errors import RecordError, UpstreamError
from turnout.gateway.forward import (
    Forwarder,
    UpstreamTimeoutError,
    relayed_chunks,
    relayed_headers,
)
from turnout.gateway.journal import Journal
from turnout.gateway.options import GatewayOptions, Target
from turnout.protocols import AnswerReader, chat, turns_of
from turnout.records import Decision, ModelClass
from turnout.routing import Router

CONVERSATION_HEADER = "x-turnout-conversation-id"
_ROUTED_TOO = "auto"


@dataclass(frozen=True, slots=True)
class _RoutedRequest:
    """A chat completion that was read and decided."""

    body: dict[str, Any]
    decision: Decision | None  # None where the caller named the target's model
    model_class: ModelClass
    target: Target
    conversation_id: str
    turn_index: int
    user_message: str
    started_s: float


class _BadRequestError(Exception):
    """The caller's request cannot be used (HTTP 400)."""


class Gateway:
    """Answers requests.

    Args:
        router: Decides.
        options: Where classes go.

    Raises:
        SettingsError: If an upstream's key is missing.
        StorageError: If the journal cannot be written.
    """

    def __init__(self, router: Router, options: GatewayOptions) -> None:
        self._router = router
        self._options = options
        self._journal = Journal(options.journal) if options.journal else None
        self._forwarder = Forwarder(options.upstreams)

    async def chat_completions(self, request: Request) -> Response:
        """Route a chat completion, forward it, relay the answer as it arrives."""
        routed = await self._routed(request)
        try:
            response = await self._forwarder.send(routed.body, dict(request.headers), routed.target)
        except UpstreamError:
            await self._record(routed, None, AnswerReader(chat, streamed=False), "failed")
            raise
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        reader = AnswerReader(chat, streamed=streamed)
        headers = relayed_headers(response) | self._headers(routed)
        if streamed:
            events = _with_error_event(self._relayed(routed, response, reader))
            return StreamingResponse(events, response.status_code, headers)
        # Read whole before anything is sent: a break in mid-answer can still become an error.
        chunks = [chunk async for chunk in self._relayed(routed, response, reader)]
        return Response(b"".join(chunks), response.status_code, headers)

    async def route(self, request: Request) -> Response:
        """Decide without forwarding."""
        routed = await self._routed(request)
        decided = (
            asdict(routed.decision) if routed.decision else {"model_class": routed.model_class}
        )
        target = {"upstream": routed.target.upstream, "model": routed.target.model}
        return JSONResponse(decided | {"target": target})

    async def models(self, request: Request) -> Response:
        """The models that callers may name: the routed name first, then every target's own."""
        names = dict.fromkeys(
            [self._options.model_name, *(t.model for t in self._options.targets.values())]
        )
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "turnout"} for name in names
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def health(self, request: Request) -> Response:
        """That the gateway runs, and with which router."""
        lost = self._journal.lost_lines if self._journal else 0
        return JSONResponse(
            {"status": "ok", "router": self._router.folder.digest, "journal_lines_lost": lost}
        )

    async def close(self) -> None:
        """Close the connections to the upstreams."""
        await self._forwarder.close()

    async def _routed(self, request: Request) -> _RoutedRequest:
        started_s = time.monotonic()
        body = _body(await request.body())
        try:
            turns = turns_of(body["messages"])
        except RecordError as error:
            raise _BadRequestError(str(error)) from error
        named = self._named_class(body.get("model"))
        conversation_id, given = _conversation_id(request, body, turns[0].user_message)
        decision = None
        if named is None:
            if not given and len(turns) == 1:
                self._router.forget(conversation_id)
            decision = await run_in_threadpool(
                self._router.decide, turns, conversation_id=conversation_id
            )
        model_class = named or (decision.model_class if decision else "reasoning")
        return _RoutedRequest(
            body,
            decision,
            model_class,
            self._options.targets[model_class],
            conversation_id,
            len(turns),
            turns[-1].user_message,
            started_s,
        )

    def _named_class(self, model: object) -> ModelClass | None:
        """The class whose model the caller asked for by name; None where it is to be decided."""
        if model in (None, self._options.model_name, _ROUTED_TOO):
            return None
        for model_class, target in self._options.targets.items():
            if model == target.model:
                return model_class
        known = ", ".join(t.model for t in self._options.targets.values())
        raise _BadRequestError(
            f"model: found {model!r}; expected {self._options.model_name} to have the message "
            f"routed, or one of {known}."
        )

    async def _relayed(
        self, routed: _RoutedRequest, response: httpx.Response, reader: AnswerReader
    ) -> AsyncIterator[bytes]:
        ended = "cancelled"
        try:
            async for chunk in relayed_chunks(response):
                reader.feed(chunk)
                yield chunk
            ended = "success" if response.is_success else "failed"
        except UpstreamError:
            ended = "failed"
            raise
        finally:
            # The caller may have gone: the line is written all the same.
            with anyio.CancelScope(shield=True):
                await self._record(routed, response.status_code, reader, ended)

    async def _record(
        self, routed: _RoutedRequest, status: int | None, reader: AnswerReader, ended: str
    ) -> None:
        if self._journal is None:
            return
        answer = reader.answer()
        entry = {
            "conversation_id": routed.conversation_id,
            "turn_index": routed.turn_index,
            "user_message": routed.user_message,
            "model": answer.model or routed.target.model,
            "timestamp": dt.datetime.now(dt.UTC).isoformat(),
            "assistant_message": answer.text or None,
            "response_type": ended,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "reasoning_tokens": answer.usage.reasoning_tokens,
            "cached_tokens": answer.usage.cached_tokens,
            "llm_calls": 1,
            "tool_counts": Counter(answer.tools) or None,
            "duration_ms": round(1000 * (time.monotonic() - routed.started_s)),
            "user_id": routed.body.get("user"),
            "status": status,
            "requested_model": routed.body.get("model"),
            "target": routed.target.model,
            "router": self._router.folder.digest,
            "decision": asdict(routed.decision) if routed.decision else None,
        }
        await run_in_threadpool(self._journal.write, entry)

    def _headers(self, routed: _RoutedRequest) -> dict[str, str]:
        headers = {
            CONVERSATION_HEADER: routed.conversation_id,
            "x-turnout-class": routed.model_class,
            "x-turnout-model": routed.target.model,
            "x-turnout-turn": str(routed.turn_index),
        }
        decision = routed.decision
        if decision is None:
            return headers | {"x-turnout-policy": "asked", "x-turnout-reason": "asked for by name"}
        headers |= {
            "x-turnout-policy": decision.policy,
            "x-turnout-threshold": f"{decision.threshold:.4f}",
            "x-turnout-population": decision.population,
            "x-turnout-switched": str(decision.switched).lower(),
            # Header values are Latin-1 on the wire (RFC 9110, section 5.5).
            "x-turnout-reason": decision.reason.replace("≥", ">="),
        }
        if decision.p_reasoning is not None:
            headers["x-turnout-p-reasoning"] = f"{decision.p_reasoning:.4f}"
        return headers


def create_app(router: Router, options: GatewayOptions) -> Starlette:
    """The application; any ASGI server can run it.

    Raises:
        SettingsError: If an upstream's key is missing.
        StorageError: If the journal cannot be written.
    """
    gateway = Gateway(router, options)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    routes = [
        Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
        Route("/v1/route", gateway.route, methods=["POST"]),
        Route("/v1/models", gateway.models),
        Route("/healthz", gateway.health),
    ]
    served = ", ".join(route.path for route in routes)

    async def refuse(request: Request, error: Exception) -> Response:
        return _problem(400, str(error), "invalid_request_error")

    async def bad_gateway(request: Request, error: Exception) -> Response:
        late = isinstance(error, UpstreamTimeoutError)
        kind = "upstream_timeout" if late else "upstream_error"
        return _problem(504 if late else 502, str(error), kind)

    async def not_served(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        asked_for = f"{request.method} {request.url.path}"
        return _problem(
            status, f"{asked_for} is not served here; expected one of {served}.", "not_found"
        )

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            _BadRequestError: refuse,
            UpstreamError: bad_gateway,
            HTTPException: not_served,
        },
    )


async def _with_error_event(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A stream whose last event is the error, where it breaks off; official clients raise it."""
    try:
        async for chunk in chunks:
            yield chunk
    except UpstreamError as error:
        problem = {"error": _error(str(error), "upstream_error")}
        yield f"\n\ndata: {json.dumps(problem)}\n\n".encode()


def _problem(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"error": _error(message, kind)}, status)


def _error(message: str, kind: str) -> dict[str, str | None]:
    """An error in OpenAI's form, so that official clients show the message."""
    return {"message": f"turnout: {message}", "type": kind, "param": None, "code": kind}


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _BadRequestError(f"body: not JSON ({error}); expected a chat completion.") from error
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise _BadRequestError("body: found no list of messages; expected a chat completion.")
    return body


def _conversation_id(
    request: Request, body: Mapping[str, Any], first_message: str
) -> tuple[str, bool]:
    """The conversation's name, and whether the caller gave it.

    Callers send the whole history each turn: where none is named, the caller and the first
    message name it.
    """
    metadata = body.get("metadata")
    named = request.headers.get(CONVERSATION_HEADER) or (
        metadata.get("conversation_id") if isinstance(metadata, Mapping) else None
    )
    if isinstance(named, str) and named:
        return named, True
    caller = f"{request.headers.get('authorization', '')}|{body.get('user', '')}"
    text = f"{caller}|{first_message}".encode("utf-8", "replace")
    return hashlib.sha256(text).hexdigest()[:24], False
