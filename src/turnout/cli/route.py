"""`turnout route`: one decision, explained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    POPULATION_OPTION,
    next_serve,
    print_json,
    stdout,
)
from turnout.cli.verbs import verb
from turnout.errors import RecordError

if TYPE_CHECKING:
    from turnout.records import Decision, Population, Turn


@verb('turnout route session-router/ "Prove that the square root of 2 is irrational."')
@click.argument("router", type=INPUT_PATH)
@click.argument("text", required=False)
@click.option(
    "--messages",
    type=INPUT_PATH,
    help="A JSON file with chat messages (role, content), instead of TEXT.",
)
@click.option("--all-turns", is_flag=True, help="With --messages: decide every turn, in order.")
@click.option(
    "-c",
    "--config",
    type=INPUT_PATH,
    help="Settings file: decide by its policy, threshold and population, as `turnout serve` does.",
)
@POPULATION_OPTION
@JSON_OPTION
def command(
    router: Path,
    text: str | None,
    messages: Path | None,
    all_turns: bool,
    config: Path | None,
    population: Population | None,
    as_json: bool,
) -> None:
    """Decide where TEXT, or the last user message of a conversation, goes, and say why."""
    if (text is None) == (messages is None):
        raise click.UsageError("give either TEXT or --messages FILE")
    if all_turns and messages is None:
        raise click.UsageError("--all-turns needs --messages FILE")
    if config is not None and population is not None:
        raise click.UsageError("give either --config, whose population counts, or --population")

    from turnout.protocols import turns_of
    from turnout.routing import Router, RouterFolder

    turns = turns_of([{"role": "user", "content": text}] if messages is None else _read(messages))
    if config is None:
        loaded = Router(RouterFolder.read(router), population=population)
    else:
        from turnout.settings import load_settings

        loaded = load_settings(config).open_router(router)
    positions = range(1, len(turns) + 1) if all_turns else (len(turns),)
    decisions = [loaded.decide(turns[:n], conversation_id="this") for n in positions]
    if as_json:
        stored = [asdict(decision) for decision in decisions]
        print_json(stored if all_turns else stored[0])
        return
    for n, decision in zip(positions, decisions, strict=True):
        _show(turns[n - 1], decision)
    next_serve(router, config)


def _read(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path}: not readable as JSON ({error}); expected a list of chat messages."
        ) from error
    messages = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(messages, list):
        raise RecordError(f"{path}: not a list; expected chat messages (role, content).")
    return messages


def _show(turn: Turn, decision: Decision) -> None:
    from rich.text import Text

    # A lone surrogate, which JSON can hold, cannot be printed.
    text = " ".join(turn.user_message.encode(errors="replace").decode().split())
    text = text if len(text) <= 90 else text[:89] + "…"
    score = "  –  " if decision.p_reasoning is None else f"{decision.p_reasoning:.3f}"
    out = stdout()
    out.print(Text.assemble((f"{decision.model_class:9}", "bold"), f" {score}  {text}"))
    moved = f"; switches from {decision.previous_class}" if decision.switched else ""
    cut = f"; {decision.truncated_tokens} tokens not read" if decision.truncated_tokens else ""
    out.print(f"                 {decision.reason}{moved}{cut}", style="dim")
