"""The gateway as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from turnout.gateway.callers import (
    check_one_host,
    check_origin,
    digest_of_keys,
    is_allowed_origin,
    refuse_key_in_query,
    scope_of,
)
from turnout.gateway.decide import AUTO, alias_of, unknown_model
from turnout.gateway.exchange import COUNT_TOKENS, Exchange
from turnout.gateway.forward import Outgoing
from turnout.gateway.headers import RawHeaders
from turnout.gateway.incoming import CallerLeftError, RequestHead, read_json
from turnout.gateway.openapi import document
from turnout.gateway.options import GatewayOptions, Target
from turnout.gateway.parsed_request import ParsedRequest, identity_of
from turnout.gateway.pass_through import PassThrough
from turnout.gateway.problems import BrokenAnswerError, Problem, bad_request
from turnout.gateway.runtime import Runtime, runtime_of
from turnout.protocols import WIRE_FORMATS, Changes, JsonBody, WireFormat, read_call
from turnout.routing import Router

_log = logging.getLogger("turnout.gateway")
_access = logging.getLogger("turnout.access")
_DECIDED = {
    "/chat/completions": "chat",
    "/responses": "responses",
    "/messages": "messages",
    COUNT_TOKENS: "messages",
}
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
# Forwarded by the model's name; not decided, not journalled.
_NAMED = ("/embeddings", "/completions")


class Gateway:
    """Answers requests.

    Attributes:
        runtime: What serves them; replaced as a whole by `swap`.

    Args:
        router: Decides.
        options: Where classes go.

    Raises:
        SettingsError: If an upstream's key is missing or cannot be one.
        StorageError: If the journal cannot be written.
    """

    def __init__(self, router: Router, options: GatewayOptions) -> None:
        self.runtime = runtime_of(router, options)
        self._open: set[Exchange | PassThrough] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def swap(self, router: Router, options: GatewayOptions) -> None:
        """Serve with another router and other settings from the next request on.

        Raises:
            SettingsError: As when the gateway is made; then nothing changes.
            StorageError: As when the gateway is made; then nothing changes.
        """
        before = self.runtime
        self.runtime = runtime_of(router, options, before)
        closing = asyncio.ensure_future(self._close_when_idle(before))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    @property
    def is_idle(self) -> bool:
        """Whether no request is open."""
        return not self._open

    def stop(self) -> None:
        """End requests that are still open, each with an error that says so."""
        self._is_stopping = True
        for request in list(self._open):
            request.stop()

    async def close(self) -> None:
        """Write what is left of the journal, and close connections to upstreams."""
        await self.runtime.forwarder.close()
        if self.runtime.journal is not None:
            await asyncio.to_thread(self.runtime.journal.close)

    async def serve(
        self, wire_format: WireFormat, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a request that is decided."""
        started_s = time.perf_counter()
        runtime, head = self.runtime, RequestHead.from_scope(scope)
        parsed = await _parsed(runtime, head, receive, wire_format, path)
        await self._serve(Exchange(runtime, parsed, receive, send, started_s))

    async def pass_on(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request to the upstream of the model that it names."""
        runtime, head = self.runtime, RequestHead.from_scope(scope)
        _admitted(runtime, head)
        body = await read_json(head, receive, _max_bytes(runtime), lambda body: body)
        target = _target_named(body, runtime.options)
        outgoing = Outgoing(
            "POST", path, head.query, head.raw_headers,
            lambda target: body.changed(Changes({"model": target.model})), len(body.text),
            caller=digest_of_keys(head.headers),
        )  # fmt: skip
        await self._serve(PassThrough(runtime, outgoing, target, receive, send))

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide without forwarding, and without remembering."""
        runtime, head = self.runtime, RequestHead.from_scope(scope)
        parsed = await _parsed(runtime, head, receive, None, "/route")
        decided = await asyncio.to_thread(runtime.decider.decide, parsed, remember=False)
        target = decided.candidates[0]
        decision: Mapping[str, Any] = asdict(decided.decision) if decided.decision else {}
        await _send_json(
            send,
            200,
            {
                **decision,
                "model_class": decided.model_class,
                "policy": decided.policy,
                "reason": decided.reason,
                "kind": parsed.kind,
                "turn_index": decided.place.turn_index,
                "conversation_id": parsed.identity.given_id,
                "target": {"upstream": target.upstream, "model": target.model},
            },
        )

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The models that callers may name: the routed name first, then every target's own."""
        head = RequestHead.from_scope(scope)
        _admitted(self.runtime, head)
        wire_format = _format_of(head)
        names = _model_names(self.runtime.options)
        if wire_format.NAME != "messages":
            names.remove(alias_of(self.runtime.options.model_name))
        body = wire_format.models_body(names)
        if "client_version=" in head.query:
            # Codex reads this list instead; empty, it leaves Codex's own as it is.
            body = {**body, "models": []}
        await _send_json(send, 200, body)

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of the models."""
        head = RequestHead.from_scope(scope)
        _admitted(self.runtime, head)
        name = scope["path_params"]["name"]
        if name not in _model_names(self.runtime.options):
            raise unknown_model(name, self.runtime.options)
        await _send_json(send, 200, _format_of(head).model_body(name))

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """That the gateway runs, with which router, and what it has lost."""
        runtime = self.runtime
        store = runtime.conversations.store
        await _send_json(
            send,
            200,
            {
                "status": "ok",
                "router": runtime.router.folder.digest,
                "journal_lines_lost": runtime.journal.lost_lines if runtime.journal else 0,
                "sessions": "down" if getattr(store, "is_down", False) else "ok",
                "targets_paused": runtime.forwarder.breaker.paused(),
                "open_requests": len(self._open),
            },
        )

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether requests can be served: every upstream accepts connections."""
        reachable = await self.runtime.forwarder.reachable()
        is_ready = all(reachable.values()) and not self._is_stopping
        body = {"status": "ready" if is_ready else "not ready", "upstreams": reachable}
        await _send_json(send, 200 if is_ready else 503, body)

    async def _serve(self, request: Exchange | PassThrough) -> None:
        self._open.add(request)
        try:
            await request.run()
        finally:
            self._open.discard(request)

    async def _close_when_idle(self, runtime: Runtime) -> None:
        """Let requests of a replaced runtime end, then close what it had of its own."""
        while any(request.runtime is runtime for request in self._open):
            await asyncio.sleep(0.1)
        await runtime.forwarder.close()
        if runtime.journal is not None and runtime.journal is not self.runtime.journal:
            await asyncio.to_thread(runtime.journal.close)


class _Endpoint:
    """A handler as an ASGI application, with errors in the caller's protocol."""

    def __init__(
        self, gateway: Gateway, handle: Handler, method: str, wire_format: WireFormat | None
    ) -> None:
        self._gateway = gateway
        self._handle = handle
        self._method = method
        self._format = wire_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        cors = _cors(scope, self._gateway.runtime.options)
        sender = _Sender(send, cors)
        try:
            if scope["method"] == "OPTIONS" and b"origin" in dict(scope["headers"]):
                await self._preflight(sender, allowed=bool(cors))
            else:
                self._check_method(scope)
                await self._handle(scope, receive, sender)
        except Problem as problem:
            await self._refuse(sender, scope, problem)
        except (CallerLeftError, BrokenAnswerError):
            return  # the server closes the connection of an answer that is not whole
        except Exception:
            _log.exception("internal error")
            message = "internal error; see the gateway's log."
            await self._refuse(sender, scope, Problem(500, "internal_error", message))

    def _check_method(self, scope: Scope) -> None:
        method = scope["method"]
        if self._method not in (method, "any") and (method, self._method) != ("HEAD", "GET"):
            raise Problem(
                405,
                "method_not_allowed",
                f"{scope['path'][:200]}: found {method}; expected {self._method}.",
                [(b"allow", self._method.encode())],
            )

    async def _preflight(self, sender: _Sender, *, allowed: bool) -> None:
        """Answer a browser that asks whether it may ask."""
        allows = [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"*, authorization"),
            (b"access-control-max-age", b"600"),
        ]
        await _start(sender, 204 if allowed else 403, allows if allowed else [])
        await _send_body(sender, b"")

    async def _refuse(self, sender: _Sender, scope: Scope, problem: Problem) -> None:
        if sender.is_started:
            return
        if problem.status < 500:  # what fails later is logged with its decision
            path = scope.get("raw_path", b"").decode("latin-1").encode("unicode_escape").decode()
            _access.info(
                "%s %s %d refused: %s", scope["method"], path[:200], problem.status, problem.code
            )
        wire_format = self._format or _format_of(RequestHead.from_scope(scope), scope["path"])
        await _send_problem(sender, wire_format, problem)


class _Sender:
    """Sends, adds headers to every response, and knows whether one was begun."""

    def __init__(self, send: Send, headers: RawHeaders) -> None:
        self._send = send
        self._headers = headers
        self.is_started = False

    async def __call__(self, message: Any) -> None:  # noqa: ANN401 (as ASGI has it)
        """Send one message."""
        if message["type"] == "http.response.start":
            self.is_started = True
            if self._headers:
                message["headers"] = [*message["headers"], *self._headers]
        await self._send(message)


MoreRoutes: TypeAlias = Callable[[Callable[[], Router]], Sequence[Route]]
"""Makes further routes; they ask for the router that serves at the time."""


def create_app(
    router: Router, options: GatewayOptions, more_routes: MoreRoutes | None = None
) -> Starlette:
    """The application; any ASGI server can run it.

    Args:
        router: Decides.
        options: Where classes go.
        more_routes: What is to be served beside; callers' keys and origins are checked there too.

    Raises:
        SettingsError: If an upstream's key is missing or cannot be one.
        StorageError: If the journal cannot be written.
    """
    return app_of(Gateway(router, options), more_routes)


def app_of(gateway: Gateway, more_routes: MoreRoutes | None = None) -> Starlette:
    """The application of a gateway."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    more = (more_routes or _no_routes)(lambda: gateway.runtime.router)
    routes = [*_own_routes(gateway), *(_admitted_route(gateway, route) for route in more)]
    paths = [*(route.path.replace(":path", "") for route in routes), "/openapi.json"]
    served = ", ".join(paths)

    async def openapi(scope: Scope, receive: Receive, send: Send) -> None:
        _admitted(gateway.runtime, RequestHead.from_scope(scope))
        await _send_json(send, 200, document(paths))

    routes.append(Route("/openapi.json", _Endpoint(gateway, openapi, "GET", None)))

    async def not_served(scope: Scope, receive: Receive, send: Send) -> None:
        asked_for = f"{scope['method']} {scope['path']}"
        message = f"{asked_for[:200]} is not served here; expected one of {served}."
        raise Problem(404, "not_found", message)

    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.router.default = _Endpoint(gateway, not_served, "any", None)
    # Every endpoint answers its own errors: nothing stands around them.
    app.middleware_stack = app.router
    app.state.gateway = gateway
    return app


def _no_routes(router: Callable[[], Router]) -> Sequence[Route]:
    return ()


def _own_routes(gateway: Gateway) -> list[Route]:
    def decided(path: str, name: str) -> _Endpoint:
        wire_format = WIRE_FORMATS[name]

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            await gateway.serve(wire_format, path, scope, receive, send)

        return _Endpoint(gateway, handle, "POST", wire_format)

    def named(path: str) -> _Endpoint:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            await gateway.pass_on(path, scope, receive, send)

        return _Endpoint(gateway, handle, "POST", WIRE_FORMATS["chat"])

    return [
        *(Route(f"/v1{path}", decided(path, name)) for path, name in _DECIDED.items()),
        *(Route(f"/v1{path}", named(path)) for path in _NAMED),
        Route("/v1/route", _Endpoint(gateway, gateway.route, "POST", None)),
        Route("/v1/models", _Endpoint(gateway, gateway.models, "GET", None)),
        Route("/v1/models/{name:path}", _Endpoint(gateway, gateway.model, "GET", None)),
        Route("/healthz", _Endpoint(gateway, gateway.health, "GET", None)),
        Route("/readyz", _Endpoint(gateway, gateway.ready, "GET", None)),
        # Claude Code asks whether anybody is there.
        Route("/api/hello", _Endpoint(gateway, _hello, "GET", None)),
    ]


def _admitted_route(gateway: Gateway, route: Route) -> Route:
    """A further route, behind the gateway's own door."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        _admitted(gateway.runtime, RequestHead.from_scope(scope))
        await route.app(scope, receive, send)

    return Route(route.path, _Endpoint(gateway, handle, "POST", None))


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    await _send_json(send, 200, {"status": "ok"})


async def _parsed(
    runtime: Runtime,
    head: RequestHead,
    receive: Receive,
    wire_format: WireFormat | None,
    path: str,
) -> ParsedRequest:
    """Read a request.

    Raises:
        Problem: If it may not be served, or cannot be used.
    """
    caller = _admitted(runtime, head)

    def read(body: JsonBody) -> ParsedRequest:
        model = body.values.get("model")
        if model is not None and not isinstance(model, str):
            raise bad_request(f"model: found {str(model)[:40]!a}; expected the name of a model.")
        read_as = wire_format or _format_by_body(body, head)
        call = read_call(read_as, head.headers, body, is_token_count=path == COUNT_TOKENS)
        scope = caller if caller is not None else scope_of(head.headers)
        return ParsedRequest(
            read_as, path, head.query, head.raw_headers, head.headers, body, call,
            identity_of(call, body.values, scope), caller,
        )  # fmt: skip

    return await read_json(head, receive, _max_bytes(runtime), read)


def _admitted(runtime: Runtime, head: RequestHead) -> str | None:
    check_one_host(head.raw_headers)
    check_origin(head.headers, runtime.options)
    refuse_key_in_query(head.query)
    return runtime.callers.admit(head.headers)


def _max_bytes(runtime: Runtime) -> int:
    return int(runtime.options.max_body_mb * 1e6)


def _format_of(head: RequestHead, path: str = "") -> WireFormat:
    """The wire format of a caller that asks for no endpoint of one."""
    is_anthropic = "anthropic-version" in head.headers or "/messages" in path
    return WIRE_FORMATS["messages" if is_anthropic else "chat"]


def _format_by_body(body: JsonBody, head: RequestHead) -> WireFormat:
    if "input" in body.values and "messages" not in body.values:
        return WIRE_FORMATS["responses"]
    if "system" in body.values:
        return WIRE_FORMATS["messages"]
    return _format_of(head)


def _model_names(options: GatewayOptions) -> list[str]:
    targets = [target.model for _, target in options.all_targets()]
    own = [options.model_name, alias_of(options.model_name)]
    return list(dict.fromkeys([*own, *targets, *options.models]))


def _target_named(body: JsonBody, options: GatewayOptions) -> Target:
    """Where an endpoint without a decision goes: to the model that is named.

    Raises:
        Problem: If it is not served.
    """
    model = body.values.get("model")
    named = model if isinstance(model, str) else ""
    listed = options.models.get(named)
    if listed is not None:
        return Target(upstream=listed.upstream, model=listed.model or named)
    for _, target in options.all_targets():
        if target.model == named:
            return target
    if options.passthrough and named:
        return Target(upstream=next(iter(options.upstreams)), model=named)
    if not named or named in (options.model_name, AUTO, alias_of(options.model_name)):
        raise Problem(
            404,
            "model_not_found",
            f"model: found {named!r}; expected the name of a model: this endpoint's requests are "
            "not routed. Name one that is in the settings.",
        )
    raise unknown_model(named, options)


def _cors(scope: Scope, options: GatewayOptions) -> RawHeaders:
    """What tells a browser that an allowed page may read the answer."""
    origin = next((bytes(v) for n, v in scope["headers"] if bytes(n) == b"origin"), None)
    if origin is None or not is_allowed_origin(origin.decode("latin-1"), options):
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"*"),
        (b"vary", b"origin"),
    ]


async def _send_problem(send: _Sender, wire_format: WireFormat, problem: Problem) -> None:
    # Anthropic's clients know an error by its type, which follows from the status.
    code = None if wire_format.NAME == "messages" else problem.code
    body = wire_format.error_body(problem.status, f"turnout: {problem}", code=code)
    await _send_json(send, problem.status, body, problem.headers)


async def _send_json(
    send: Send | _Sender, status: int, value: object, headers: RawHeaders | None = None
) -> None:
    data = json.dumps(value, default=str).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await _start(send, status, [*head, *(headers or [])])
    await _send_body(send, data)


async def _start(send: Send | _Sender, status: int, headers: RawHeaders) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_body(send: Send | _Sender, data: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
