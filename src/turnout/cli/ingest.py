"""`turnout ingest`: any log in, the canonical turns table out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    INPUT_PATH,
    OUTPUT_OPTION_HELP,
    parsed_pairs,
    print_json,
    progress_bars,
    say,
    stdout,
)

if TYPE_CHECKING:
    from turnout.logs import IngestReport


@click.command(epilog="Example: turnout ingest logs/*.jsonl -o turns.parquet --map model=engine")
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--output", type=INPUT_PATH, required=True, help=OUTPUT_OPTION_HELP)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Which column of the log a field is; camelCase and common names are found by themselves.",
)
@click.option(
    "--salt", default="turnout", show_default=True, help="Mixed into the hash of user ids."
)
@click.option(
    "--skip-unreadable", is_flag=True, help="Count unreadable rows rather than stop at the first."
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace e-mail and IP addresses, keys and tokens, and user names in paths.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
def command(
    sources: tuple[str, ...],
    output: Path,
    columns: tuple[str, ...],
    salt: str,
    skip_unreadable: bool,
    redact: bool,
    as_json: bool,
) -> None:
    """Read SOURCES into one turns table: files, folders, patterns or s3://, gs://, abfs:// places.

    JSONL, JSON and CSV, also gzip or zstd, and Parquet. A row is a turn, a whole conversation or a
    request: WildChat, LMSYS-Chat and ShareGPT layouts, OpenTelemetry GenAI spans, LiteLLM spend
    logs, ChatGPT and Claude account exports, SpecStory sessions and the gateway's own journal are
    known. Prints what was kept, what was dropped and why; the two add up to what was read.
    """
    from turnout.logs import ingest

    with progress_bars() as on_progress:
        report = ingest(
            sources,
            output,
            columns=parsed_pairs(columns),
            salt=salt,
            skip_unreadable=skip_unreadable,
            redact=redact,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **asdict(report)})
    else:
        _show(report, output)


def _show(report: IngestReport, output: Path) -> None:
    from rich.table import Table

    table = Table(title="Rows", title_justify="left")
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_row("read", f"{report.rows_read:,}")
    for reason, rows in report.dropped.items():
        table.add_row(f"dropped: {reason}", f"{rows:,}")
    table.add_row("kept: one row a turn", f"{report.rows_kept:,}", style="bold")
    out = stdout()
    out.print(table)
    out.print(
        f"{report.conversations:,} conversations, {report.complete_conversations:,} captured whole."
    )
    for title, counts in (("Kept turns", report.noted), ("Mended rows", report.mended)):
        if counts:
            out.print(f"{title}: {', '.join(f'{n:,} {what}' for what, n in counts.items())}")
    if report.redacted:
        finds = ", ".join(f"{n:,} {kind}" for kind, n in report.redacted.items())
        out.print(f"Redacted: {finds}")
    if report.ignored_columns:
        out.print(f"Not read: {', '.join(report.ignored_columns)}")
    out.print(f"Turns: {output}")
