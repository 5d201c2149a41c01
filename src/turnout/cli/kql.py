"""`turnout kql`: a Kusto query, ready to run."""

from __future__ import annotations

import json

import click

from turnout.cli.console import parsed_pairs


@click.command(
    epilog="Example: turnout kql sft_stratified_by_turn_count --table ChatTurns --days 30 "
    "--map userMessage=prompt"
)
@click.argument("name", required=False)
@click.option("--table", help="Your table.  [default: ConversationTurns]")
@click.option("--days", type=click.IntRange(min=1), help="How far back to read.  [default: 90]")
@click.option("--seed", help="Decides which conversations are sampled.  [default: 0]")
@click.option(
    "--per-bucket",
    type=click.IntRange(min=1),
    help="Conversations of each turn-count bucket, where a query has them.  [default: 5000]",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="COLUMN=YOURS",
    help="What your table calls a column of the query.",
)
def command(
    name: str | None,
    table: str | None,
    days: int | None,
    seed: str | None,
    per_bucket: int | None,
    columns: tuple[str, ...],
) -> None:
    """Print the Kusto query NAME for Azure Data Explorer, Fabric or Log Analytics.

    Without NAME, list the queries. Export what one returns as CSV or JSON Lines and give it to
    `turnout ingest`.
    """
    from turnout.logs.kql import queries, query_text

    if name is None:
        for query in queries().values():
            click.echo(f"{query.folder}/{query.name}\n    {query.purpose}")
        return
    settings = {
        "startTime": f"ago({days}d)" if days else None,
        "seed": None if seed is None else json.dumps(seed),
        "perBucket": str(per_bucket) if per_bucket else None,
    }
    text = query_text(
        name,
        table=table,
        columns=parsed_pairs(columns),
        settings={key: value for key, value in settings.items() if value is not None},
    )
    click.echo(text, nl=False)
