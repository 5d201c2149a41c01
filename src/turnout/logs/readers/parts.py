"""A part of a model call whose other parts are in other records of a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The span of a part that tells of its whole trace: its facts are those of each call in it.
OF_TRACE = "\x01"


@dataclass(frozen=True, slots=True)
class CallPart:
    """What one record of a log tells of a model call that several records tell of.

    Attributes:
        trace: With `span`, the name of the call, which all its parts have; empty where the record
            names none. Names the conversation where no part does.
        span: Names the call within its trace.
        facts: Fields of the call's turn.
        said: Role and text of every message in it.
        at_ns: When: orders what was said.
        has_turn: Whether it holds the whole call, so that its turn was read.
        is_call: Whether something is lost where no part tells what the user said; nothing is of a
            tool's span.
        is_wrapper: Whether it repeats the model calls of its trace, as an agent's span does: it
            gives a turn only where none of them does.
        occurrence: How many equal parts the same row has before it: of two that are equal in this
            too, one was exported again.
        where: File and line, for messages.
        mended: What had to be mended to read it.
    """

    trace: str
    span: str
    facts: dict[str, Any]
    said: tuple[tuple[str, str], ...]
    at_ns: int
    has_turn: bool
    is_call: bool
    is_wrapper: bool = False
    occurrence: int = 0
    where: str = ""
    mended: tuple[str, ...] = ()
