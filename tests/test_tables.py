"""Tables from outside: read whole in every format, or refused with the place."""

import csv
import gzip
import io
import json
import tracemalloc
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.tables import read_known_labels, read_whole_table, table_batches

case = pytest.param
NO_UTF_8 = pa.array([b"caf\xe9"]).view(pa.string())[0]
HEAD = "conversation_id,turn_index,label\n"


def read(path, *names, optional=()):
    return read_whole_table(path, names, optional, remedy="Name it.")


def file(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


WRITERS = {
    "t.parquet": as_parquet,
    "t": as_parquet,
    "t.csv": as_csv,
    "T.CSV": as_csv,
    "t.jsonl": as_json_lines,
    "t.ndjson": as_json_lines,
    "t.csv.gz": lambda rows: gzip.compress(as_csv(rows).encode()),
    "t.jsonl.zst": lambda rows: pa.compress(as_json_lines(rows).encode(), "zstd", asbytes=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_every_row_in_order(tmp_path, name):
    texts = ['two\nlines, "quoted"', "naïve Ω", "x" * 3_000_000, "007", "NA", "null", "last"]
    rows = [{"n": n, "text": text} for n, text in enumerate(texts)]
    rows_read = list(read(file(tmp_path, name, WRITERS[name](rows)), "text", "n"))
    assert [row.text("text") for row in rows_read] == texts
    assert [row.integer("n") for row in rows_read] == list(range(7))


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_any_text_comes_back_from_a_csv(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(as_csv([{"n": 1, "text": text} for text in texts]), "utf-8", newline="")
    assert [row.text("text") or "" for row in read(path, "text")] == texts


def test_members_of_a_compressed_file_are_all_read(tmp_path):
    twice = gzip.compress(b"text\na\n") + gzip.compress(b"b\n")
    assert len(read(file(tmp_path, "t.csv.gz", twice), "text")) == 2


def test_the_mark_before_utf_8_is_no_part_of_a_name(tmp_path):
    assert len(read(file(tmp_path, "t.csv", b"\xef\xbb\xbftext\na\n"), "text")) == 1


def test_columns_that_may_be_absent_may_be_absent(tmp_path):
    for name in WRITERS:
        (row,) = read(file(tmp_path, name, WRITERS[name]([{"n": 1}])), "n", optional=["who"])
        assert (row.integer("n"), row.identity("who")) == (1, None)
    (row,) = read(file(tmp_path, "t.csv", "n,who\n1,x\n"), "n", optional=["who"])
    assert row.identity("who") == "x"


def test_a_json_row_may_lack_a_value_that_others_have(tmp_path):
    path = file(tmp_path, "t.jsonl", '{"n": 1}\n\n{"text": "x"}\n')
    assert [(row.where, row.text("text")) for row in read(path, "text")] == [
        (f"{path}:1", None),
        (f"{path}:3", "x"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        case("t.csv", 'n,text\n1,"a\nb"\n2,"c\n3,d\n', ":4: not CSV", id="quote-not-closed"),
        case("t.csv", 'n,text\n1,"a"b\n', ":2: not CSV", id="text-behind-a-quote"),
        case("t.csv", 'n,text\n1,"a\n2,b\n3,"c"\n', ":2: not CSV", id="quote-swallows-rows"),
        case("t.csv", "n,text\n1,a\n2\n", ":3: 1 fields; expected 2", id="half-a-csv-row"),
        case("t.csv", "n,text\n1,a,b\n", ":2: 3 fields; expected 2", id="comma-unquoted"),
        case("t.csv", "text\na\n\nb\n", ":3: a line without a value", id="an-empty-value"),
        case("t.csv", "text,text\na,b\n", "named twice", id="two-columns-of-one-name"),
        case("t.csv", "", "no column text; found none. Name it.", id="an-empty-csv"),
        case("t.csv", "n\n1\n", "no column text; found n. Name it.", id="another-csv"),
        case("t.csv", "text\ncafé\n".encode("cp1252"), ":2: not UTF-8 .byte 0xe9", id="1252"),
        case("t.csv", "text\na\n".encode("utf-16"), ":1: not UTF-8", id="utf-16"),
        case("t.csv.gz", gzip.compress(b"text\n" * 99)[:-9], "not readable", id="half-gzip"),
        case("t.csv.gz", b"", "not readable .it is empty", id="empty-gzip"),
        case("t.jsonl", '{"text": "a"}\n{"text": ', ":2: not JSON", id="half-a-json-row"),
        case("t.jsonl", '{"text": "a"}\n[1]\n', ":2: a JSON list", id="no-json-object"),
        case("t.jsonl", "[" * 100_000, ":1: not JSON", id="nested-too-deep"),
        case("t.jsonl", "", "no column text; found none", id="an-empty-json-file"),
        case("t.jsonl", '{"n": 1}\n', "no column text; found n. Name", id="another-json"),
        case("t.jsonl", '{"text": "café"}'.encode("cp1252"), ":1: not UTF-8", id="json-1252"),
        case("t.parquet", as_parquet([{"text": "a"}])[:-20], "a complete table", id="half"),
        case("t.parquet", as_parquet([{"n": 1}]), "no column text; found n", id="another"),
        case("t.txt", "text\na\n", "not readable", id="a-format-that-is-none"),
        case("t.csv", "n,text\n1,", None, id="an-empty-field-is-no-half-row"),
        case("t.parquet", as_parquet([{"text": NO_UTF_8}]), "not readable", id="a-text-of-bytes"),
        case("t.jsonl", '{"text": "a\tb"}\n', None, id="a-tab-inside-a-json-text"),
        case("t.csv", "n,text\n\n1,a\n", None, id="a-blank-line-is-no-row-of-several-fields"),
        case("t.csv", "text\na\n\n\n", None, id="blank-lines-at-the-end-are-no-rows"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_with_its_place(tmp_path, name, content, message):
    path = file(tmp_path, name, content)
    if message is None:
        assert len(read(path, "text")) == 1
        return
    with pytest.raises(RecordError, match=message) as refused:
        read(path, "text")
    assert str(refused.value).startswith(str(path))


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    with pytest.raises(RecordError, match="is a folder; expected"):
        read(tmp_path, "text")
    with pytest.raises(RecordError, match="not found; expected"):
        read(tmp_path / "t.csv", "text")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_row_is_named_by_the_line_that_it_begins_on(tmp_path, suffix):
    rows = [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}]
    path = file(tmp_path, f"t{suffix}", WRITERS[f"t{suffix}"](rows))
    first = 2 if suffix == ".csv" else 1
    assert [row.where for row in read(path, "n")] == [f"{path}:{first}", f"{path}:{first + 1}"]


def test_a_row_of_parquet_is_named_by_its_number(tmp_path):
    path = file(tmp_path, "t.parquet", as_parquet([{"n": 1}, {"n": 2}]))
    assert [row.where for row in read(path, "n")] == [f"{path}: row 1", f"{path}: row 2"]


@pytest.mark.parametrize("value", [7, True, 0.5, ["x"], {"x": "y"}])
def test_what_is_no_text_is_refused(tmp_path, value):
    (row,) = read(file(tmp_path, "t.jsonl", json.dumps({"text": value})), "text")
    with pytest.raises(RecordError, match=r"t.jsonl:1: text is .*; expected text"):
        row.text("text")


def test_a_refused_value_is_shown_short(tmp_path):
    (row,) = read(file(tmp_path, "t.jsonl", json.dumps({"text": ["x" * 10_000]})), "text")
    assert len(str(row.refused("text", "text"))) < 300


def test_ids_are_read_as_a_turns_table_has_them(tmp_path):
    rows = [{"id": 7}, {"id": "007"}, {"id": "a\ud83d\0b"}, {"id": None}]
    rows_read = read(file(tmp_path, "t.jsonl", as_json_lines(rows)), "id")
    assert [row.identity("id") for row in rows_read] == ["7", "007", "a?b", None]
    (row,) = read(file(tmp_path, "u.jsonl", '{"id": true}'), "id")
    with pytest.raises(RecordError, match="id is True; expected text"):
        row.identity("id")


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [
        (3, 3, 3.0),
        (3.0, 3, 3.0),
        ("3", 3, 3.0),
        ("3.0", 3, 3.0),
        (3.5, None, 3.5),
        ("3.5", None, 3.5),
        (".5", None, 0.5),
        ("1e-3", None, 0.001),
        (-1, None, -1.0),
        ("1_0", None, None),
        ("nan", None, None),
        ("x", None, None),
        ("٣", None, None),
        (None, None, None),
        (True, None, 1.0),
    ],
)
def test_numbers_are_read_alike_as_text_and_as_numbers(tmp_path, value, whole, number):
    (row,) = read(file(tmp_path, "t.jsonl", json.dumps({"n": value})), "n")
    assert (row.integer("n"), row.number("n")) == (whole, number)


def test_a_decimal_is_a_number(tmp_path):
    path = file(tmp_path, "t.parquet", as_parquet([{"n": Decimal("0.5")}]))
    assert [row.number("n") for row in read(path, "n")] == [0.5]


@pytest.mark.parametrize("name", WRITERS)
def test_known_labels_are_the_same_in_every_format(tmp_path, name):
    labels = {"a": "0", "b": "fast", "c": " Reasoning", "007": "1.0", "unknown": ""}
    rows = [{"conversation_id": c, "turn_index": 2, "label": label} for c, label in labels.items()]
    known = read_known_labels(file(tmp_path, name, WRITERS[name](rows)))
    assert known == {("a", 2): 0, ("b", 2): 1, ("c", 2): 0, ("007", 2): 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,1,2\n", ":2: label is '2'; expected 0 or reasoning, 1 or fast"),
        ("a,0,1\n", ":2: turn_index is '0'; expected a whole number from 1"),
        ("a,3000000000,1\n", ":2: turn_index is '3000000000'"),
        ("a,,1\n", ":2: turn_index is None"),
        (",1,1\n", ":2: conversation_id is None; expected an id"),
        ("a,1,1\na,1,0\n", r":3: label is '0'; expected 1, as an earlier row has it for .'a', 1"),
    ],
)
def test_a_known_label_that_is_none_is_refused_with_its_line(tmp_path, rows, message):
    with pytest.raises(RecordError, match=message):
        read_known_labels(file(tmp_path, "truth.csv", HEAD + rows))
    assert read_known_labels(file(tmp_path, "truth.csv", HEAD + "a,1,1\na,1,1\n")) == {("a", 1): 1}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_batches_are_the_rows_in_order_and_never_in_memory_as_a_whole(tmp_path, suffix):
    texts = [f"{n} {'x' * 1000}" for n in range(45_000)]
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        rows = [json.dumps({"text": text}) if suffix == ".jsonl" else text for text in texts]
        path.write_text("\n".join(["text"] * (suffix == ".csv") + rows))
    del texts
    tracemalloc.start()
    try:
        batches = table_batches(path, ["text"], remedy="Name it.")
        texts = (text for batch in batches for text in batch.columns["text"])
        assert all(text.startswith(f"{n} ") for n, text in enumerate(texts))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 45_000 * 1000 * 0.8
