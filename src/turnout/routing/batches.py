"""Rows of messages, as notebooks hold them → the turns of each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnout.errors import RecordError
from turnout.protocols import messages_in, turns_of
from turnout.records import Turn

# One of these says who speaks in a message.
_SPEAKER = {"role", "from"}
_EXPECTED = "expected texts, or lists of chat messages (role, content), one a row"


def turns_of_rows(rows: object) -> list[tuple[Turn, ...]]:
    """The turns of every row, oldest first.

    Args:
        rows: A list, a NumPy array, a pandas or polars Series or an Arrow array. Every item is one
            message as text, or a conversation as chat messages up to the message to score, also as
            their JSON text. A single text, or a single list of chat messages, is one row.

    Raises:
        RecordError: If a row is neither; the message gives its position, from 0.
    """
    if isinstance(rows, str):
        return [_turns(rows, 0)]
    # Asked of the type, as a lazy frame of polars warns when its columns are read.
    if hasattr(type(rows), "columns") or isinstance(rows, Mapping):
        raise RecordError(
            f"found {type(rows).__name__}; {_EXPECTED}. Give one of its columns: df['prompt']."
        )
    items = _items(rows)
    if items and all(isinstance(item, Mapping) for item in items):
        return [turns_of(items)]
    return [_turns(item, place) for place, item in enumerate(items)]


def _items(rows: object) -> list[Any]:
    # Arrow, polars, then pandas and NumPy.
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(rows, name):
            rows = getattr(rows, name)()
            break
    if not isinstance(rows, Iterable):
        raise RecordError(f"found {type(rows).__name__}; {_EXPECTED}.")
    return list(rows)


def _turns(item: object, place: int) -> tuple[Turn, ...]:
    messages = _read(item)
    if isinstance(messages, str):
        return (Turn(messages),)
    if not isinstance(messages, Sequence) or isinstance(messages, bytes):
        raise RecordError(
            f"row {place}: found {item!r:.40}; {_EXPECTED}. Leave the row out, or fill it."
        )
    if messages and all(isinstance(message, Turn) for message in messages):
        return tuple(messages)
    try:
        return turns_of(messages)
    except RecordError as error:
        raise RecordError(f"row {place}: {error}") from error


def _read(item: object) -> object:
    """A text as it is, the chat messages that it is in JSON, or an array's items."""
    if not isinstance(item, str):
        return item.tolist() if hasattr(item, "tolist") else item
    messages = messages_in(item) or []
    are_said = all(isinstance(each, Mapping) and _SPEAKER & each.keys() for each in messages)
    return messages if messages and are_said else item
