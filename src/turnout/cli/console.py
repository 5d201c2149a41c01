"""What the verbs share on the terminal: results on stdout, progress on stderr; knows no stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from turnout.progress import OnProgress

INPUT_PATH = click.Path(path_type=Path)
CONFIG_OPTION = click.option(
    "-c", "--config", type=INPUT_PATH, help="Settings file; its [catalog] adds your own models."
)
ENGINE_OPTION = click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    metavar="ENGINE",
    help="Where a turns table is read: duckdb, spark://local[N], a cluster's spark://HOST:PORT or "
    "a Spark Connect server's sc://HOST:PORT.",
)
OUTPUT_OPTION_HELP = "Where the result goes; it appears only when whole."


def stdout() -> Console:
    """The console for results; wide when piped, so that tables are not cut."""
    console = _Results(highlight=False)
    return console if console.is_terminal else _Results(highlight=False, width=120)


class _Results(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command: a reader that had enough is no failure."""
        raise BrokenPipeError


def print_json(value: object) -> None:
    """Write a value to stdout as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str) -> None:
    """Write a line about the run to stderr."""
    click.echo(text, err=True)


def parsed_pairs(texts: Sequence[str]) -> dict[str, str]:
    """The FIELD=COLUMN texts of --map as a mapping."""
    pairs = {}
    for text in texts:
        field, equals, column = text.partition("=")
        if not equals or not field or not column:
            raise click.BadParameter(f"found {text!r}; expected FIELD=COLUMN", param_hint="--map")
        pairs[field] = column
    return pairs


@contextmanager
def progress_bars() -> Iterator[OnProgress]:
    """Draw one bar a step on stderr; on a terminal with time left, elsewhere one line a step.

    Nothing is drawn before the first step: until then a verb may ask, or fail, undisturbed.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def on_progress(step: str, done: int, total: int | None) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step, total=total)
        progress.update(tasks[step], completed=done, total=total)
        progress.start()

    try:
        yield on_progress
    finally:
        # Stopped without a step, it would leave an empty line.
        if tasks:
            progress.stop()
