"""Every deliberate failure, as a tree, with its exit code.

::

    TurnoutError            1   anything we refuse on purpose
    ├─ SettingsError        2   an option, a setting or a missing extra
    ├─ RecordError          3   the rows that were read: missing column, bad turn index, empty log
    ├─ ArtifactError        4   a folder Turnout wrote: absent, changed, newer, of another kind
    ├─ UpstreamError        5   an upstream that does not answer (HTTP 502)
    ├─ ListenError          6   an address the gateway cannot listen on
    ├─ StorageError         7   a place that cannot be written: full, read-only, in the way
    └─ StoppedError         8   a run that a signal ended and that goes on when it is run again
       └─ InterruptError  130   Ctrl-C ended the run

A message says where, what was found, what was expected and what to do. Programming errors stay
`ValueError` and `TypeError`.
"""

from __future__ import annotations

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """The first line with text of another library's error message, else its type's name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class TurnoutError(Exception):
    """A failure that the user can fix; its text is shown without a traceback."""

    exit_code: ClassVar[int] = 1


class SettingsError(TurnoutError):
    """An option or a setting is wrong, or an optional install is missing."""

    exit_code = 2


class RecordError(TurnoutError):
    """The rows that were read cannot be used."""

    exit_code = 3


class ArtifactError(TurnoutError):
    """A folder that Turnout writes is absent, altered, newer than this version, or another kind."""

    exit_code = 4


class UpstreamError(TurnoutError):
    """An upstream did not answer."""

    exit_code = 5


class ListenError(TurnoutError):
    """The gateway cannot listen on the address it was given."""

    exit_code = 6


class StorageError(TurnoutError):
    """An output cannot be written where it was asked for."""

    exit_code = 7


class StoppedError(TurnoutError):
    """A signal ended the run; started again, it goes on."""

    exit_code = 8


class InterruptError(StoppedError):
    """Ctrl-C ended the run."""

    exit_code = 130
