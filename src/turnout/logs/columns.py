"""Raw columns → canonical turn fields: names, types, cleaning; knows no file format."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from turnout.errors import RecordError, SettingsError
from turnout.schema import REQUIRED_TURN_COLUMNS, TURNS

# What other products call our columns, besides camelCase; the first one found is taken.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "conversation_id": ("session_id", "thread_id", "chat_id", "conversation"),
    "turn_index": ("turn", "turn_number", "turn_no"),
    "user_message": ("prompt", "user_prompt", "message", "user_text"),
    "model": ("model_name", "model_id"),
    "timestamp": ("created_at", "time", "date", "start_time"),
    "assistant_message": ("response", "answer", "completion"),
    "response_type": ("status",),
    "user_id": ("user",),
}
_INTEGERS = (
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "llm_calls",
    "duration_ms",
)  # fmt: skip
_TEXTS = ("assistant_message", "response_type", "mode", "feedback", "source")
# Epoch numbers: seconds until the year 5138, then milliseconds, then microseconds.
_SECONDS_BELOW = 1e11
_MILLISECONDS_BELOW = 1e14


class UnreadableRowError(Exception):
    """A row whose required fields cannot be read; its text says what was found and expected."""


def column_map(
    found: Collection[str], chosen: Mapping[str, str], where: str
) -> tuple[dict[str, str], list[str]]:
    """Which raw column feeds which canonical one.

    Args:
        found: Raw column names of the log.
        chosen: Canonical → raw, as the user says; wins over every guess.
        where: The log, for messages.

    Returns:
        Canonical → raw, and the raw columns that nothing reads.

    Raises:
        SettingsError: If the user names a column that does not exist, on either side.
        RecordError: If a required column is missing.
    """
    for field, column in chosen.items():
        if field not in TURNS.names or column not in found:
            raise SettingsError(
                f"--map {field}={column}: expected FIELD=COLUMN with a field of "
                f"{', '.join(TURNS.names)} and a column of {', '.join(sorted(found))}."
            )
    mapped: dict[str, str] = {}
    for field in TURNS.names:
        candidates = (field, _camel_case(field), *_SYNONYMS.get(field, ()))
        columns = [chosen[field]] if field in chosen else [c for c in candidates if c in found]
        if columns and columns[0] not in mapped.values():
            mapped[field] = columns[0]
    missing = [field for field in REQUIRED_TURN_COLUMNS if field not in mapped]
    if missing:
        raise RecordError(
            f"{where}: no column for {', '.join(missing)}; found {', '.join(sorted(found))}. "
            f"Name it with --map {missing[0]}=COLUMN."
        )
    return mapped, sorted(set(found) - set(mapped.values()))


def canonical(values: Mapping[str, Any], columns: Mapping[str, str], salt: str) -> dict[str, Any]:
    """One raw row as a canonical one; what cannot be read of an optional field is null.

    Raises:
        UnreadableRowError: If conversation id or turn index cannot be read.
    """
    raw = {field: values.get(column) for field, column in columns.items()}
    row: dict[str, Any] = dict.fromkeys(TURNS.names)
    row["conversation_id"] = _conversation_id(raw["conversation_id"])
    row["turn_index"] = _turn_index(raw["turn_index"])
    row["user_message"] = clean_text(raw["user_message"]) or ""
    row["model"] = (clean_text(raw["model"]) or "").strip() or None
    row["timestamp"] = _timestamp(raw["timestamp"])
    for field in _TEXTS:
        row[field] = clean_text(raw.get(field))
    for field in _INTEGERS:
        row[field] = _integer(raw.get(field))
    row["tool_counts"] = _json_text(raw.get("tool_counts"))
    if raw.get("user_id") is not None:
        row["user_id"] = _hashed(str(raw["user_id"]), salt)
    return row


def clean_text(value: Any) -> str | None:  # noqa: ANN401 (whatever a log holds)
    """Text without NUL bytes and lone surrogates; None stays None."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _camel_case(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _conversation_id(value: object) -> str:
    text = (clean_text(value) or "").strip()
    if not text:
        raise UnreadableRowError(f"conversation_id is {value!r}; expected a non-empty id")
    return text


def _turn_index(value: object) -> int:
    index = _integer(value)
    if index is None or index < 1 or index > 2**31 - 1:
        raise UnreadableRowError(
            f"turn_index is {value!r}; expected a whole number from 1 (the first turn is 1)"
        )
    return index


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        return int(number) if number == int(number) and abs(number) < 2**63 else None
    except (ValueError, OverflowError):
        return None


def _timestamp(value: object) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    number = _number(value)
    try:
        if number is not None:
            return dt.datetime.fromtimestamp(_epoch_seconds(number), dt.UTC)
        if isinstance(value, str):
            moment = dt.datetime.fromisoformat(value.strip())
            return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _epoch_seconds(number: float) -> float:
    if abs(number) < _SECONDS_BELOW:
        return number
    return number / 1e3 if abs(number) < _MILLISECONDS_BELOW else number / 1e6


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return clean_text(value)
    return json.dumps(value, sort_keys=True, default=str)


def _hashed(user_id: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}|{user_id}".encode("utf-8", "replace")).hexdigest()[:16]
