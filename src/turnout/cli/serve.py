"""`turnout serve`: the gateway in front of your models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from turnout.cli.console import INPUT_PATH, next_command, say
from turnout.cli.verbs import verb


def listen_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that stand above the settings file."""
    port = click.option(
        "--port", type=click.IntRange(0, 65_535), help="Port.  [default: gateway.port, or 8080]"
    )
    host = click.option(
        "--host", help="Address to listen on.  [default: gateway.host, or 127.0.0.1]"
    )
    return host(port(command))


@verb("turnout serve session-router/ -c turnout.toml")
@click.argument("router", type=INPUT_PATH)
@click.option(
    "-c", "--config", type=INPUT_PATH, required=True, help="Settings: upstreams and targets."
)
@listen_options
def command(router: Path, config: Path, host: str | None, port: int | None) -> None:
    """Serve ROUTER as an OpenAI-compatible gateway.

    Clients ask for the model "turnout"; each message goes to the reasoning or the fast target,
    untouched but for the model. The decision is in the response's x-turnout- headers.
    """
    from turnout.routing import Router, RouterFolder
    from turnout.settings import load_settings

    settings = load_settings(config, {"gateway": {"host": host, "port": port}})
    options = settings.gateway_options(config)
    folder = RouterFolder.read(router)
    table = settings.router
    loaded = Router(
        folder,
        settings.policy(),
        threshold=table.threshold,
        population=table.population,
        targets=settings.priced_targets(),
    )
    own = Router(folder, population=table.population).threshold

    from turnout.gateway.server import serve

    def ready(url: str) -> None:
        say(f"{loaded.policy.name} router {router} serves at {url}")
        say(f"  scores    → for the population {loaded.population}")
        for model_class, target in options.targets.items():
            say(f"  {model_class:9} → {target.model} at {options.upstreams[target.upstream].url}")
        if loaded.threshold != own:
            say(f"  threshold → {loaded.threshold:g} of {config}, not the router folder's {own:g}")
        say(f"  journal   → {options.journal or 'none'}")
        say(f'Ask for the model "{options.model_name}". Ctrl-C stops.')

    serve(loaded, options, ready)
    if options.journal is not None:
        next_command("ingest", options.journal, "-o", "turns.parquet")
