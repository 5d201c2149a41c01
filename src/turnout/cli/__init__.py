"""The `turnout` command: finds the verb, runs it, and turns every failure into one message."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from turnout.cli.console import writing_results
from turnout.cli.verbs import VERBS, extra_of, missing, required_options
from turnout.errors import InterruptError, SettingsError, StorageError, TurnoutError

# Python reads a byte that is no character of the locale as half a surrogate pair.
_UNDECODED = re.compile(r"[^'\"]*[\ud800-\udfff][^'\"]*")


class _Verbs(click.Group):
    """Loads a verb's module only when it is called, so that `--help` needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"turnout.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, first in (("Start here, in this order", True), ("More", False)):
            with formatter.section(title):
                formatter.write_dl(
                    [(name, self._line(ctx, name)) for name, v in VERBS.items() if v.first is first]
                )
        formatter.write_paragraph()
        formatter.write_text("(In brackets: the options that a verb requires.)")

    def _line(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        required = [option.opts[0] for option in required_options(command)] if command else []
        return VERBS[name].summary + (f" ({', '.join(required)})" if required else "")

    def make_context(self, *args: Any, **options: Any) -> click.Context:  # noqa: ANN401
        with _reader_may_go(), writing_results():  # it may print the help
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (what click returns)
        with _reader_may_go():
            return super().invoke(ctx)


class _ReaderGoneError(Exception):
    """The reader of our output went away (`turnout … | head`): not a failure."""


@contextmanager
def _reader_may_go() -> Iterator[None]:
    """Keep a broken pipe from click, which would end with exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGoneError from None


@click.group(
    cls=_Verbs,
    epilog="Example: turnout ingest chats.jsonl -o turns.parquet",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="turnout")
def turnout() -> None:
    """Learn from your own conversation logs which messages need a reasoning model."""


def main() -> None:
    """Run the command; every failure ends in one message and its own exit code."""
    interrupted = _watch_for_interrupts()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text stream's own
    try:
        for argument in sys.argv[1:]:
            argument.encode()  # a file name that this locale cannot read ends here
        turnout(standalone_mode=False)
        with writing_results():
            sys.stdout.flush()
    except BaseException as error:  # the border: a user never sees a traceback
        # Libraries turn an interrupt into errors of their own.
        failure = KeyboardInterrupt() if interrupted.is_set() else error
        sys.exit(_end(failure))


def _open_closed_streams() -> None:
    """Open the null device where a shell closed stdout or stderr (`>&-`).

    Otherwise the next file that is opened would get the stream's number, and its output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


def _watch_for_interrupts() -> threading.Event:
    """An event that Ctrl-C sets; it also raises KeyboardInterrupt as usual."""
    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    # A shell lets its background jobs ignore the signal: then it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return interrupted


def _end(failure: BaseException) -> int:
    """Say on stderr why the command ended; its exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        # What could not be written would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(failure, SystemExit | click.exceptions.Exit):
        return int((failure.code if isinstance(failure, SystemExit) else failure.exit_code) or 0)
    if isinstance(failure, click.ClickException):
        failure.show()
        return failure.exit_code
    if isinstance(failure, _ReaderGoneError | BrokenPipeError):
        return 0
    error = failure if isinstance(failure, TurnoutError) else _error_of(failure)
    if error is not None:
        _say(str(error))
        return error.exit_code
    if os.environ.get("TURNOUT_DEBUG"):
        traceback.print_exception(failure)
    _say(
        f"internal error: {type(failure).__name__}: {failure}. This is a bug in Turnout; run again "
        "with TURNOUT_DEBUG=1 for the traceback and report it."
    )
    return 70


def _error_of(failure: BaseException) -> TurnoutError | None:
    """Our error for a failure of the machine or its user; None for a bug."""
    match failure:
        case click.Abort() | KeyboardInterrupt():
            return InterruptError("stopped; nothing was left half-written.")
        case ModuleNotFoundError(name=str(name)) if extra := extra_of(name.partition(".")[0]):
            return missing([extra], [name])
        case UnicodeEncodeError(object=text) if unread := _UNDECODED.search(text):
            name = unread[0].encode(errors="replace").decode()
            if sys.getfilesystemencoding() == "utf-8":
                return SettingsError(f"{name}: the name is not UTF-8; expected UTF-8. Rename it.")
            return SettingsError(
                f"{name}: this locale cannot read the name; expected UTF-8. Set LC_ALL=C.UTF-8, or "
                "PYTHONUTF8=1."
            )
        case OSError(filename=path, strerror=str(reason)):
            return StorageError(f"{path}: {reason}." if path else f"{reason}.")
    return None


def _say(message: str) -> None:
    click.echo(f"turnout: {message}", err=True)
