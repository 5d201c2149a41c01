"""Long strings in a JSON text, read piece by piece.

Python's own reader takes a string in one step, in which no other thread runs: 15 ms for 10 MB.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()
_IS_NAME = re.compile(r"[ \t\n\r]*:")


@dataclass(frozen=True, slots=True)
class Shortened:
    """A JSON text with a name in place of each long string.

    Attributes:
        text: The short text.
        values: Name → long string.
    """

    text: str
    values: dict[str, str]
    _ends: list[int]  # of each name in the short text
    _shifts: list[int]  # by how much what comes after it lies further on in the whole text

    def position(self, position: int) -> int:
        """Where in the whole text a position of the short one is."""
        n_before = bisect_right(self._ends, position)
        return position + (self._shifts[n_before - 1] if n_before else 0)

    def restored(self, value: Any) -> Any:  # noqa: ANN401 (any JSON)
        """A value of the short text with the long strings in it; containers are changed."""
        if isinstance(value, str):
            return self.values.get(value, value)
        containers = [value]
        while containers:
            container = containers.pop()
            listed = container.items() if isinstance(container, dict) else enumerate(container)
            for key, inner in listed:
                if isinstance(inner, (dict, list)):
                    containers.append(inner)
                elif isinstance(inner, str) and inner in self.values:
                    container[key] = self.values[inner]
        return value


def shortened(text: str, piece_chars: int) -> Shortened | None:
    """The text without its long strings; None where it must be read as it is.

    It has none, is no JSON, or has long runs without a string, or long names. Where what is given
    is no JSON, the text must be read as it is too.

    Args:
        text: JSON.
        piece_chars: A string is long where it holds a whole piece of so many characters, counted
            from the text's beginning.
    """
    token = secrets.token_hex(8)
    values: dict[str, str] = {}
    pieces: list[str] = []
    ends: list[int] = []
    shifts: list[int] = []
    copied, position, n_short = 0, 0, 0
    while position + piece_chars <= len(text):
        if _last_bare_quote(text, position, position + piece_chars) >= 0:
            position += piece_chars
            continue
        start = _last_bare_quote(text, copied, position)
        read = _read(text, start, piece_chars) if _may_begin(text, start) else None
        if read is None or _IS_NAME.match(text, read[1]):
            return None  # to go on would take a time that grows with the square of the text
        value, end = read
        name = f"long-{token}-{len(values)}"
        values[name] = value
        pieces += [text[copied:start], f'"{name}"']
        n_short += start - copied + len(name) + 2
        ends.append(n_short)
        shifts.append(end - n_short)
        copied = end
        position = max(end, position + piece_chars)
    if not values:
        return None
    return Shortened("".join([*pieces, text[copied:]]), values, ends, shifts)


def _last_bare_quote(text: str, start: int, end: int) -> int:
    """The last quote without a backslash before it: one that begins or ends a string; else -1."""
    position = text.rfind('"', start, end)
    while position > 0 and text[position - 1] == "\\":
        position = text.rfind('"', start, position)
    return position


def _may_begin(text: str, position: int) -> bool:
    """Whether a string may begin here."""
    before = position - 1
    while before >= 0 and text[before] in " \t\n\r":
        before -= 1
    return position >= 0 and (before < 0 or text[before] in "{[,:")


def _end_of_piece(text: str, start: int, limit: int) -> int:
    """The last position up to a limit at which no escape of a string is cut.

    Args:
        text: JSON.
        start: Where a character or an escape of the string begins.
        limit: At most so far.
    """
    last = text.rfind("\\", max(start, limit - 5), limit)
    if last < 0:
        return limit
    inside = text[start : last + 1]
    if (len(inside) - len(inside.rstrip("\\"))) % 2 == 0:
        return limit  # the second half of an escaped backslash
    end = last + (6 if text[last + 1 : last + 2] == "u" else 2)
    return limit if end <= limit else last


def _read(text: str, start: int, piece_chars: int) -> tuple[str, int] | None:
    """The string that begins at `start`, and where it ends; None where it does not end well."""
    position = start + 1
    parts: list[str] = []
    while position < len(text):
        end = _end_of_piece(text, position, min(position + piece_chars, len(text)))
        if end == position:
            return None  # an escape that the text's end cuts
        piece = text[position:end]
        try:
            part, n_read = _DECODER.raw_decode(f'"{piece}"')
        except ValueError:
            return None
        if parts and part and _are_halves(parts[-1][-1:], part[0]):
            pair = (parts[-1][-1] + part[0]).encode("utf-16", "surrogatepass").decode("utf-16")
            parts[-1], part = parts[-1][:-1], pair + part[1:]
        parts.append(part)
        if n_read - 1 <= len(piece):  # the string ended before the quote that was added
            return "".join(parts), position + n_read - 1
        position = end
    return None


def _are_halves(first: str, second: str) -> bool:
    """Whether two characters are one that was written as two escapes."""
    return "\ud800" <= first <= "\udbff" and "\udc00" <= second <= "\udfff"
