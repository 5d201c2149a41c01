"""`turnout ingest`: any log → the canonical turns table."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    new_table,
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

_MAX_FILES = 20
_ID_CHARS, _MESSAGE_CHARS = 20, 100


class _Output(click.Option):
    """The output, which a dry run does not need."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:  # noqa: ANN401 (click's)
        if ctx.params.get("dry_run") and self.value_is_missing(value):
            return None
        return super().process_value(ctx, value)


@verb("turnout ingest logs/*.jsonl -o turns.parquet --map model=engine")
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    cls=_Output,
    type=INPUT_PATH,
    required=True,
    help="The Parquet file of turns; it appears only when complete. Not needed for a dry run.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    is_eager=True,
    help="Read everything and write nothing: show the layout of each file, the counts and the "
    "first conversations.",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Read a field from this column, or from a path into one (customDimensions.prompt); common "
    "names need no mapping.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Keep a column of the log with the turns, as a segment for reports.",
)
@click.option(
    "--salt",
    type=INPUT_PATH,
    metavar="FILE",
    help="The secret salt of users' pseudonyms, to share between tables; written if it does not "
    "exist.  [default: OUTPUT.salt]",
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Skip and count unreadable rows instead of stopping at the first.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at a file of a folder that is not a log, instead of skipping it.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace e-mail and IP addresses, keys and tokens, and user names in paths.",
)
@click.option(
    "--source",
    metavar="NAME",
    help="The product of the logs; conversations of other products with equal ids stay separate.",
)
@click.option(
    "--query",
    metavar="NAME|FILE.kql",
    help="The Kusto query to run: one that `turnout kql` lists, or an edited copy of one.",
)
@query_options
@JSON_OPTION
def command(
    sources: tuple[str, ...],
    output: Path | None,
    dry_run: bool,
    columns: tuple[str, ...],
    query: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 (of queries and of readers)
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
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "turns.parquet" if dry_run or output is None else output
        report = _report(sources, table, columns, query, options)
        if not report.fresh:
            say(f"{table}: up to date")
        if as_json:
            print_json({"output": None if dry_run else table, **asdict(report)})
        else:
            _show(report)
            if dry_run or sys.stdout.isatty():
                _show_conversations(table)
            if not dry_run:
                _show_places(table, options["salt"])
                next_command("switches", table, "-o", table.with_name("switches"))


def _report(
    sources: Sequence[str],
    output: Path,
    columns: Sequence[str],
    query: str | None,
    options: dict[str, Any],
) -> IngestReport:
    """Read a log, or a Kusto database."""
    from turnout.logs import ingest

    parameters = parameters_of(options)
    reading: dict[str, Any] = {"columns": parsed_pairs(columns), **options}
    with progress_bars() as on_progress:
        if _is_kusto(sources, query, has_parameters=any(asdict(parameters).values())):
            from turnout.logs.kusto.ingest import ingest_kusto

            if reading.pop("strict") or reading.pop("keep"):
                raise SettingsError(
                    f"{sources[0]}: found --strict or --keep; expected neither with a database, "
                    "whose query names its columns. Leave them out."
                )
            return ingest_kusto(
                sources[0],
                output,
                query=str(query),
                parameters=parameters,
                on_progress=on_progress,
                **reading,
            )
        return ingest(sources, output, on_progress=on_progress, **reading)


def _is_kusto(sources: Sequence[str], query: str | None, *, has_parameters: bool) -> bool:
    """Whether the source is a Kusto database.

    Raises:
        SettingsError: If a database is not the only source, or a query or its options are given
            without one.
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
    if not kusto and (query is not None or has_parameters):
        raise SettingsError(
            "--query and its options: found without a database; expected kusto://CLUSTER/DATABASE "
            "as the source."
        )
    return bool(kusto)


def _show(report: IngestReport) -> None:
    _show_layouts(report)
    out = stdout()
    table = new_table("Rows", ("what", "rows"))
    table.add_row("read", f"{report.rows_read:,}")
    for reason, rows in report.dropped.items():
        table.add_row(f"dropped: {reason}", f"{rows:,}")
    table.add_row("kept: one row a turn", f"{report.rows_kept:,}", style="bold")
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


def _show_layouts(report: IngestReport) -> None:
    """Which layout the rows of each file have."""
    out = stdout()
    for name, layouts in list(report.layouts.items())[:_MAX_FILES]:
        counted = ", ".join(f"{rows:,} × {layout}" for layout, rows in layouts.items())
        out.print(f"{name}: {counted}")
    if (n_more := len(report.layouts) - _MAX_FILES) > 0:
        out.print(f"… and {n_more:,} more files")


def _show_places(output: Path, salt: Path | None) -> None:
    from turnout.logs.pseudonyms import salt_beside

    out = stdout()
    place = salt or salt_beside(output)
    out.print(f"Salt of the users' pseudonyms, to be kept apart from the turns: {place}")
    out.print(f"Turns: {output}")


def _show_conversations(turns: Path) -> None:
    """The first conversations, so that a person sees whether the log was understood."""
    from turnout.catalog import load_catalog
    from turnout.logs.preview import first_conversations

    catalog = load_catalog()
    table = Table(title="First conversations", title_justify="left")
    for name in ("conversation", "turn", "time", "model", "class", "kind", "message"):
        table.add_column(name, no_wrap=name != "message")
    for conversation in first_conversations(turns):
        for turn in conversation.turns:
            entry = catalog.lookup(turn["model"], reasoned=bool(turn["reasoning_tokens"]) or None)
            table.add_row(
                _cut(turn["conversation_id"], _ID_CHARS),
                str(turn["turn_index"]),
                f"{turn['timestamp']:%Y-%m-%d %H:%M}" if turn["timestamp"] else "–",
                turn["model"] or "–",
                entry.model_class if entry else "–",
                _kind(turn),
                _cut(" ".join(turn["user_message"].split()), _MESSAGE_CHARS),
            )
        if conversation.n_more:
            table.add_row("", "", "", "", "", "", f"… {conversation.n_more:,} more turns")
        table.add_section()
    stdout().print(table)


def _kind(turn: dict[str, Any]) -> str:
    """How a turn ended, and who chose its model where a person did not."""
    ending = turn["response_type"] or "turn"
    return (
        f"{ending}, by {turn['chosen_by']}"
        if turn["chosen_by"] in ("router", "product")
        else ending
    )


def _cut(text: str, n_chars: int) -> str:
    return text if len(text) <= n_chars else f"{text[: n_chars - 1]}…"
