"""`turnout simulate`: a log with known truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from turnout.cli.console import (
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb


@verb("turnout simulate -o log/ --conversations 2000 --seed 7")
@OUTPUT_OPTION
@click.option("--conversations", default=2000, show_default=True, help="How many conversations.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same log.")
@click.option(
    "--noise",
    default=0.15,
    show_default=True,
    help="Share of users who always use the same class of model.",
)
@JSON_OPTION
def command(output: Path, conversations: int, seed: int, noise: float, as_json: bool) -> None:
    """Write a realistic conversation log whose true labels are known.

    The folder holds turns.parquet, what telemetry would have recorded, and truth.parquet, what
    each turn really needs. See docs/simulator.md for how the truth is decided.
    """
    from turnout.simulation import simulate

    with progress_bars() as on_progress:
        report = simulate(
            output,
            n_conversations=conversations,
            seed=seed,
            noise=noise,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **asdict(report)})
        return
    stdout().print(
        f"{report.conversations:,} conversations, {report.turns:,} turns ({report.rows:,} rows "
        f"with those sent twice); {report.reasoning_share:.1%} truly need reasoning.\n"
        f"Log: {output / 'turns.parquet'}\nTruth, kept apart: {output / 'truth.parquet'}"
    )
    next_command("ingest", output / "turns.parquet", "-o", output.with_name("turns.parquet"))
