"""`turnout threshold`: a router and a data set in, the router with a chosen threshold out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from turnout.cli.console import INPUT_PATH, print_json, progress_bars, stdout


@click.command(epilog="Example: turnout threshold session-router/ session-data/ --max-miss 0.05")
@click.argument("router", type=INPUT_PATH)
@click.argument("data", type=INPUT_PATH)
@click.option("--share", type=float, help="Share of messages to send to reasoning, such as 0.3.")
@click.option(
    "--max-miss",
    type=float,
    help="Most of the messages that need reasoning to be sent to fast, such as 0.05.",
)
@click.option("--confidence", default=0.95, show_default=True, help="How sure --max-miss must be.")
@click.option("--seed", default=0, show_default=True, help="Decides the sampling of turns.")
@click.option("--json", "as_json", is_flag=True, help="Print the choice as JSON.")
def command(
    router: Path,
    data: Path,
    share: float | None,
    max_miss: float | None,
    confidence: float,
    seed: int,
    as_json: bool,
) -> None:
    """Choose the threshold of ROUTER on the test rows of DATA and write it into the folder.

    --max-miss is a promise for new messages like these, whatever their distribution: with 95 %
    confidence at most that share of the messages that need reasoning is missed.
    """
    from turnout.evaluation.threshold import choose_threshold

    with progress_bars() as on_progress:
        report = choose_threshold(
            router,
            data,
            wanted_share=share,
            max_miss=max_miss,
            confidence=confidence,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        print_json(asdict(report))
        return
    out = stdout()
    out.print(f"Threshold {report.value:.4f} (was {report.before:.4f}): {report.origin}.")
    for found, what in (
        (report.share, "of them go to reasoning"),
        (report.recall, "of those that need reasoning get it"),
    ):
        out.print(
            f"On its {report.rows:,} rows {found.value:.1%} ({found.low:.1%} … {found.high:.1%}) "
            f"{what}."
        )
