"""Reads raw columns into the fields of a turn: their names, types and characters."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from turnout.errors import RecordError
from turnout.logs.moments import moment, number_of
from turnout.logs.pseudonyms import Salt
from turnout.schema import CHOSEN_BY, TURNS, stored_text

# Which model call a turn's row tells of, where the reader knows: calls of one turn are added up.
CALL_ID = "call_id"
# A NUL or line end inside a text is mended, not refused. One for all: making it takes time.
DECODER = json.JSONDecoder(strict=False)
NUL_BYTES = "NUL bytes (left out)"
HALF_CHARACTERS = "half characters (replaced)"
NOT_UTF8 = "bytes that are not UTF-8 (read as Windows-1252)"
# A spreadsheet writes long numbers so, and their last digits are gone.
_ROUNDED_ID = re.compile(r"\d(?:[.,]\d+)?E\+\d+")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_NAMES = tuple(TURNS.names)  # the schema makes its list of names anew each time
_SHOWN_CHARS = 80
# Stands for the turn index of a row that is numbered by its time.
BY_TIME = -1
NUMBERED_BY_TIME = "without a turn index (the order in time is the index)"


class NotALogError(RecordError):
    """A file whose rows are neither turns nor of a known source."""


class UnreadableRowError(Exception):
    """A row whose required fields cannot be read; its text says what was found and expected."""


def canonical(
    values: Mapping[str, Any],
    columns: Mapping[str, str],
    salt: Salt,
    mended: Counter[str],
    *,
    by_time: bool = False,
) -> dict[str, Any]:
    """One raw row as a canonical row. An optional field that cannot be read is null.

    Args:
        values: The row.
        columns: Canonical → raw, as `ColumnNames` found them.
        salt: Makes the pseudonym in `user_id`.
        mended: What had to be mended or left out → rows, added to.
        by_time: Whether the log has no turn index, and its order in time is the index.

    Raises:
        UnreadableRowError: If conversation id, turn index or message cannot be read.
    """
    raw = {
        field: values[column] if column in values else value_at(values, column)
        for field, column in columns.items()
    }
    row: dict[str, Any] = dict.fromkeys(_NAMES)
    row["conversation_id"] = conversation_id_of(raw.get("conversation_id"))
    row["turn_index"] = BY_TIME if by_time else _turn_index(raw.get("turn_index"))
    row["user_message"] = _message(raw.get("user_message"))
    flawed = {NUMBERED_BY_TIME} if by_time else set[str]()
    for field, value in raw.items():
        if value is None:
            continue
        if field in OPTIONAL:
            row[field] = OPTIONAL[field](value)
            if row[field] is None and value != "":
                flawed.add(misread(field))
        if field in TEXTS:
            flawed.update(flaws(value))
    if row["user_id"] is not None:
        row["user_id"] = salt.pseudonym(row["user_id"])
    row[CALL_ID] = clean_text(values.get(CALL_ID))
    mended.update(flawed)
    return row


def parsed(value: object) -> object:
    """The value of JSON text; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return DECODER.decode(value)
        except (ValueError, RecursionError):
            return value
    return value


def value_at(values: Mapping[str, Any], column: str) -> Any:  # noqa: ANN401 (whatever a log holds)
    """A row's value in a column, or at a path into one; None where there is none."""
    if column in values or "." not in column:
        return values.get(column)
    root = root_of(column)
    inner = parsed(values.get(root))
    # What is left may be a name with dots.
    return value_at(inner, column[len(root) + 1 :]) if isinstance(inner, Mapping) else None


def root_of(column: str) -> str:
    """The column that a path leads into."""
    return column.partition(".")[0]


def clean_text(value: Any) -> str | None:  # noqa: ANN401 (whatever a log holds)
    """Text without NUL bytes and lone surrogates; None stays None."""
    if value is None:
        return None
    if isinstance(value, bytes):
        text = _decoded(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    return stored_text(text)


def flaws(value: object) -> list[str]:
    """What `clean_text` corrects in a value."""
    if isinstance(value, bytes):
        bad = [NOT_UTF8] if value != value.decode("utf-8", "replace").encode() else []
        return [*bad, *([NUL_BYTES] if b"\0" in value else [])]
    if not isinstance(value, str):
        return []
    corrected = [NUL_BYTES] if "\0" in value else []
    if not value.isascii() and _HALF.search(value):
        corrected.append(HALF_CHARACTERS)
    return corrected


def misread(field: str) -> str:
    """The name under which a value is counted that an optional field cannot hold."""
    return f"{field} of another kind (left empty)"


def _model(value: object) -> str | None:
    name = (clean_text(value) or "").strip()
    return None if name.lower() in _NO_NAMES else name


def _user_id(value: object) -> str | None:
    return None if value is None or value == "" else clean_text(str(value))


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        real = _number(value)
        if real is None or not real.is_integer():
            return None
        number = int(real)
    return number if abs(number) < 2**63 else None


def _share(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _chosen_by(value: object) -> str | None:
    return value if value in CHOSEN_BY else None


def _model_class(value: object) -> str | None:
    return value if value in ("reasoning", "fast") else None


def _small_integer(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and abs(number) < 2**31 else None


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str | bytes):
        return clean_text(value)
    return clean_text(json.dumps(value, sort_keys=True, default=str))


# How the value of every optional field is read: the same for rows and for columns.
OPTIONAL: Mapping[str, Callable[[Any], Any]] = {
    "model": _model,
    "timestamp": moment,
    "assistant_message": clean_text,
    "response_type": clean_text,
    "prompt_tokens": _integer,
    "completion_tokens": _integer,
    "reasoning_tokens": _integer,
    "cached_tokens": _integer,
    "llm_calls": _small_integer,
    "tool_counts": _json_text,
    "duration_ms": _integer,
    "mode": clean_text,
    "user_id": _user_id,
    "feedback": clean_text,
    "source": clean_text,
    "segments": _json_text,
    "regenerated_from": _model,
    "cache_write_tokens": _integer,
    "requested_model": _model,
    "chosen_by": _chosen_by,
    "decided_class": _model_class,
    "p_reasoning": _share,
    "population": clean_text,
    "threshold": _share,
    "policy": clean_text,
    "propensity": _share,
    "router": clean_text,
}
TEXTS = frozenset(
    {
        "conversation_id", "user_message", "model", "assistant_message", "response_type",
        "tool_counts", "mode", "user_id", "feedback", "source", "requested_model", "population",
        "policy", "router", "regenerated_from",
    }
)  # fmt: skip
# What tables write where a cell says nothing.
_NO_NAMES = {"", "nan", "none", "null", "nil", "n/a", "undefined", "\\n", "-"}
_HALF = re.compile("[\ud800-\udfff]")


def camel_case(name: str) -> str:
    """`user_message` as other products spell it: `userMessage`."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def conversation_id_of(value: object) -> str:
    """A conversation's id as text.

    Raises:
        UnreadableRowError: If it is none, or a spreadsheet has rounded it.
    """
    text = (clean_text(value) or "").strip()
    if not text:
        raise UnreadableRowError(f"conversation_id is {_shown(value)}; expected a non-empty id")
    if _ROUNDED_ID.fullmatch(text):
        raise UnreadableRowError(
            f"conversation_id is {_shown(value)}, a number that a spreadsheet has rounded, so that "
            "conversations share it; expected the whole id. Export the log again and do not save "
            "it in a spreadsheet, or format the column as text before"
        )
    return text


def _turn_index(value: object) -> int:
    index = _small_integer(value)
    if index is None or index < 0:  # 0 is judged when all conversations are known
        raise UnreadableRowError(
            f"turn_index is {_shown(value)}; expected a whole number from 1 (the first turn is 1)"
        )
    return index


def _message(value: object) -> str:
    if isinstance(value, bool | dict | list):
        raise UnreadableRowError(f"user_message is {_shown(value)}; expected text")
    return clean_text(value) or ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _number(value: object) -> float | None:
    """A number from text; a comma separates thousands, or else decimals."""
    number = number_of(value)
    if number is None and isinstance(value, str):
        if _THOUSANDS.fullmatch(value):
            return float(value.replace(",", ""))
        if _DECIMAL_COMMA.fullmatch(value):
            return float(value.replace(",", "."))
    return number
