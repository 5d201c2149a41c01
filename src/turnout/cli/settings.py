"""`turnout settings`: every setting, its value, and where that comes from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from turnout.cli.console import INPUT_PATH, JSON_OPTION, print_json, say, stdout
from turnout.cli.verbs import verb


@verb("turnout settings -c turnout.toml")
@click.option("-c", "--config", type=INPUT_PATH, help="Settings file.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
@JSON_OPTION
def command(config: Path | None, *, schema: bool, as_json: bool) -> None:
    """Print every setting and where its value comes from: the file, or the default.

    Keys and tokens are not shown.
    """
    from turnout.settings import Settings, setting_values

    if schema:
        print_json(Settings.model_json_schema())
        return
    values = setting_values(config)
    if as_json:
        print_json([asdict(value) for value in values])
        return
    table = Table("setting", "value", "from", box=None, padding=(0, 2))
    for each in values:
        table.add_row(each.key, "–" if each.value is None else str(each.value), each.origin)
    stdout().print(table)
    if config is not None:
        say(f"Next: turnout serve ROUTER -c {config}")
