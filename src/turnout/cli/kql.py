"""`turnout kql`: a Kusto query, ready to run."""

from __future__ import annotations

from typing import Any

import click

from turnout.cli.console import next_command, parsed_pairs, print_text
from turnout.cli.query import parameters_of, query_options
from turnout.cli.verbs import verb


@verb(
    "turnout kql sft_stratified_by_turn_count --table ChatTurns --days 30 --map userMessage=prompt"
)
@click.argument("name", required=False)
@query_options
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="COLUMN=YOURS",
    help="What your table calls a column of the query; a path leads into a dynamic column: "
    "userMessage=customDimensions.prompt.",
)
def command(name: str | None, columns: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Print the Kusto query NAME for Azure Data Explorer, Fabric or Log Analytics.

    Without NAME, list the queries. `turnout ingest kusto://CLUSTER/DATABASE --query NAME` runs one;
    or run it yourself and give its rows, as CSV or JSON Lines, to `turnout ingest`.
    """
    from turnout.logs.kusto.kql import queries, query_text

    if name is None:
        for query in queries().values():
            print_text(f"{query.folder}/{query.name}\n    {query.purpose}\n")
        next_command("kql", next(iter(queries())))
        return
    parameters = parameters_of(options)
    text = query_text(
        name,
        table=parameters.table,
        columns=parsed_pairs(columns),
        settings=parameters.settings(),
    )
    print_text(text)
    next_command("ingest", "kusto://CLUSTER/DATABASE", "--query", name, "-o", "turns.parquet")
