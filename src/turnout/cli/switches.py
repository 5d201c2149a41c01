"""`turnout switches`: how people use and switch models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import CONFIG_OPTION, INPUT_PATH, print_json, say, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from turnout.mining import SwitchReport

_PAIRS_SHOWN = 10


@click.command(epilog="Example: turnout switches turns.parquet -o switches/")
@click.argument("turns", type=INPUT_PATH)
@click.option(
    "-o", "--output", type=INPUT_PATH, help="Also write report.json and switches.parquet here."
)
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(turns: Path, output: Path | None, config: Path | None, as_json: bool) -> None:
    """Report which models the conversations of TURNS use, and how they switch.

    An upgrade goes from a fast to a reasoning model, a downgrade back, a lateral move stays in
    its class; each may also switch the provider. A fallback is one that a product made after a
    failure.
    """
    from turnout.mining import report_switches
    from turnout.settings import catalog_of

    report = report_switches(turns, catalog_of(config), out=output)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(report.to_json())
    else:
        _show(report, stdout())


def _show(report: SwitchReport, out: Console) -> None:
    from rich.table import Table

    models = Table(title="Models used in a conversation", title_justify="left")
    models.add_column("models used")
    models.add_column("conversations", justify="right")
    models.add_column("share", justify="right")
    for name, count in report.by_models.items():
        models.add_row(name, f"{count:,}", f"{count / report.conversations:.1%}")
    out.print(models)
    out.print(
        f"{report.turns:,} turns: {report.turns_by_class['reasoning']:,} on reasoning models, "
        f"{report.turns_by_class['fast']:,} on fast ones, {report.turns_by_class['unknown']:,} on "
        f"models the catalogue does not know, {report.turns_without_model:,} name no model."
    )
    if report.unknown_models:
        names = ", ".join(f"{name} ({n:,})" for name, n in report.unknown_models.items())
        out.print(f"Not in the catalogue, left out rather than guessed: {names}", markup=False)
    if report.switch_count == 0:
        out.print("No conversation switches models.")
        return
    _show_kinds(report, out)
    _show_pairs(report, out)


def _show_kinds(report: SwitchReport, out: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Switches", title_justify="left")
    table.add_column("kind")
    table.add_column("count", justify="right")
    table.add_column("other provider", justify="right")
    table.add_column("fallback", justify="right")
    for name in report.by_turn:
        table.add_column(f"turn {name}", justify="right")
    table.add_column("for example")
    for kind in report.switches:
        example = ""
        if kind.examples:
            first = kind.examples[0]
            example = f"{first.from_model} → {first.to_model}: {first.user_message[:40]}"
        at_turns = [f"{counts[kind.kind]:,}" for counts in report.by_turn.values()]
        counts = (kind.count, kind.provider_switches, kind.fallbacks)
        row = [kind.kind, *(f"{count:,}" for count in counts), *at_turns]
        table.add_row(*row, Text(example))
    out.print(table)


def _show_pairs(report: SwitchReport, out: Console) -> None:
    from rich.table import Table

    table = Table(title="From one model to another", title_justify="left")
    table.add_column("from")
    table.add_column("to")
    table.add_column("kind")
    table.add_column("count", justify="right")
    table.add_column("of the turns on the first", justify="right")
    for pair in report.pairs[:_PAIRS_SHOWN]:
        table.add_row(
            pair.from_model, pair.to_model, pair.kind, f"{pair.count:,}", f"{pair.rate:.1%}"
        )
    out.print(table)
    if len(report.pairs) > _PAIRS_SHOWN:
        out.print(f"… and {len(report.pairs) - _PAIRS_SHOWN:,} more pairs (--json shows all).")
