"""`turnout drift`: a router and new traffic → whether the traffic has changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from turnout.cli.console import (
    CONFIG_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    next_serve,
    print_json,
    progress_bars,
    say,
    stdout,
    with_interval,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.progress import OnProgress
    from turnout.replay.drift import DriftReport

# No error: the command did what it was asked, and the answer is yes.
CHANGED_EXIT_CODE = 10
_ANSWERS = {
    "leave": "No: leave the router as it is.",
    "recalibrate": "Yes: another share of the messages needs reasoning. Recalibrate.",
    "retrain": "Yes: the messages are of other kinds. Train the router again.",
}


@verb("turnout drift session-router/ turns.parquet -o drift/")
@click.argument("router", type=INPUT_PATH)
@click.argument("new", type=INPUT_PATH)
@OUTPUT_OPTION
@click.option(
    "--fail-on-drift",
    is_flag=True,
    help=f"Exit with code {CHANGED_EXIT_CODE} if the traffic has changed, for scheduled jobs.",
)
@CONFIG_OPTION
@JSON_OPTION
def command(
    router: Path,
    new: Path,
    output: Path,
    fail_on_drift: bool,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Say whether NEW is still the traffic that ROUTER was trained for, and what to do.

    NEW is a turns table, any log that `turnout ingest` reads, or the gateway's journal. A journal
    without texts is compared by its scores. The router is not changed. Writes drift.html,
    drift.json and drift.csv.
    """
    from turnout.replay.drift import drift
    from turnout.settings import load_settings

    catalog = load_settings(config).merged_catalog()
    with progress_bars() as on_progress:
        traffic = _traffic(new, output, on_progress)
        report = drift(router, traffic, output, catalog=catalog, on_progress=on_progress)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(asdict(report))
    else:
        _show(report, output)
        _next(report, router, traffic, new, config)
    if fail_on_drift and report.comparison.verdict != "leave":
        raise SystemExit(CHANGED_EXIT_CODE)


def _traffic(new: Path, output: Path, on_progress: OnProgress) -> Path:
    """What is compared: NEW itself, or the turns table that is ingested from it."""
    from turnout.logs import ingest
    from turnout.replay.drift import is_journal_without_text, is_turns_table

    if is_turns_table(new) or is_journal_without_text(new):
        return new
    turns = output.with_name(f"{output.name}.turns.parquet")
    ingest([new], turns, on_progress=on_progress)
    return turns


def _next(report: DriftReport, router: Path, traffic: Path, new: Path, config: Path | None) -> None:
    verdict = report.comparison.verdict
    if verdict == "leave":
        next_serve(router, config)
    elif verdict == "retrain":
        next_command("learn", new, "-o", "retrained")
    elif traffic.suffix == ".parquet":
        share = f"{report.same_share:.3f}"
        next_command("threshold", router, traffic, "--share", share, "--write")
    else:
        say(
            f"Next: set threshold = {report.same_threshold:.3f} under [router] in "
            f"{config or 'turnout.toml'}."
        )


def _show(report: DriftReport, output: Path) -> None:
    from turnout.replay.drift import p_text

    out = stdout()
    comparison = report.comparison
    table = Table(
        "quantity", "distance", "adjusted p", "at the new share", "adjusted p", "",
        title=f"{report.conversations:,} new conversations against "
        f"{report.reference_conversations:,} of the reference",
        title_justify="left",
    )  # fmt: skip
    for q in comparison.quantities:
        table.add_row(
            q.title,
            with_interval(q.distance, "{:.1%}"),
            p_text(q.p_value),
            with_interval(q.unexplained, "{:.1%}"),
            p_text(q.unexplained_p_value),
            "moved" if q.moved else "as before",
        )
    out.print(table)
    out.print(f"Has the traffic changed? {_ANSWERS[comparison.verdict]}", style="bold")
    for reason in comparison.because:
        out.print(f"  {reason}")
    out.print(
        f"Estimated to need reasoning: {with_interval(comparison.share_now, '{:.1%}')}, before "
        f"{with_interval(comparison.share_before, '{:.1%}')}."
    )
    for quantity, reason in comparison.untested.items():
        out.print(f"Not tested: {quantity}, since {reason}.")
    for reason, count in report.left_out.items():
        out.print(f"Left out: {count:,} {reason}.")
    if report.reference_source == "validation":
        out.print(
            "The reference is the data set's validation rows: the data set keeps no sample of a "
            "log. New traffic may differ from them without any change."
        )
    out.print(f"Report: {output / 'drift.html'}")
