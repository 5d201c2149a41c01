"""Times as products spell them: read right, or none."""

import datetime as dt

import pytest

from turnout.logs.moments import moment

TIME = dt.datetime(2025, 12, 29, 9, 20, tzinfo=dt.UTC)
SPELLINGS = [
    "2025-12-29T09:20:00Z", "2025-12-29 9:20", "2025/12/29 09:20:00", "2025-12-29 09:20:00 UTC",
    "2025-12-29 09:20:00 +0000 UTC", "2025-12-29T09:20:00+00:00[UTC]", "2025-12-29T10:20:00+01:00",
    "2025-12-29 09:20:00 AM", "29.12.2025 09:20", "29.12.2025, 09:20:00", "29/12/2025 09:20",
    "29-12-2025 09:20:00", "12/29/2025 09:20:00", "12/29/2025 9:20 AM", "12/29/25 9:20 AM",
    "29 Dec 2025 09:20:00", "Dec 29, 2025, 9:20:00 AM", "Monday, December 29, 2025 9:20 AM",
    "Mon, 29 Dec 2025 09:20:00 GMT", "Mon, 29 Dec 2025 10:20:00 +0100", "Mon Dec 29 09:20:00 2025",
    "Mon Dec 29 2025 10:20:00 GMT+0100 (CET)", "29/Dec/2025:09:20:00 +0000",
    "/Date(1767000000000)/", {"$date": "2025-12-29T09:20:00Z"}, {"$date": 1767000000000},
    {"$date": {"$numberLong": "1767000000000"}}, {"_seconds": 1767000000}, "1.767000000E+09",
    dt.datetime(2025, 12, 29, 10, 20, tzinfo=dt.timezone(dt.timedelta(hours=1))),
]  # fmt: skip
NONE = [
    "05/01/2026 10:00", "1-5-2026", "12/29/25 09:20", "2025-12-29 09:20:00 CET",
    "2025-12-29 09:20:00 PST", "1.767E+09", "1.767E+12", "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2025-13-01", "29.13.2025 10:00",
    "2025-12-29 25:00", "13:20 PM 29.12.2025", "2025-12-29 13:20 AM", "Foo 29, 2025", "soon",
    "12:30", "", {}, {"$date": None}, [], True, b"2025-12-29",
]  # fmt: skip


@pytest.mark.parametrize("written", SPELLINGS, ids=str)
def test_a_time_is_read_in_any_spelling(written):
    assert moment(written) == TIME
    assert moment(written).tzinfo == dt.UTC


@pytest.mark.parametrize("written", NONE, ids=str)
def test_what_is_no_sure_time_is_none(written):
    assert moment(written) is None


def test_an_excel_serial_with_a_decimal_comma_is_a_time():
    assert moment("46020,38889") == moment(46020.38889)
