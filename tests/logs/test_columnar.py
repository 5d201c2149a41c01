"""Reading a Parquet log by columns gives what reading it row by row gives."""

import datetime as dt
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.logs import ingest
from turnout.logs.column_names import ColumnNames
from turnout.logs.columnar import canonical_columns
from turnout.logs.columns import CALL_ID, UnreadableRowError, canonical
from turnout.logs.pseudonyms import Salt
from turnout.schema import TURNS

NOON = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
text = st.text(st.sampled_from("ab é\0\t \x1c\u200b"), max_size=4)
COLUMNS = {
    "conversation_id": st.tuples(
        text | st.none(), st.sampled_from([pa.string(), pa.large_string()])
    ),
    "turn_index": st.one_of(
        st.tuples(st.integers(-1, 3) | st.none(), st.sampled_from([pa.int8(), pa.int64()])),
        st.tuples(st.sampled_from([1.0, 1.5, None, float("nan")]), st.just(pa.float64())),
        st.tuples(st.sampled_from(["1", "x", None]), st.just(pa.string())),
    ),
    "user_message": st.one_of(
        st.tuples(text | st.none(), st.just(pa.string())),
        st.tuples(st.sampled_from([b"caf\xe9", b"ok", None]), st.just(pa.binary())),
        st.tuples(st.integers(0, 9), st.just(pa.int64())),
    ),
    "model": st.tuples(
        text | st.none(), st.sampled_from([pa.string(), pa.dictionary(pa.int8(), pa.string())])
    ),
    "timestamp": st.one_of(
        st.tuples(st.sampled_from([NOON, None]), st.just(pa.timestamp("ms", "Europe/Berlin"))),
        st.tuples(st.sampled_from([NOON.replace(tzinfo=None)]), st.just(pa.timestamp("ns"))),
        st.tuples(st.sampled_from([NOON.date(), None]), st.just(pa.date32())),
        st.tuples(st.sampled_from([1_777_896_000, 1_777_896_000_000]), st.just(pa.int64())),
        st.tuples(
            st.sampled_from(["2026-05-04 12:00:00 UTC", "soon", "", None]), st.just(pa.string())
        ),
    ),
    "prompt_tokens": st.one_of(
        st.tuples(st.integers(0, 2**40) | st.none(), st.just(pa.int64())),
        st.tuples(st.sampled_from([2.0, 2.5, None]), st.just(pa.float32())),
        st.tuples(st.sampled_from([Decimal("7.00"), None]), st.just(pa.decimal128(9, 2))),
        st.tuples(st.sampled_from(["7", "many", "", None]), st.just(pa.string())),
        st.tuples(st.booleans(), st.just(pa.bool_())),
    ),
    "llm_calls": st.tuples(st.sampled_from([1, 2**40, None]), st.just(pa.int64())),
    "tool_counts": st.one_of(
        st.tuples(st.just({"read": 1}), st.just(pa.struct([("read", pa.int64())]))),
        st.tuples(text | st.none(), st.just(pa.string())),
    ),
    "user_id": st.one_of(
        st.tuples(text | st.none(), st.just(pa.string())),
        st.tuples(st.integers(1, 3) | st.none(), st.just(pa.int64())),
    ),
    "feedback": st.tuples(st.sampled_from([["up"], None]), st.just(pa.list_(pa.string()))),
}


@st.composite
def batches(draw):
    n_rows = draw(st.integers(1, 6))
    arrays = {}
    for name, values in COLUMNS.items():
        first, kind = draw(values)
        column = [first]
        while len(column) < n_rows:
            value, its_kind = draw(values)
            if its_kind == kind:
                column.append(value)
            else:
                column.append(draw(st.sampled_from([first, None])))
        arrays[name] = pa.array(column, kind)
    return pa.RecordBatch.from_pydict(arrays)


SALT = Salt(Path(__file__).with_name("absent"))


def read_one_by_one(batch):
    rows, mended = [], Counter()
    names = ColumnNames({}).of(batch.schema.names)
    for values in batch.to_pylist():
        try:
            rows.append(canonical(values, names, SALT, mended))
        except UnreadableRowError:
            rows.append(None)
    return rows, mended


@pytest.mark.slow
@given(batches())
def test_columns_give_what_rows_give(batch):
    plain = pa.RecordBatch.from_arrays(
        [
            c.cast(pa.timestamp("us", getattr(c.type, "tz", None)), safe=False)
            if pa.types.is_temporal(c.type)
            else c
            for c in batch.columns
        ],
        batch.schema.names,
    )
    expected, expected_mended = read_one_by_one(plain)
    mended = Counter()
    names = ColumnNames({}).of(plain.schema.names)
    turns, odd = canonical_columns(plain, names, SALT, mended)
    left, left_mended = read_one_by_one(plain.filter(odd))
    assert mended + left_mended == expected_mended
    by_columns, one_by_one = iter(turns.to_pylist()), iter(left)
    for is_odd, wanted in zip(odd.to_pylist(), expected, strict=True):
        actual = next(one_by_one) if is_odd else {**next(by_columns), CALL_ID: None}
        assert actual == wanted


def test_ordinary_rows_are_all_read_by_columns():
    row = dict.fromkeys(TURNS.names) | {
        "conversation_id": "c1", "turn_index": 1, "user_message": "grüß dich", "model": "o3",
        "timestamp": NOON, "user_id": "ann", "assistant_message": "hi",
    }  # fmt: skip
    batch = pa.RecordBatch.from_pylist([row] * 3, TURNS)
    _, odd = canonical_columns(batch, ColumnNames({}).of(TURNS.names), SALT, Counter())
    assert odd.to_pylist() == [False] * 3


@pytest.mark.parametrize("redact", [False, True])
def test_a_parquet_log_and_the_same_log_as_json_lines_give_the_same_bytes(tmp_path, redact):
    rows = [
        {
            "conversationId": f"c{n % 7}", "turnIndex": n // 7 + 1, "model": "o3",
            "userMessage": f"mail ann{n}@example.org" if n % 3 else " ", "userId": n % 4,
            "timestamp": (NOON + dt.timedelta(minutes=n)).isoformat(), "source": "app",
        }
        for n in range(60)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "log.parquet")
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reports = [
        ingest(
            [tmp_path / f"log.{kind}"],
            tmp_path / f"{kind}.out",
            salt=tmp_path / "salt",
            redact=redact,
        )
        for kind in ("parquet", "jsonl")
    ]
    by_columns, by_rows = (replace(report, layouts={}) for report in reports)
    assert by_columns == by_rows
    assert (tmp_path / "parquet.out").read_bytes() == (tmp_path / "jsonl.out").read_bytes()
