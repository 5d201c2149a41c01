"""Suggests columns for a log that cannot be read, by their names and contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from turnout.catalog import load_catalog
from turnout.logs.column_names import paths_in
from turnout.logs.columns import value_at
from turnout.logs.moments import moment

_ROWS = 200
_SHOWN_COLUMNS = 40
_NAMES = {
    "conversation_id": r"conv|konv|gespr|sitzung|sess|thread|chat|dialog|ticket|case|trace|group"
    r"|correlation|_id$|Id$",
    "turn_index": r"turn|runde|index|step|order|seq|number|position|^n$|^no$|^i$",
    "user_message": r"user|prompt|question|query|input|instruction|text|msg|message|utter|human|ask"
    r"|request|content|body",
    "model": r"model|engine|deploy|llm|backend|provider",
    "timestamp": r"time|date|when|created|stamp|^ts$|_at$|At$",
}
# What an assistant says is no person's message.
_OF_ANSWER = re.compile(r"output|answer|response|completion|reply|assistant|generat", re.IGNORECASE)
_MAX_TURNS = 100_000
_LEAST_SHARE = 0.8
_TEXT_SHARE = 0.5
_LONGEST_NAME = 120


def guessed_columns(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[str], taken: Collection[str]
) -> dict[str, str]:
    """Field → the column that most likely holds it; fields without a likely one are left out.

    Args:
        rows: The first rows of a log.
        fields: Which fields are looked for.
        taken: Columns that hold other fields.
    """
    columns = dict.fromkeys(name for row in rows[:_ROWS] for name in (*row, *paths_in(row)))
    cells = {
        name: [v for row in rows[:_ROWS] if (v := value_at(row, name)) not in (None, "")]
        for name in columns
        if name not in taken
    }
    guessed: dict[str, str] = {}
    for field in sorted(fields, key=list(_FITS).index):
        scored = [
            (score, name)
            for name, values in cells.items()
            if values
            and name not in guessed.values()
            and (score := _score(field, name, values)) > 0
        ]
        if scored:
            guessed[field] = max(scored, key=lambda each: each[0])[1]
    return guessed


def _score(field: str, name: str, values: Sequence[Any]) -> float:
    """How likely a column holds a field: 0 where its values cannot."""
    if field == "user_message" and _OF_ANSWER.search(name):
        return 0.0
    fit = _FITS[field](values)
    named = re.search(_NAMES[field], name.rpartition(".")[2], re.IGNORECASE) is not None
    needs_name = field in ("conversation_id", "turn_index")
    return 0.0 if needs_name and not named else fit * (2 if named else 1)


def _share(values: Sequence[Any], fits: Callable[[Any], bool]) -> float:
    share = sum(map(fits, values)) / len(values)
    return share if share >= _LEAST_SHARE else 0.0


def _as_model(values: Sequence[Any]) -> float:
    catalog = load_catalog()
    return _share(
        values,
        lambda value: (
            isinstance(value, str)
            and len(value) <= _LONGEST_NAME
            and catalog.lookup(value) is not None
        ),
    )


def _as_time(values: Sequence[Any]) -> float:
    return _share(values, lambda value: moment(value) is not None)


def _as_text(values: Sequence[Any]) -> float:
    """Longer texts first: what a person wrote has words."""
    texts = [value for value in values if isinstance(value, str) and not _is_json(value)]
    words = sum(" " in text.strip() for text in texts)
    if words < _TEXT_SHARE * len(values) or _as_time(values):
        return 0.0
    n_chars = sum(map(len, texts)) / len(texts)
    return 1 + n_chars / (n_chars + 1000)


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _as_index(values: Sequence[Any]) -> float:
    return _share(values, lambda value: str(value).isdecimal() and int(str(value)) < _MAX_TURNS)


def _as_id(values: Sequence[Any]) -> float:
    """Ids that repeat are a conversation's; ids that do not may be."""
    fits = _share(
        values, lambda value: isinstance(value, str | int) and len(str(value)) <= _LONGEST_NAME
    )
    return fits * (2 if len(set(map(str, values))) < len(values) else 1)


# The surest are found first, so that the others are looked for in what is left.
_FITS: dict[str, Callable[[Sequence[Any]], float]] = {
    "model": _as_model,
    "timestamp": _as_time,
    "turn_index": _as_index,
    "user_message": _as_text,
    "conversation_id": _as_id,
}


def refusal(
    where: str,
    rows: Sequence[Mapping[str, Any]],
    missing: Sequence[str],
    taken: Collection[str],
    layouts: Collection[str],
) -> str:
    """Why a log is refused, and the options that would read it.

    Args:
        where: The log.
        rows: Its first rows.
        missing: Fields without a column.
        taken: Columns that hold other fields.
        layouts: Names of the layouts that are known.
    """
    columns = sorted(dict.fromkeys(name for row in rows for name in row))
    shown = ", ".join(columns[:_SHOWN_COLUMNS]) + (", …" if len(columns) > _SHOWN_COLUMNS else "")
    text = f"{where}: no column for {', '.join(missing)}; found {shown}. "
    asked = [*missing, "timestamp"] if "turn_index" in missing else list(missing)
    guesses = guessed_columns(rows, asked, taken)
    if "turn_index" in guesses:
        guesses.pop("timestamp", None)  # the index alone is enough
    still = [field for field in missing if field not in guesses and not _by_time(field, guesses)]
    options = " ".join(f"--map {field}={_quoted(name)}" for field, name in guesses.items())
    if not still:
        return f"{text}These look like it: {options}"
    if "user_message" in still:
        return (
            f"{text}A row is neither a turn nor of a known layout: {', '.join(layouts)}. Where a "
            "column holds what the user wrote, name it with --map user_message=COLUMN."
        )
    if "conversation_id" in still:
        named = f" and pass {options}" if options else ""
        return (
            f"{text}Nothing looks like a conversation's id. Add a column conversation_id{named}; "
            "where every row is a conversation of its own, give each another id and the turn_index "
            "1."
        )
    hint = f" ({options} would name the others)" if options else ""
    return f"{text}Name it with --map {still[0]}=COLUMN{hint}."


def _by_time(field: str, guesses: Mapping[str, str]) -> bool:
    return field == "turn_index" and "timestamp" in guesses


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"
