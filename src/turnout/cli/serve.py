"""`turnout serve`: the gateway in front of your models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import INPUT_PATH, next_command, say, stdout
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.gateway.options import GatewayOptions
    from turnout.routing import Router
    from turnout.settings import Flags


@verb("turnout serve session-router/ -c turnout.toml")
@click.argument("router", type=INPUT_PATH)
@click.option(
    "-c", "--config", type=INPUT_PATH, required=True, help="Settings: upstreams and targets."
)
@click.option(
    "--check", is_flag=True, help="Print what would be served, with possible surprises, and exit."
)
@click.option("--host", help="Address to listen on.  [default: gateway.host, or 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Port.  [default: gateway.port, or 8080]"
)
def command(router: Path, config: Path, check: bool, host: str | None, port: int | None) -> None:
    """Serve ROUTER as a gateway for OpenAI's and Anthropic's clients.

    Clients ask for the model "turnout"; each message goes to the reasoning or the fast target,
    untouched but for the model. The decision is in the response's x-turnout- headers. SIGHUP reads
    settings and router again.
    """
    flags: Flags = {"gateway": {"host": host, "port": port}}

    def read() -> tuple[Router, GatewayOptions]:
        return _read(router, config, flags)

    loaded, options = read()

    from turnout.gateway.check import refuse_missing_keys, surprises
    from turnout.gateway.server import refuse_open_door, serve
    from turnout.integrations.system_one import system_one_routes

    refuse_missing_keys(options)
    lines = _described(loaded, options)
    notes = surprises(loaded, options, loaded.folder.spec.threshold_for(loaded.population))
    if check:
        refuse_open_door(options)
        lines = [f"{config}: {loaded.policy.name} router {router}", *lines, *_noted(notes)]
        stdout().print("\n".join(lines))
        return

    def ready(url: str) -> None:
        say(f"{loaded.policy.name} router {router} serves at {url}")
        say("\n".join([*lines, *(_noted(notes) if notes else ())]))
        say(f'Ask for the model "{options.model_name}". Ctrl-C stops.')

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    serve(loaded, options, ready, read, more_routes=system_one_routes)
    if options.journal is not None:
        next_command("ingest", options.journal, "-o", "turns.parquet")


def _read(router: Path, config: Path, flags: Flags) -> tuple[Router, GatewayOptions]:
    """Router and settings, each checked.

    Raises:
        TurnoutError: If one of them is wrong.
    """
    from turnout.settings import load_settings

    settings = load_settings(config, flags)
    options = settings.gateway_options(config)
    return settings.open_router(router), options


def _noted(notes: list[str]) -> list[str]:
    return [f"  note      → {note}" for note in notes] or ["  nothing that would surprise"]


def _described(loaded: Router, options: GatewayOptions) -> list[str]:
    """What is served, one line each."""
    folder_threshold = loaded.folder.spec.threshold_for(loaded.population)
    lines = [f"  scores    → for the population {loaded.population}"]
    for model_class, target in options.all_targets():
        effort = f", effort {target.effort}" if target.effort else ""
        url = options.upstreams[target.upstream].url
        lines.append(f"  {model_class:9} → {target.model}{effort} at {url}")
    if loaded.threshold == folder_threshold:
        lines.append(f"  threshold → {folder_threshold:g}")
    else:
        lines.append(
            f"  threshold → {loaded.threshold:g} of the settings, not the router folder's "
            f"{folder_threshold:g}"
        )
    lines.append(f"  sessions  → {options.sessions_url or 'in this process'}")
    lines.append(f"  callers   → {', '.join(c.name for c in options.callers) or 'everybody here'}")
    lines.append(f"  journal   → {options.journal or 'none'}")
    return lines
