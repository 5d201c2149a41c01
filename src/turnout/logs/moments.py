"""Times in every spelling of logs → moments in UTC; what is no sure time is none."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal

FIRST_YEAR, YEAR_AFTER_LAST = 2000, 2100  # others are markers of no time, or something else
_YEAR_2000_S, _YEAR_2100_S = 946_684_800, 4_102_444_800
_UNITS_PER_S = (1, 10**3, 10**6, 10**9)
# Excel counts days from here; as long as its day 60, the 29th of February 1900, is passed.
_EXCEL_START = dt.datetime(1899, 12, 30, tzinfo=dt.UTC)
_SECONDS_A_DAY = 86_400
_EXCEL_DECIMAL_COMMA = re.compile(r"(\d{5}),(\d+)")
# A spreadsheet rounds long numbers: 1.77E+09 is no second.
_SCIENTIFIC = re.compile(r"\d(?:\.(\d+))?E\+?\d+")
_DIGITS_OF_A_SECOND = 10
# 20251229, 202512290920, 20251229092000, also with a fraction of a second.
_COMPACT = re.compile(r"((?:20)\d{6})(?:(\d{4})(\d{2}(?:\.\d+)?)?)?(?:\.0)?")
_INNER = ("$date", "$numberLong", "_seconds", "seconds", "created")
_DOTNET = re.compile(r"/Date\((\d+)(?:[+-]\d{4})?\)/")
_MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july",
         "aug august", "sep sept september", "oct october", "nov november", "dec december"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? +)?"
_CLOCK = (
    r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?"
)
_ZONE = (
    r"(?: ?(?P<zone>z|utc|gmt|(?:utc|gmt)?[+-]\d\d(?::?\d\d)?)(?: utc)?)?"
    r"(?: ?[(\[][^()\[\]]*[)\]])?"
)
_DATES = (
    r"(?P<year>\d{4})[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)",
    r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})",
    r"(?P<first>\d\d?)(?P<mark>[/-])(?P<other>\d\d?)(?P=mark)(?P<year>\d{4}|\d\d)",
    rf"{_WEEKDAY}(?P<day>\d\d?)[ /-](?P<name>[a-z]{{3,9}})\.?,?[ /-](?P<year>\d{{4}})",
    rf"{_WEEKDAY}(?P<name>[a-z]{{3,9}})\.? +(?P<day>\d\d?),? (?P<year>\d{{4}})",
)
_TIMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        *(rf"{date}(?:(?:[T ,:]|, | at )+{_CLOCK}{_ZONE})?" for date in _DATES),
        rf"{_WEEKDAY}(?P<name>[a-z]{{3,9}}) +(?P<day>\d\d?) {_CLOCK}{_ZONE} (?P<year>\d{{4}})",
    )
)


def moment(value: object) -> dt.datetime | None:
    """A time in any unit or spelling; UTC where it names no zone; None where it is none.

    A number may be seconds, milli-, micro- or nanoseconds since 1970, digits of a date and time
    (20251229092000), or an Excel serial. Of 5/1/2026 nothing tells which is the month: it is none.
    So is a time in a zone that only letters name, but for UTC, and one that is not between 2000
    and 2100: many products write 1970 or year 1 where they have none.
    """
    try:
        instant = _moment(value)
    except (ValueError, OverflowError, OSError):
        return None
    return instant if instant and FIRST_YEAR <= instant.year < YEAR_AFTER_LAST else None


def number_of(value: object) -> float | None:
    """A number, also where text holds it; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _moment(value: object) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    if isinstance(value, Mapping):  # exports of MongoDB, Firestore and opencode
        inner = next((value[name] for name in _INNER if name in value), None)
        return None if inner is None else _moment(inner)
    number = number_of(value)
    if number is not None:
        return _moment_of_number(number, value)
    return _moment_of_text(value.strip()) if isinstance(value, str) else None


def _moment_of_text(text: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return _moment_of_other_text(text)
    return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _moment_of_other_text(text: str) -> dt.datetime | None:
    if milliseconds := _DOTNET.fullmatch(text):
        return _moment_of_number(float(milliseconds[1]), milliseconds[1])
    if serial := _EXCEL_DECIMAL_COMMA.fullmatch(text):
        return _moment_of_number(float(f"{serial[1]}.{serial[2]}"), None)
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _TIMES)), None)
    if match is None:
        return None
    parts = match.groupdict()
    day = _day_of(parts)
    if day is None:
        return None
    return dt.datetime.combine(day, _clock_of(parts), tzinfo=_zone_of(parts)).astimezone(dt.UTC)


def _day_of(parts: Mapping[str, str | None]) -> dt.date | None:
    """The day; None where nothing tells its order."""
    year = int(parts["year"] or 0)
    year += 2000 if year < 100 else 0
    if (name := parts.get("name")) is not None:
        month = _MONTHS.get(name.lower())
        return dt.date(year, month, int(parts["day"] or 0)) if month else None
    if parts.get("first") is None:
        return dt.date(year, int(parts["month"] or 0), int(parts["day"] or 0))
    first, other = int(parts["first"] or 0), int(parts["other"] or 0)
    if len(parts["year"] or "") < 4 and not parts.get("half"):
        return None
    if parts.get("half") or other > 12:  # who writes AM and PM writes the month first
        return dt.date(year, first, other)
    return dt.date(year, other, first) if first > 12 or first == other else None


def _clock_of(parts: Mapping[str, str | None]) -> dt.time:
    hour, half = int(parts["hour"] or 0), (parts["half"] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(f"hour {hour} of a half day")
        hour = hour % 12 + (12 if half == "p" else 0)
    microsecond = int((parts["fraction"] or "")[:6].ljust(6, "0"))
    return dt.time(hour, int(parts["minute"] or 0), int(parts["second"] or 0), microsecond)


def _zone_of(parts: Mapping[str, str | None]) -> dt.tzinfo:
    zone = (parts["zone"] or "").lower().removeprefix("utc").removeprefix("gmt").replace(":", "")
    if zone in ("", "z"):
        return dt.UTC
    hours, minutes = int(zone[1:3]), int(zone[3:] or 0)
    offset = dt.timedelta(hours=hours, minutes=minutes)
    return dt.timezone(-offset if zone[0] == "-" else offset)


def _moment_of_number(number: float, written: object) -> dt.datetime | None:
    short = _SCIENTIFIC.fullmatch(written.strip()) if isinstance(written, str) else None
    if short is not None and 1 + len(short[1] or "") < _DIGITS_OF_A_SECOND:
        return None
    for per_s in _UNITS_PER_S:
        if _YEAR_2000_S * per_s <= number < _YEAR_2100_S * per_s:
            return dt.datetime.fromtimestamp(number / per_s, dt.UTC)
    if (time := _moment_of_digits(str(written).strip())) is not None:
        return time
    days = dt.timedelta(days=round(number * _SECONDS_A_DAY) / _SECONDS_A_DAY)
    return _EXCEL_START + days if 0 < number < _YEAR_2100_S else None


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
