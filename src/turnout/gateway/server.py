"""Listens, and runs the application until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn

from turnout.errors import ListenError, SettingsError, TurnoutError
from turnout.gateway import collecting, connection
from turnout.gateway.app import Gateway, MoreRoutes, app_of
from turnout.gateway.forward import is_loopback
from turnout.gateway.options import GatewayOptions
from turnout.routing import Router

_log = logging.getLogger("turnout.gateway")
# Open answers have so long to end after a signal; then they are ended with an error.
STOP_S = 30.0
_BACKLOG = 2048
# Ten minutes, in tenths of a second.
_COLLECT_TICKS = 6_000


def serve(
    router: Router,
    options: GatewayOptions,
    on_ready: Callable[[str], None],
    reload: Callable[[], tuple[Router, GatewayOptions]] | None = None,
    stop_s: float = STOP_S,
    more_routes: MoreRoutes | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; open answers are finished first.

    Args:
        router: Decides.
        options: Where to listen, where classes go.
        on_ready: Called with the base URL for clients, once connections are accepted.
        reload: Reads router and settings again, at SIGHUP; where it fails, nothing changes.
        stop_s: Seconds that open answers have to end after the signal.
        more_routes: What is to be served beside.

    Raises:
        ListenError: If the address cannot be listened on.
        SettingsError: If an upstream's key is missing, or if the gateway would be open to others
            without callers' keys.
        StorageError: If the journal cannot be written.
    """
    refuse_open_door(options)
    gateway = Gateway(router, options)
    _give_way()
    with _listening(options.host, options.port) as listening:
        host, port = listening.getsockname()[:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        config = uvicorn.Config(
            app_of(gateway, more_routes),
            http=connection.Connection,
            log_config=None,
            access_log=False,
            log_level="warning",
            backlog=_BACKLOG,
            timeout_keep_alive=int(connection.IDLE_S),
            timeout_graceful_shutdown=int(stop_s) + 5,
            server_header=False,
            proxy_headers=False,
            ws="none",
        )
        _Server(config, gateway, reload, stop_s).run(sockets=[listening])


def _give_way() -> None:
    """Keep this process's event loop from waiting for threads and for the garbage collector."""
    # How often a thread that reads a large body gives way.
    sys.setswitchinterval(0.001)
    collecting.manage()


def refuse_open_door(options: GatewayOptions) -> None:
    """Refuse to listen beyond this machine without callers' keys.

    Raises:
        SettingsError: If whoever reaches the gateway could use it.
    """
    if not is_loopback(options.host) and not options.callers:
        raise SettingsError(
            f"gateway.host: found {options.host}, which others can reach, and no [[callers]]; "
            "expected the key of each caller, since whoever reaches the gateway may use it. Add "
            "[[callers]] with name and key_sha256, or listen on 127.0.0.1."
        )


class _Server(uvicorn.Server):
    """A server that reloads at SIGHUP, and tells unfinished streams when it stops."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        reload: Callable[[], tuple[Router, GatewayOptions]] | None,
        stop_s: float,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._reload = reload
        self._stop_s = stop_s
        self._reloading: asyncio.Task[None] | None = None
        self._collected_at = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        with contextlib.suppress(NotImplementedError, AttributeError, ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)

    async def on_tick(self, counter: int) -> bool:
        """Look through all objects for garbage, at best while nobody waits for an answer."""
        n_ticks = counter - self._collected_at
        if n_ticks >= (_COLLECT_TICKS if self._gateway.is_idle else 6 * _COLLECT_TICKS):
            collecting.collect()
            self._collected_at = counter
        elif n_ticks < 0:
            self._collected_at = counter  # the count begins anew each day
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: no new requests; open answers are finished, or ended with an error."""
        timer = asyncio.get_running_loop().call_later(self._stop_s, self._gateway.stop)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def _on_hangup(self) -> None:
        if self._reload is not None and (self._reloading is None or self._reloading.done()):
            self._reloading = asyncio.ensure_future(self._reloaded(self._reload))

    async def _reloaded(self, reload: Callable[[], tuple[Router, GatewayOptions]]) -> None:
        try:
            router, options = await asyncio.to_thread(reload)
            self._gateway.swap(router, options)
        except TurnoutError as error:
            _log.warning("SIGHUP: nothing has changed: %s", error)
        else:
            _log.warning("SIGHUP: router and settings were read again")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, and accepted connections inherit the option: otherwise each answer on
    # a kept-alive connection waits some 40 ms for the caller's acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ListenError(
            f"{host}:{port}: cannot listen ({error}); expected a free port on an address of this "
            "machine. Stop what uses it, or choose another with --port."
        ) from error
    return listening
