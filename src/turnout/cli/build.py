"""`turnout build`: turns or measured outcomes → a data set."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.table import Table

from turnout.cli.console import (
    CONFIG_OPTION,
    ENGINE_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    new_table,
    next_command,
    parsed_pairs,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb
from turnout.records import ID2LABEL

if TYPE_CHECKING:
    from turnout.records import Architecture

_OF_TURNS_ALONE = {"labels", "ratio", "engine", "config"}
_OF_OUTCOMES_ALONE = {"margin", "columns"}
_ROWS = ("reasoning", "fast", "none")
_MOST_STRATA = 10


@verb("turnout build turns.parquet -o session-data/ --architecture session")
@click.argument("source", type=INPUT_PATH)
@OUTPUT_OPTION
@click.option(
    "--architecture",
    type=click.Choice(["session", "conversation"]),
    help="session: first turns. conversation: every turn, with its context.  [required; with "
    "--outcomes session]",
)
@click.option(
    "--labels",
    type=INPUT_PATH,
    help="The Parquet file that `turnout label` wrote.  [default: the class of each turn's model "
    "is its label]",
)
@click.option(
    "--outcomes",
    is_flag=True,
    help="SOURCE holds measured outcomes (Parquet, CSV or JSON Lines): prompt or messages, "
    "reasoning_score, fast_score; optionally conversation_id, group, cv_group, label, target "
    "(instead of the gap), weight.",
)
@click.option(
    "--size",
    type=click.IntRange(min=2),
    help="Number of rows; if the log has fewer, all are used, and weights balance them.  "
    "[default: 100000; with --outcomes all]",
)
@click.option("--ratio", default="50:50", show_default=True, help="Reasoning rows to fast rows.")
@click.option(
    "--split", default="80:10:10", show_default=True, help="Rows for training, validation and test."
)
@click.option(
    "--margin",
    default=0.1,
    show_default=True,
    help="With --outcomes: the smallest gap that counts as a need for reasoning.",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="With --outcomes: the file's own name of a field.",
)
@ENGINE_OPTION
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same rows.")
@CONFIG_OPTION
@JSON_OPTION
def command(
    source: Path,
    output: Path,
    architecture: Architecture | None,
    labels: Path | None,
    outcomes: bool,
    size: int | None,
    ratio: str,
    split: str,
    margin: float,
    columns: tuple[str, ...],
    engine: str,
    seed: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a balanced data set from SOURCE, split by conversation, user and text.

    SOURCE is a turns table, or with --outcomes a table of prompts or conversations on which
    reasoning and fast models were both measured; then the training target is the gap between
    them.
    """
    from turnout.dataset import build_from_outcomes, build_from_turns
    from turnout.dataset.assembly import DEFAULT_SIZE
    from turnout.settings import catalog_of

    parts = _parts("--split", split, 3)
    _refuse_options(_OF_TURNS_ALONE if outcomes else _OF_OUTCOMES_ALONE, outcomes=outcomes)
    with progress_bars() as on_progress:
        if outcomes:
            report = build_from_outcomes(
                source,
                output,
                architecture=architecture or "session",
                columns=parsed_pairs(columns),
                margin=margin,
                size=size,
                split=(parts[0], parts[1], parts[2]),
                seed=seed,
                on_progress=on_progress,
            )
        elif architecture is None:
            raise click.UsageError("name an --architecture: session or conversation")
        else:
            reasoning, fast = _parts("--ratio", ratio, 2)
            report = build_from_turns(
                source,
                output,
                architecture=architecture,
                catalog=catalog_of(config),
                labels=labels,
                size=size or DEFAULT_SIZE,
                ratio=(reasoning, fast),
                split=(parts[0], parts[1], parts[2]),
                seed=seed,
                engine=engine,
                on_progress=on_progress,
            )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **report.description})
    else:
        _show(report.description, output)
        architecture = report.description["architecture"]
        next_command("train", output, "-o", output.with_name(f"{architecture}-router"))


def _refuse_options(names: set[str], *, outcomes: bool) -> None:
    """Refuse options on the command line that this kind of source does not use."""
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is ParameterSource.COMMANDLINE:
            where = "a turns table, not for --outcomes" if outcomes else "--outcomes alone"
            raise click.UsageError(f"{option.opts[0]} is for {where}")


def _parts(option: str, text: str, n_parts: int) -> list[int]:
    """The whole numbers of a text such as 50:50."""
    parts = text.split(":")
    if len(parts) != n_parts or not all(part.isdecimal() for part in parts):
        raise click.BadParameter(
            f"found {text!r}; expected {n_parts} whole numbers with colons", param_hint=option
        )
    return [int(part) for part in parts]


def _show(description: dict[str, Any], output: Path) -> None:
    from turnout.dataset.description import usage_sentence

    out = stdout()
    usage = description["usage"]
    out.print(usage_sentence(description), style="bold")
    for reason, turns in usage["not_used"].items():
        out.print(f"Not used: {turns:,} {reason}")
    for reason, turns in usage["not_taken"].items():
        out.print(f"Not taken: {turns:,} {reason}")
    out.print(_composition_table(description))
    if any(quota["position"] for quota in description.get("quotas", [])):
        out.print(_quota_table(description["quotas"]))
    if description.get("account"):
        out.print(description["account"])
    if description.get("both_labels"):
        out.print(f"Texts with both labels, each one row: {description['both_labels']:,}.")
    if description.get("users_apart") is False:
        out.print("Too few users for three splits: a user may stand in several.")
    out.print(f"Data set: {output}")


def _composition_table(description: dict[str, Any]) -> Table:
    """Rows by split, stratum and label."""
    title = f"{description['architecture']} data set: {description['rows']:,} rows"
    columns = ("split", "stratum", "reasoning", "fast", "no label")
    table = new_table(title, columns, text_columns=(0, 1))
    for split, cells in groupby(description["composition"], key=itemgetter("split")):
        for name, rows in _largest(list(cells)):
            table.add_row(split, name, *(f"{n:,}" for n in rows))
            split = ""
    return table


def _largest(cells: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """A split's strata and their rows; if there are many, the largest, and one row for the rest.

    Outcomes may have hundreds of groups; the data set's card lists all.
    """
    rows_of = {cell["stratum"]: [cell[name] for name in _ROWS] for cell in cells}
    if len(rows_of) <= _MOST_STRATA:
        return list(rows_of.items())
    largest = sorted(rows_of, key=lambda name: -sum(rows_of[name]))[: _MOST_STRATA - 1]
    smaller = [rows for name, rows in rows_of.items() if name not in largest]
    return [
        *((name, rows) for name, rows in rows_of.items() if name in largest),
        (
            f"{len(smaller):,} more (see README.md)",
            [sum(column) for column in zip(*smaller, strict=True)],
        ),
    ]


def _quota_table(quotas: list[dict[str, Any]]) -> Table:
    """Rows taken of each turn-count bucket and position, beside how many the log has."""
    title = "Quotas: rows taken (of those in the log)"
    table = new_table(title, ("turns", "position", *ID2LABEL.values()), text_columns=(0, 1))
    places: dict[tuple[str, str], dict[int, str]] = {}
    for quota in quotas:
        rows = sum(quota[split] for split in ("train", "validation", "test"))
        cells = places.setdefault((quota["stratum"], quota["position"]), {})
        cells[quota["label"]] = f"{rows:,} ({quota['available']:,})"
    for place, cells in places.items():
        table.add_row(*place, *(cells.get(label, "0 (0)") for label in ID2LABEL))
    return table
