"""Listens, and runs the application until a signal stops it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from turnout.errors import ListenError
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions
from turnout.routing import Router


def serve(router: Router, options: GatewayOptions, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; open answers are finished first.

    Args:
        router: Decides.
        options: Where to listen, where classes go.
        on_ready: Called with the base URL for clients, once connections are accepted.

    Raises:
        ListenError: If the address cannot be listened on.
        SettingsError: If an upstream's key is missing.
        StorageError: If the journal cannot be written.
    """
    app = create_app(router, options)
    with _listening(options.host, options.port) as listening:
        host, port = listening.getsockname()[:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30)
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ListenError(
            f"{host}:{port}: cannot listen ({error}); expected a free port on an address of this "
            "machine. Stop what uses it, or choose another with --port."
        ) from error
