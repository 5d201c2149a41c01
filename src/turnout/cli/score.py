"""`turnout score`: a router and a table → a table of scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from turnout.cli.console import (
    ENGINE_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    POPULATION_OPTION,
    next_serve,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb
from turnout.records import Population


@verb("turnout score session-router/ prompts.parquet --text-column prompt -o scores.parquet")
@click.argument("router", type=INPUT_PATH)
@click.argument("file", type=INPUT_PATH)
@click.option("--text-column", required=True, help="The column that holds the message.")
@click.option(
    "--keep",
    multiple=True,
    help="A column to copy beside the score, such as an id; may be repeated.",
)
@OUTPUT_OPTION
@POPULATION_OPTION
@ENGINE_OPTION
@JSON_OPTION
def command(
    router: Path,
    file: Path,
    text_column: str,
    keep: tuple[str, ...],
    output: Path,
    population: Population | None,
    engine: str,
    as_json: bool,
) -> None:
    """Score every row of FILE (Parquet, CSV or JSON Lines) with ROUTER.

    Writes Parquet with the column p_reasoning and those of --keep: one row per input row, in input
    order. Also estimates the share of rows that need reasoning.
    """
    from turnout.evaluation.batch import score_file

    with progress_bars() as on_progress:
        report = score_file(
            router,
            file,
            output,
            text_column=text_column,
            keep=keep,
            population=population,
            engine=engine,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **asdict(report)})
        return
    without = f"; {report.without_text:,} without text have none" if report.without_text else ""
    out = stdout()
    out.print(
        f"{report.rows:,} rows scored for the population {report.population}{without}: {output}"
    )
    share = report.reasoning_share
    if share is not None:
        out.print(
            f"About {share.value:.1%} ({share.low:.1%} … {share.high:.1%}) of them need reasoning, "
            "as far as the scores are calibrated."
        )
    next_serve(router)
