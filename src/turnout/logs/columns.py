"""Reads raw columns into the fields of a turn: their names, types and characters."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from turnout.errors import RecordError
from turnout.logs.pseudonyms import Salt
from turnout.schema import CHOSEN_BY, TURNS, stored_text

# Which model call a turn's row tells of, where the reader knows: calls of one turn are added up.
CALL_ID = "call_id"
NUL_BYTES = "NUL bytes (left out)"
HALF_CHARACTERS = "half characters (replaced)"
NOT_UTF8 = "bytes that are not UTF-8 (read as Windows-1252)"
# Numbers that are times lie between 2000 and 2100, in whichever unit; others are something else.
_YEAR_2000_S, _YEAR_2100_S = 946_684_800, 4_102_444_800
_UNITS_PER_S = (1, 10**3, 10**6, 10**9)
# Excel counts days from here; as long as its day 60, the 29th of February 1900, is passed.
_EXCEL_START = dt.datetime(1899, 12, 30, tzinfo=dt.UTC)
_SECONDS_A_DAY = 86_400
# 20251229, 202512290920, 20251229092000, also with a fraction of a second.
_COMPACT = re.compile(r"((?:20)\d{6})(?:(\d{4})(\d{2}(?:\.\d+)?)?)?(?:\.0)?")
# 1/5/2026, 10:00:00.123 AM
_PORTAL_TIME = re.compile(
    r"(\d\d?)/(\d\d?)/(\d{4}),? (\d\d?):(\d\d)(?::(\d\d)(?:\.(\d+))?)? ?([AaPp][Mm])"
)
# 05.01.2026 10:00:00
_DOTTED_TIME = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4}) (\d\d?):(\d\d)(?::(\d\d))?")
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
    """One raw row as a canonical one; what cannot be read of an optional field is null.

    Args:
        values: The row.
        columns: Canonical → raw, as `ColumnNames` found them.
        salt: Makes the pseudonym in `user_id`.
        mended: What had to be mended or left out → rows, added to.
        by_time: Whether the log has no turn index, and its order in time is the index.

    Raises:
        UnreadableRowError: If conversation id, turn index or message cannot be read.
    """
    raw = {field: value_at(values, column) for field, column in columns.items()}
    row: dict[str, Any] = dict.fromkeys(TURNS.names)
    row["conversation_id"] = _conversation_id(raw.get("conversation_id"))
    row["turn_index"] = BY_TIME if by_time else _turn_index(raw.get("turn_index"))
    row["user_message"] = _message(raw.get("user_message"))
    flawed = {NUMBERED_BY_TIME} if by_time else set[str]()
    for field, value in raw.items():
        if field in OPTIONAL:
            row[field] = OPTIONAL[field](value)
            if row[field] is None and value is not None and value != "":
                flawed.add(misread(field))
        if field in TEXTS and value is not None:
            flawed.update(flaws(value))
    if row["user_id"] is not None:
        row["user_id"] = salt.pseudonym(row["user_id"])
    row[CALL_ID] = clean_text(values.get(CALL_ID))
    mended.update(flawed)
    return row


def parsed(value: object) -> object:
    """What JSON text says; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value, strict=False)
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
    """How a value that an optional field cannot hold is counted."""
    return f"{field} of another kind (left empty)"


def moment(value: object) -> dt.datetime | None:
    """A time in any unit or spelling; UTC where it names no zone; None where it is none.

    A number may be seconds, milli-, micro- or nanoseconds since 1970, digits of a date and time
    (20251229092000), or an Excel serial.
    """
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    number = _number(value)
    try:
        if number is not None:
            return _moment_of_number(number, str(value).strip())
        if isinstance(value, str):
            time = _moment_of_text(value.strip().removesuffix(" UTC"))
            return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _moment_of_text(text: str) -> dt.datetime:
    """A time as ISO 8601, portals and Excel write it; of 1/5/2026 AM or PM tell the order.

    Raises:
        ValueError: If it is none.
    """
    if match := _PORTAL_TIME.fullmatch(text):
        month, day, year, hour, minute = map(int, match.group(1, 2, 3, 4, 5))
        hour = hour % 12 + (12 if match[8].upper() == "PM" else 0)
        microsecond = int((match[7] or "")[:6].ljust(6, "0"))
        return dt.datetime(year, month, day, hour, minute, int(match[6] or 0), microsecond)
    if match := _DOTTED_TIME.fullmatch(text):
        day, month, year, hour, minute, second = (int(part or 0) for part in match.groups())
        return dt.datetime(year, month, day, hour, minute, second)
    return dt.datetime.fromisoformat(text.replace("/", "-"))


def _model(value: object) -> str | None:
    return (clean_text(value) or "").strip() or None


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
        "policy", "router",
    }
)  # fmt: skip
_HALF = re.compile("[\ud800-\udfff]")


def camel_case(name: str) -> str:
    """`user_message` as other products spell it: `userMessage`."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _conversation_id(value: object) -> str:
    text = (clean_text(value) or "").strip()
    if not text:
        raise UnreadableRowError(f"conversation_id is {_shown(value)}; expected a non-empty id")
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
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _moment_of_digits(text: str) -> dt.datetime | None:
    """What digits say that are a date, with or without a time."""
    match = _COMPACT.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds = match[1], match[2] or "0000", match[3] or "00"
    try:
        time = dt.datetime.strptime(day + minutes, "%Y%m%d%H%M").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return time + dt.timedelta(seconds=float(seconds)) if float(seconds) < 60 else None


def _moment_of_number(number: float, text: str) -> dt.datetime | None:
    for per_s in _UNITS_PER_S:
        if _YEAR_2000_S * per_s <= number < _YEAR_2100_S * per_s:
            return dt.datetime.fromtimestamp(number / per_s, dt.UTC)
    if (written := _moment_of_digits(text)) is not None:
        return written
    days = dt.timedelta(days=round(number * _SECONDS_A_DAY) / _SECONDS_A_DAY)
    time = _EXCEL_START + days if 0 < number < _YEAR_2100_S else None
    return time if time and 2000 <= time.year < 2100 else None
