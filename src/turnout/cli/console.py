"""What the verbs share on the terminal: results on stdout, progress on stderr; knows no stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic

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
_SECONDS_BETWEEN_LINES = 60


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
    """Show on stderr how far a run is.

    On a terminal one bar a step with the time left; nothing is drawn before the first step: until
    then a verb may ask, or fail, undisturbed. Elsewhere one line a step when it is over, and one a
    minute while it goes on, so that the log of a long run tells where it is.
    """
    console = Console(stderr=True)
    shown = _Bars(console) if console.is_terminal else _Lines()
    try:
        yield shown.tell
    finally:
        shown.close()


class _Bars:
    """One bar a step, redrawn in place."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}

    def tell(self, step: str, done: int, total: int | None) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        self._progress.start()

    def close(self) -> None:
        # Stopped without a step, it would leave an empty line.
        if self._tasks:
            self._progress.stop()


@dataclass(slots=True)
class _Step:
    """How far a step is: units done and in all; when it began, with how many, and was shown last.

    A run that goes on where it was stopped begins with some units done.
    """

    began_s: float
    began_done: int
    shown_s: float
    done: int = 0
    total: int | None = None

    @property
    def over(self) -> bool:
        return self.done == self.total


class _Lines:
    """A line when a step is over, and now and then before."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def tell(self, name: str, done: int, total: int | None) -> None:
        now = monotonic()
        step = self._steps.setdefault(name, _Step(now, done, now))
        if step.over:
            return
        step.done, step.total = done, total
        if step.over or now - step.shown_s >= _SECONDS_BETWEEN_LINES:
            self._show(name, step, now)

    def close(self) -> None:
        # What was not finished was stopped early, or failed; or nobody knew how long it would be.
        for name, step in self._steps.items():
            if not step.over:
                self._show(name, step, monotonic())

    def _show(self, name: str, step: _Step, now: float) -> None:
        step.shown_s = now
        took_s = now - step.began_s
        of = f"{step.done:,}" if step.total is None else f"{step.done:,}/{step.total:,}"
        line = f"{name}  {of}  {_clock(took_s)}"
        done_here = step.done - step.began_done
        if not step.over and step.total and done_here > 0:
            line += f", left {_clock(took_s * (step.total - step.done) / done_here)}"
        say(line)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
