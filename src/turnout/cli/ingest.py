"""`turnout ingest`: any log in, the canonical turns table out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    parsed_pairs,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.query import parameters_of, query_options
from turnout.cli.verbs import verb
from turnout.errors import SettingsError

if TYPE_CHECKING:
    from turnout.logs import IngestReport


@verb("turnout ingest logs/*.jsonl -o turns.parquet --map model=engine")
@click.argument("sources", nargs=-1, required=True)
@OUTPUT_OPTION
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Read a field from this column; camelCase and common names need no mapping.",
)
@click.option(
    "--salt",
    type=INPUT_PATH,
    metavar="FILE",
    help="The secret that pseudonyms of users are made with, to share between tables; by default "
    "OUTPUT.salt. Written where there is none.",
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Skip and count unreadable rows instead of stopping at the first.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at a file of a folder that is no log instead of passing over it.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace e-mail and IP addresses, keys and tokens, and user names in paths.",
)
@click.option(
    "--source",
    metavar="NAME",
    help="Name the product that the logs are of: its conversations stay apart from those of others "
    "that have the same ids.",
)
@click.option(
    "--query",
    metavar="NAME|FILE.kql",
    help="Which Kusto query to run: one that `turnout kql` lists, or an edited copy of it.",
)
@query_options
@JSON_OPTION
def command(
    sources: tuple[str, ...],
    output: Path,
    columns: tuple[str, ...],
    query: str | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 (the options of queries and of reading, each to its own)
) -> None:
    """Read SOURCES into one turns table: files, folders, patterns or s3://, gs://, abfs:// places.

    JSONL, JSON and CSV, also gzip or zstd, and Parquet. A row is a turn, a whole conversation or a
    request: WildChat, LMSYS-Chat and ShareGPT layouts, OpenTelemetry GenAI spans, LiteLLM spend
    logs, ChatGPT and Claude account exports, SpecStory sessions and the gateway's own journal are
    known. Prints what was kept, what was dropped and why; the two add up to what was read.

    In Azure, abfs://ACCOUNT.blob.core.windows.net/CONTAINER/2026/*.jsonl, with AZURE_STORAGE_KEY or
    after `az login`.

    Or read kusto://CLUSTER/DATABASE with --query; --table to --percent belong to it, and --map then
    names your table's columns.
    """
    from turnout.logs import ingest
    from turnout.logs.pseudonyms import salt_beside

    parameters = parameters_of(given)
    reading: dict[str, Any] = {"columns": parsed_pairs(columns), **given}
    with progress_bars() as on_progress:
        if _is_kusto(sources, query, asked=any(asdict(parameters).values())):
            from turnout.logs.kusto.ingest import ingest_kusto

            reading.pop("strict")
            report = ingest_kusto(
                sources[0],
                output,
                query=str(query),
                parameters=parameters,
                on_progress=on_progress,
                **reading,
            )
        else:
            report = ingest(sources, output, on_progress=on_progress, **reading)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **asdict(report)})
    else:
        _show(report, output, given["salt"] or salt_beside(output))
        next_command("switches", output, "-o", output.with_name("switches"))


def _is_kusto(sources: Sequence[str], query: str | None, *, asked: bool) -> bool:
    """Whether the source is a Kusto database.

    Raises:
        SettingsError: If a database is not the only source, or a query and its options do not
            stand beside one.
    """
    kusto = [source for source in sources if source.startswith("kusto://")]
    if kusto and len(sources) > 1:
        raise SettingsError(
            f"{kusto[0]}: found beside other sources; expected a database alone. Ingest each into "
            "a table of its own."
        )
    if kusto and query is None:
        raise SettingsError(
            f"{kusto[0]}: no query; expected --query NAME. `turnout kql` lists the queries."
        )
    if not kusto and (query is not None or asked):
        raise SettingsError(
            "--query and its options: found without a database; expected kusto://CLUSTER/DATABASE "
            "as the source."
        )
    return bool(kusto)


def _show(report: IngestReport, output: Path, salt: Path) -> None:
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
    for title, counts in (("Kept turns", report.noted), ("Corrected rows", report.mended)):
        if counts:
            out.print(f"{title}: {', '.join(f'{n:,} {what}' for what, n in counts.items())}")
    if report.redacted:
        finds = ", ".join(f"{n:,} {kind}" for kind, n in report.redacted.items())
        out.print(f"Redacted: {finds}")
    for name, why in report.passed_over.items():
        out.print(f"Passed over: {name}: {why}")
    if report.ignored_columns:
        out.print(f"Not read: {', '.join(report.ignored_columns)}")
    out.print(f"Salt of the users' pseudonyms, to be kept apart from the turns: {salt}")
    out.print(f"Turns: {output}")
