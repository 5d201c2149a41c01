"""`turnout label`: turns in, weighed evidence for every turn out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    CONFIG_OPTION,
    INPUT_PATH,
    OUTPUT_OPTION_HELP,
    print_json,
    say,
    stdout,
)

if TYPE_CHECKING:
    from turnout.mining import LabelReport


@click.command(epilog="Example: turnout label turns.parquet -o labels.parquet")
@click.argument("turns", type=INPUT_PATH)
@click.option("-o", "--output", type=INPUT_PATH, required=True, help=OUTPUT_OPTION_HELP)
@click.option(
    "--gold",
    type=INPUT_PATH,
    help="Turns of known truth (conversation_id, turn_index, label): sources are weighed by them.",
)
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
def command(
    turns: Path, output: Path, gold: Path | None, config: Path | None, as_json: bool
) -> None:
    """Gather what in TURNS speaks for or against a need for reasoning, and weigh it.

    Sources: the model chosen, upgrades and downgrades, effort spent, requests said again,
    complaints, feedback. `turnout build --labels` uses the result.
    """
    from turnout.mining import label_turns
    from turnout.settings import catalog_of

    report = label_turns(turns, output, catalog_of(config), gold=gold)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **report.to_json()})
    else:
        _show(report, output)


def _show(report: LabelReport, output: Path) -> None:
    from rich.table import Table

    table = Table(title="Evidence", title_justify="left")
    table.add_column("source")
    for name in ("turns", "for reasoning", "others agree", "taken as right"):
        table.add_column(name, justify="right")
    table.add_column("what it is")
    for source in report.sources:
        agreement = source.agreement
        known = agreement is not None and agreement == agreement
        table.add_row(
            source.code,
            f"{source.turns:,}",
            f"{source.for_reasoning:.0%}" if source.turns else "–",
            f"{agreement:.0%}" if known and source.turns else "–",
            f"{source.accuracy:.0%}" if source.turns else "–",
            source.reason,
        )
    out = stdout()
    out.print(table)
    by = f"{report.gold_turns:,} turns of known truth" if report.gold_turns else "stated beliefs"
    out.print(
        f"{report.labelled:,} of {report.turns:,} turns have evidence; "
        f"{report.reasoning:,} of them lean to reasoning. Sources are weighed by {by}."
    )
    out.print(f"Labels: {output}")
