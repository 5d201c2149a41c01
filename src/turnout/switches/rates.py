"""How often conversations switch models, by turn and by time.

Intervals are Wilson's, on the number of independent turns that would vary as much as these turns,
clustered by conversation, do.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis

from turnout.buckets import buckets_from
from turnout.stats.intervals import effective_trials, wilson
from turnout.switches.report import Rate, Share

# By the first turn after the switch.
_TURN_BUCKETS = buckets_from(2, 3, 4, 5, 6, 11, 21)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MEASURES = ("switches", "upgrades", "downgrades", "laterals", "fallbacks")
# Longest span that is shown by day, by week; longer ones by month.
_SPANS_DAYS = ((45, "day"), (2 * 365, "week"))


def all_rates(backend: ibis.BaseBackend, switchable: ibis.Table) -> dict[str, Any]:
    """Every rate of the report, by its name there.

    Args:
        backend: Where it is computed.
        switchable: One row a turn that could switch: conversation_id, turn_index, timestamp, kind
            (null where it did not) and fallback.
    """
    person = switchable.kind.notnull() & ~switchable.fallback
    flagged = switchable.mutate(
        switches=person.cast("int64"),
        upgrades=(person & (switchable.kind == "upgrade")).fill_null(False).cast("int64"),
        downgrades=(person & (switchable.kind == "downgrade")).fill_null(False).cast("int64"),
        laterals=(person & (switchable.kind == "lateral")).fill_null(False).cast("int64"),
        fallbacks=(switchable.kind.notnull() & switchable.fallback).cast("int64"),
    )
    timed = flagged.filter(flagged.timestamp.notnull())
    unit = _date_unit(backend, timed)
    everything = _rates(backend, flagged, ibis.literal("all"))
    late_first = [(flagged.turn_index >= least, name) for least, name in reversed(_TURN_BUCKETS)]
    by_turn = _rates(backend, flagged, ibis.cases(*late_first, else_=None))
    rates: dict[str, Any] = {
        "rate": everything.get("all", _no_rate("all")),
        "by_turn": [by_turn.get(name, _no_rate(name)) for _, name in _TURN_BUCKETS],
        "date_unit": unit,
        "by_date": [],
        "by_hour": [],
        "by_weekday": [],
    }
    if unit is not None:
        start = timed.timestamp.truncate({"day": "D", "week": "W", "month": "M"}[unit])
        by_date = _rates(backend, timed, start.strftime("%Y-%m-%d"))
        by_hour = _rates(backend, timed, timed.timestamp.hour().cast("string"))
        by_day = _rates(backend, timed, timed.timestamp.day_of_week.index().cast("string"))
        rates["by_date"] = [by_date[name] for name in sorted(by_date)]
        rates["by_hour"] = [_named(by_hour, str(hour), f"{hour:02d}") for hour in range(24)]
        rates["by_weekday"] = [_named(by_day, str(n), day) for n, day in enumerate(WEEKDAYS)]
    return rates


def share(count: int, turns: int, deviation: float) -> Share:
    """A share with its interval.

    Args:
        count: Turns on which it happened.
        turns: Turns on which it could have.
        deviation: Sum over conversations of (count − value × turns)².
    """
    if turns == 0:
        return Share(0, 0.0, 0.0, 1.0)
    value = count / turns
    return Share(count, value, *wilson(value, effective_trials(count, turns, deviation)))


def _rates(backend: ibis.BaseBackend, flagged: ibis.Table, name: ibis.Value) -> dict[str, Rate]:
    """Rates by the values of `name`."""
    named = flagged.mutate(name=name)
    conversations = named.group_by("name", "conversation_id").agg(
        n=named.count(), **{m: named[m].sum() for m in _MEASURES}
    )
    sums = {"turns": conversations.n.sum(), "n2": (conversations.n * conversations.n).sum()}
    for m in _MEASURES:
        y = conversations[m]
        sums |= {m: y.sum(), f"{m}_y2": (y * y).sum(), f"{m}_yn": (y * conversations.n).sum()}
    rows = backend.to_pyarrow(conversations.group_by("name").agg(**sums)).to_pylist()
    return {row["name"]: _rate(row) for row in rows}


def _rate(row: dict[str, Any]) -> Rate:
    shares = {}
    for m in _MEASURES:
        value = row[m] / row["turns"]
        deviation = row[f"{m}_y2"] - 2 * value * row[f"{m}_yn"] + value**2 * row["n2"]
        shares[m] = share(row[m], row["turns"], deviation)
    return Rate(row["name"], row["turns"], **shares)


def _named(rates: dict[str, Rate], key: str, name: str) -> Rate:
    rate = rates.get(key, _no_rate(name))
    return Rate(name, rate.turns, **{m: getattr(rate, m) for m in _MEASURES})


def _no_rate(name: str) -> Rate:
    return Rate(name, 0, **dict.fromkeys(_MEASURES, share(0, 0, 0.0)))


def _date_unit(backend: ibis.BaseBackend, timed: ibis.Table) -> str | None:
    row = backend.to_pyarrow(
        timed.agg(first=timed.timestamp.min(), last=timed.timestamp.max())
    ).to_pylist()[0]
    if row["first"] is None:
        return None
    span: dt.timedelta = row["last"] - row["first"]
    return next((unit for days, unit in _SPANS_DAYS if span.days <= days), "month")
