"""Options and output that the verbs share: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, get_args

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
from rich.table import Table

from turnout.errors import StorageError
from turnout.progress import OnProgress
from turnout.records import Population

if TYPE_CHECKING:
    from turnout.stats.bootstrap import Estimate

INPUT_PATH = click.Path(path_type=Path)
CONFIG_OPTION = click.option(
    "-c",
    "--config",
    type=INPUT_PATH,
    help="Settings file, for example with your own models under [catalog].",
)
ENGINE_OPTION = click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    metavar="ENGINE",
    help="Where a turns table is read: duckdb, spark://local[N], a cluster's spark://HOST:PORT or "
    "a Spark Connect server's sc://HOST:PORT.",
)
OUTPUT_OPTION = click.option(
    "-o",
    "--output",
    type=INPUT_PATH,
    required=True,
    help="Path of the result; it appears only when complete.",
)
POPULATION_OPTION = click.option(
    "--population",
    type=click.Choice(get_args(Population)),
    help="The population of the probabilities: the log, or balanced rows.  [default: log, if the "
    "router knows its share of reasoning]",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_SECONDS_BETWEEN_LINES = 60


def stdout() -> Console:
    """The console for results.

    It is wide when piped, so that tables are not cut. Names and messages are shown as they are:
    `[red]` in a message is no colour, `:smile:` no emoji. Style a text with `style=`.
    """
    width = None if Console().is_terminal else 120
    return _Results(markup=False, emoji=False, highlight=False, width=width)


class _Results(Console):
    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 (as rich has it)
        if all(isinstance(item, str) for item in objects):
            options.setdefault("soft_wrap", True)  # a line end inside a path would break it
        with writing_results():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Let the command handle it: a reader that stops early is no failure."""
        raise BrokenPipeError


def new_table(title: str, columns: Sequence[str], text_columns: Sequence[int] = (0,)) -> Table:
    """A table without rows; columns other than `text_columns`, counted from 0, hold numbers."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in text_columns else "right")
    return table


def next_command(*arguments: object) -> None:
    """Write the next command to run to stderr."""
    say(f"Next: {_as_typed(arguments)}")


def next_serve(router: Path, config: Path | None = None) -> None:
    """Write to stderr how to serve a router: the command, and first what it still needs.

    Args:
        router: The router folder.
        config: The settings file that was given; None looks for turnout.toml in this folder.
    """
    settings = config or Path("turnout.toml")
    if settings.exists():
        next_command("serve", router, "-c", settings)
    else:
        say(
            f"Next: name your models and where they are in {settings} (docs/gateway.md), then run "
            + _as_typed(("serve", router, "-c", settings))
        )


def _as_typed(arguments: Iterable[object]) -> str:
    return shlex.join(["turnout", *map(str, arguments)])


def print_json(value: object) -> None:
    """Write a value to stdout as JSON; characters that stdout cannot encode are escaped.

    NaN, a value that could not be measured, becomes null.
    """
    unicode = str(sys.stdout.encoding).lower().startswith("utf")
    plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
    print_text(json.dumps(plain, indent=2, ensure_ascii=not unicode) + "\n")


def print_text(text: str) -> None:
    """Write a text to stdout as it is."""
    with writing_results():
        sys.stdout.write(text)


@contextmanager
def writing_results() -> Iterator[None]:
    """Raise failed writes to standard output as errors that name it.

    Raises:
        StorageError: If it is full or cannot be written.
        BrokenPipeError: If its reader has gone.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"standard output: {error.strerror}; the result is cut off.") from error


def say(text: str) -> None:
    """Write a line about the run to stderr; a closed stderr is no failure."""
    with suppress(OSError):
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
    """Show the progress of a run on stderr.

    On a terminal each step has a bar with the time left; nothing is drawn before the first step, so
    that a verb can still ask or fail. Elsewhere each step writes a line when it ends, and one every
    minute until then.
    """
    console = Console(stderr=True)
    display = _Bars(console) if console.is_terminal else _Lines()
    try:
        yield display.update
    finally:
        display.close()


class _Bars:
    """One bar a step, redrawn in place."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}

    def update(self, step: str, done: int, total: int | None) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
        self._progress.start()

    def close(self) -> None:
        # Without a step, stopping would leave an empty line.
        if self._tasks:
            self._progress.stop()


@dataclass(slots=True)
class _Step:
    """Progress of a step, in units; times in seconds.

    A resumed run begins with some units done.
    """

    began_s: float
    began_done: int
    written_s: float
    done: int = 0
    total: int | None = None

    @property
    def over(self) -> bool:
        return self.done == self.total


class _Lines:
    """A line when a step ends, and one every minute until then."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def update(self, name: str, done: int, total: int | None) -> None:
        now = monotonic()
        step = self._steps.setdefault(name, _Step(now, done, now))
        if step.over:
            return
        step.done, step.total = done, total
        if step.over or now - step.written_s >= _SECONDS_BETWEEN_LINES:
            self._write(name, step, now)

    def close(self) -> None:
        # A step that did not reach its total was stopped, failed, or had no known total.
        for name, step in self._steps.items():
            if not step.over:
                self._write(name, step, monotonic())

    def _write(self, name: str, step: _Step, now: float) -> None:
        step.written_s = now
        took_s = now - step.began_s
        of = f"{step.done:,}" if step.total is None else f"{step.done:,}/{step.total:,}"
        line = f"{name}  {of}  {_clock(took_s)}"
        done_here = step.done - step.began_done
        if not step.over and step.total and done_here > 0:
            line += f", left {_clock(took_s * (step.total - step.done) / done_here)}"
        say(line)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def stored_estimate(stored: Mapping[str, float | None] | None) -> Estimate | None:
    """An estimate as a report stores it; None where nothing was measured."""
    from turnout.stats.bootstrap import Estimate

    if stored is None or stored["value"] is None:
        return None
    ends = (float("nan") if end is None else end for end in (stored["low"], stored["high"]))
    return Estimate(stored["value"], *ends)


def with_interval(estimate: Estimate | None, form: str, scale: float = 1.0) -> str:
    """A number with its interval, if it has one; a dash where nothing could be measured.

    Args:
        estimate: The number.
        form: The format of value and ends, such as `{:.2f}`.
        scale: Multiplies value and ends.
    """
    if estimate is None:
        return "–"
    value, low, high = (
        form.format(end * scale) for end in (estimate.value, estimate.low, estimate.high)
    )
    return value if math.isnan(estimate.low) else f"{value} ({low} … {high})"
