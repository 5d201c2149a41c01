"""`turnout score`: a router and a table in, a table of scores out."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb


@verb("turnout score session-router/ prompts.parquet --text-column prompt -o scores.parquet")
@click.argument("router", type=INPUT_PATH)
@click.argument("file", type=INPUT_PATH)
@click.option("--text-column", required=True, help="The column that holds the message.")
@OUTPUT_OPTION
@click.option(
    "--precision",
    type=click.Choice(["int8", "float32"]),
    default="int8",
    show_default=True,
    help="int8 is what serves; float32 is what was trained.",
)
@JSON_OPTION
def command(
    router: Path, file: Path, text_column: str, output: Path, precision: str, as_json: bool
) -> None:
    """Score every row of FILE (Parquet, CSV or JSON Lines) with ROUTER.

    Writes Parquet with the column p_reasoning: one row per input row, in input order.
    """
    from turnout.evaluation.batch import score_file

    with progress_bars() as on_progress:
        report = score_file(
            router,
            file,
            output,
            text_column=text_column,
            precision=precision,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, "rows": report.rows, "without_text": report.without_text})
        return
    without = f"; {report.without_text:,} without text have none" if report.without_text else ""
    stdout().print(f"{report.rows:,} rows scored{without}: {output}")
    next_command("serve", router, "-c", "turnout.toml")
