"""Logs as they must not be: a clear error or a counted drop, and never half a table."""

import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.disks import small_disk
from turnout.errors import RecordError, StorageError
from turnout.logs import ingest

pytestmark = pytest.mark.slow


def row(turn_index=1, **values):
    return {
        "conversation_id": "a",
        "turn_index": turn_index,
        "user_message": "hello",
        "model": "o3",
        "timestamp": "2026-05-04T12:00:00Z",
    } | values


def lines(rows):
    return "".join(json.dumps(r) + "\n" for r in rows)


def ingested(tmp_path, content, name="log.jsonl", **options):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    report = ingest([tmp_path / name], tmp_path / "turns.parquet", **options)
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def compressed(kind, content):
    return gzip.compress(content) if kind == "gz" else pa.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_half_a_compressed_file_is_refused(tmp_path, kind, left):
    whole = compressed(kind, lines(row(n) for n in range(1, 500)).encode())
    with pytest.raises(RecordError, match=r"cannot be read to its end.*Copy it again"):
        ingested(tmp_path, whole[: int(left * len(whole))], f"log.jsonl.{kind}")
    assert not list(tmp_path.glob("*turns.parquet*"))


@pytest.mark.parametrize("kind", ["jsonl.zst", "csv.zst", "json.gz", "json.zst"])
def test_compressed_files_are_read_whole(tmp_path, kind):
    rows = [row(1), row(2, user_message="two\nlines")]
    if kind.startswith("csv"):
        cells = [[f'"{value}"' for value in r.values()] for r in rows]
        content = "\n".join(",".join(c) for c in [list(rows[0]), *cells])
    else:
        content = json.dumps(rows) if kind.startswith("json.") else lines(rows)
    _, turns = ingested(tmp_path, compressed(kind[-3:].strip("."), content.encode()), f"log.{kind}")
    assert [r["user_message"] for r in turns] == ["hello", "two\nlines"]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_any_unicode_encoding_is_read(tmp_path, kind):
    encodings = ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-le", "utf-8-sig"]
    for encoding in encodings:
        said = row(conversation_id=encoding, user_message="grüße 🚂")
        content = {
            "jsonl": json.dumps(said, ensure_ascii=False),
            "json": json.dumps([said], ensure_ascii=False),
            "csv": ",".join(said) + "\n" + ",".join(map(str, said.values())),
        }[kind]
        (tmp_path / f"{encoding}.{kind}").write_bytes(content.encode(encoding))
    ingest([tmp_path], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert {t["conversation_id"]: t["user_message"] for t in turns} == dict.fromkeys(
        encodings, "grüße 🚂"
    )


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_lines_in_another_encoding_are_mended_and_counted(tmp_path, kind):
    first, second = row(user_message="grüße 🚂"), row(2, user_message="caf€ grüße")
    texts = [json.dumps(r, ensure_ascii=False) for r in (first, second)]
    if kind == "csv":
        texts = [",".join(first), *(",".join(map(str, r.values())) for r in (first, second))]
    parts = [*(t.encode() for t in texts[:-1]), texts[-1].encode("cp1252")]
    content = b"[" + b",".join(parts) + b"]" if kind == "json" else b"\n".join(parts)
    report, turns = ingested(tmp_path, content, f"log.{kind}")
    assert [r["user_message"] for r in turns] == ["grüße 🚂", "caf€ grüße"]
    if kind != "json":
        assert report.mended == {"bytes that are not UTF-8 (read as Windows-1252)": 1}
    assert "bytes that are not UTF-8 (read as Windows-1252)" in report.mended


def test_nul_bytes_and_half_characters_are_mended_and_counted(tmp_path):
    rows = [row(1, user_message="a\0b"), row(2, user_message="\ud83d go"), row(3)]
    report, turns = ingested(tmp_path, lines(rows) + lines([row(4)]).replace("hello", "he\0llo"))
    assert [r["user_message"] for r in turns] == ["ab", "? go", "hello", "hello"]
    assert report.mended == {"NUL bytes (left out)": 2, "half characters (replaced)": 1}


def test_a_tail_of_nul_bytes_is_told_or_counted(tmp_path):
    content = lines([row()]) + "\0" * 4096
    with pytest.raises(RecordError, match=r"log\.jsonl:2: not JSON"):
        ingested(tmp_path, content)
    report, _ = ingested(tmp_path, content, skip_unreadable=True)
    assert (report.rows_kept, report.dropped) == (1, {"unreadable": 1})


@pytest.mark.parametrize(
    "content",
    ['[{"a": 1}', '[{"a": 1},', '[{"a": 1}] []', '[{"a": 1} {"a": 2}]', '{"a": "x', "", "["],
)
def test_half_a_json_document_is_refused(tmp_path, content):
    with pytest.raises(RecordError):
        ingested(tmp_path, content, "log.json", skip_unreadable=True)


def test_a_long_json_document_is_read_an_item_at_a_time(tmp_path):
    rows = [row(n, user_message=f"{n} " + "x" * 40_000) for n in range(1, 101)]
    _, turns = ingested(tmp_path, json.dumps(rows, indent=1), "log.json")
    assert [r["turn_index"] for r in turns] == list(range(1, 101))
    assert len(turns[-1]["user_message"]) == 40_004


TABLE = ["conversation_id,turn_index,user_message,model", 'c1,1,"one, two",o3', "c1,2,three,o3"]


@pytest.mark.parametrize(
    ("separator", "end", "before"),
    [
        pytest.param(",", "\r\n", "", id="windows"),
        pytest.param(",", "\r", "", id="old-mac"),
        pytest.param(";", "\r\n", "", id="german-excel"),
        pytest.param("\t", "\n", "", id="tabs"),
        pytest.param(";", "\n", "sep=;\n", id="separator-line"),
        pytest.param(",", "\n", "sep=,\n", id="separator-line-comma"),
        pytest.param(";", "\n", '"SEP=;"\n', id="separator-line-in-quotes"),
        pytest.param("|", "\n", "", id="bars"),
        pytest.param(";", "\r\n", "\r\n\n", id="empty-lines-before"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_the_separator_and_the_line_ends_of_csv_are_found(tmp_path, separator, end, before, suffix):
    table = [line.replace(",", separator).replace(f"one{separator}", "one,") for line in TABLE]
    table.insert(2, separator * 3)  # an empty row, as spreadsheets write it
    _, turns = ingested(tmp_path, before + end.join(table) + end, f"log.{suffix}")
    assert [turn["user_message"] for turn in turns] == ["one, two", "three"]


def test_numbers_with_commas_are_read_as_spreadsheets_mean_them(tmp_path):
    table = "conversation_id;turn_index;user_message;model;p_reasoning;prompt_tokens\n"
    rows = "a;1;x;o3;0,75;12,345\na;2,0;y;o3;0,5;7\n"
    report, (first, second) = ingested(tmp_path, table + rows, "log.csv")
    assert (first["p_reasoning"], first["prompt_tokens"]) == (0.75, 12_345)
    assert (second["p_reasoning"], second["turn_index"], report.mended) == (0.5, 2, {})


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_ids_that_a_spreadsheet_rounded_are_refused_rather_than_shared(tmp_path, name):
    rows = [
        {"conversation_id": chat, "turn_index": 1, "user_message": "x", "model": "o3"}
        for chat in ("1.23457E+18", "9,1E+15", "1e5", "a")
    ]
    path = tmp_path / name
    if name == "log.csv":
        lines = [[*rows[0]], *([f'"{value}"' for value in each.values()] for each in rows)]
        path.write_text("\n".join(",".join(line) for line in lines))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(RecordError, match=r"1\.23457E\+18.*spreadsheet has rounded"):
        ingest([path], tmp_path / "turns.parquet")
    report = ingest([path], tmp_path / "turns.parquet", skip_unreadable=True)
    assert (report.rows_kept, report.dropped) == (2, {"unreadable": 2})


@pytest.mark.parametrize(
    "header",
    [
        pytest.param('"conversation_id"x,turn_index,user_message,model', id="stray-quote"),
        pytest.param('conversation_id,turn_index,"user_message,model', id="unclosed-quote"),
    ],
)
def test_a_header_that_is_no_csv_is_refused_with_its_line(tmp_path, header):
    with pytest.raises(RecordError, match=r"log\.csv:1: the header is not CSV"):
        ingested(tmp_path, "\n".join([header, *TABLE[1:] * 10_000]), "log.csv")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ('a,2,"never closed\nb,1,x,o3,1\n', "not CSV"),
        ("a,2\n", "2 fields; the first line names 5"),
        ('a,2,"x"y,o3,1\n', "not CSV"),
    ],
)
def test_broken_csv_is_told_or_counted(tmp_path, tail, message):
    content = "conversation_id,turn_index,user_message,model,timestamp\na,1,hello,o3,1\n" + tail
    with pytest.raises(RecordError, match=message):
        ingested(tmp_path, content, "log.csv")
    report, _ = ingested(tmp_path, content, "log.csv", skip_unreadable=True)
    assert (report.rows_kept, report.dropped) == (1, {"unreadable": 1})


def test_a_column_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(RecordError, match="named twice"):
        ingested(tmp_path, "conversation_id,model,model\na,b,c\n", "log.csv")


def test_two_texts_under_one_turn_index_are_counted_apart_from_one_sent_again(tmp_path):
    rows = [row(user_message="fix the build"), row(user_message="fix"), row(user_message="other")]
    report, turns = ingested(tmp_path, lines(rows))
    assert [r["user_message"] for r in turns] == ["fix the build"]
    assert report.dropped == {
        "sent again (the longest is kept)": 1,
        "another text under the same turn index (the longest is kept)": 1,
    }


def test_the_row_that_did_not_fail_stays_and_several_models_are_noted(tmp_path):
    rows = [
        row(model="o3", response_type="failed", timestamp=1_777_800_020),
        row(model="gpt-4o", response_type="success", timestamp=1_777_800_010),
        row(2, model=None),
    ]
    report, turns = ingested(tmp_path, lines(rows))
    assert [r["model"] for r in turns] == ["gpt-4o", None]
    assert report.noted == {
        "several models (that of the row that stays is kept)": 1,
        "no model": 1,
        "no token counts": 2,
    }


def test_clocks_that_run_backwards_change_no_order_and_are_noted(tmp_path):
    stamps = ["12:00", "11:00", "11:30"]
    rows = [row(n, timestamp=f"2026-05-04T{t}Z") for n, t in enumerate(stamps, start=1)]
    report, turns = ingested(tmp_path, lines(reversed(rows)))
    assert [r["turn_index"] for r in turns] == [1, 2, 3]
    assert report.noted["earlier than the turn before"] == 1


WRONG = {
    "prompt_tokens": ["many"],
    "llm_calls": 2**40,
    "duration_ms": "soon",
    "timestamp": {"a": 1},
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_optional_columns_of_another_kind_are_left_empty_and_counted(tmp_path, kind):
    wrong = row(**WRONG)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([wrong]), tmp_path / "log.parquet")
        report = ingest([tmp_path / "log.parquet"], tmp_path / "turns.parquet")
    else:
        report, _ = ingested(tmp_path, lines([wrong]))
    assert report.mended == {f"{field} of another kind (left empty)": 1 for field in WRONG}


@pytest.mark.parametrize("message", [["a"], {"text": "a"}, True])
def test_a_message_that_is_no_text_is_refused(tmp_path, message):
    with pytest.raises(RecordError, match=r"user_message is .*expected text"):
        ingested(tmp_path, lines([row(user_message=message)]))


def test_what_only_rows_after_the_first_thousand_have_is_read(tmp_path):
    rows = [row(n) for n in range(1, 1_102)] + [row(2_000, feedback="up")]
    _, turns = ingested(tmp_path, lines(rows))
    assert turns[-1]["feedback"] == "up"


def test_every_row_is_counted_where_the_first_thousand_cannot_be_read(tmp_path):
    report, _ = ingested(tmp_path, "x\n" * 1_500 + lines([row()]), skip_unreadable=True)
    assert (report.rows_read, report.dropped) == (1_501, {"unreadable": 1_500})


def test_a_conversation_of_20_000_turns_is_kept_whole(tmp_path):
    said = [{"role": role, "content": "x"} for _ in range(20_000) for role in ("user", "assistant")]
    report, _ = ingested(
        tmp_path, json.dumps({"id": "long", "model": "o3", "created_at": 1, "messages": said})
    )
    assert (report.rows_kept, report.complete_conversations) == (20_000, 1)


MEASURED = """
import resource, sys
from pathlib import Path
from turnout.logs import ingest
from turnout.engine import connect
connect()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = ingest([sys.argv[1]], Path(sys.argv[2]))
print(report.rows_kept, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_message_of_50_mb_is_kept_in_bounded_memory(tmp_path, kind):
    rows = [row(n) for n in range(1, 2_000)] + [row(9_999, user_message="y" * 50_000_000)]
    path = tmp_path / f"log.{kind}"
    if kind == "jsonl":
        path.write_text(lines(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    out = tmp_path / "turns.parquet"
    command = [sys.executable, "-c", MEASURED, str(path), str(out)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    n_rows, added_mb = map(int, shown.stdout.split())
    assert n_rows == 2_000
    assert added_mb < 1_200
    assert len(pq.read_table(out)["user_message"][-1].as_py()) == 50_000_000


@pytest.fixture
def engine_memory(monkeypatch):
    """Gives the engine so many MB."""
    stage = importlib.import_module("turnout.logs.ingest")
    return lambda memory_mb: monkeypatch.setattr(stage, "_MEMORY_MB", memory_mb)


def test_thousands_of_long_rows_are_sorted_in_memory_for_hundreds(tmp_path, engine_memory):
    engine_memory(60)
    rows = (row(1 + n * 11 % 2_100, assistant_message=f"{n} " * 5_000) for n in range(2_100))
    report, turns = ingested(tmp_path, lines(rows))
    assert report.rows_kept == 2_100
    assert all(turn["assistant_message"].startswith(f"{number * 191 % 2_100} ") for number, turn in
               enumerate(turns))  # fmt: skip


def test_too_little_memory_is_told_as_that_and_not_as_a_full_disk(tmp_path, engine_memory):
    engine_memory(1)
    with pytest.raises(RecordError, match=r"turns\.parquet: .* sorted in 1 MB of memory .*Ingest"):
        ingested(tmp_path, lines(row(n) for n in range(1, 2_000)))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("n_chars", [20, 20_000])
def test_what_became_of_rows_is_told_alike_of_short_and_long_texts(tmp_path, kind, n_chars):
    text = "é" * n_chars
    rows = [
        row(1, user_message=text, assistant_message=f"of {text}", source="a"),
        row(1, user_message=text, source="a"),
        row(1, user_message=text[2:], source="a"),
        row(1, user_message=text[3:], source="b"),
        row(1, user_message="x" + text[2:], source="a"),
        row(1, user_message="y", source="b"),
        row(2, user_message=text + "2", source="a"),
    ]
    path = tmp_path / f"log.{kind}"
    if kind == "jsonl":
        path.write_text(lines(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    report = ingest([path], tmp_path / "turns.parquet")
    assert report.dropped == {
        "also in another source (the longest is kept)": 1,
        "another text under the same turn index (the longest is kept)": 1,
        "another text under the same turn index in another source "
        "(--source keeps products apart)": 1,
        "sent again (the longest is kept)": 2,
    }
    first, second = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (first["user_message"], second["user_message"]) == (text, text + "2")


def test_the_rows_that_a_layout_is_judged_by_are_few_where_they_are_long(tmp_path):
    (tmp_path / "log.jsonl").write_text(lines(row(n, user_message="z" * 4_000_000)
                                              for n in range(1, 31)))  # fmt: skip
    tracemalloc.start()
    try:
        ingest([tmp_path / "log.jsonl"], tmp_path / "turns.parquet")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 90_000_000, "of 120 MB"


def test_row_groups_end_before_long_messages_fill_them(tmp_path, monkeypatch):
    monkeypatch.setattr("turnout.parquet._GROUP_BYTES", 1_000_000)
    rows = [row(n) for n in range(1, 10)]
    ingested(
        tmp_path, lines(rows + [row(n, user_message="z" * 300_000) for n in (20, 21, 22, 23, 24)])
    )
    groups = pq.read_metadata(tmp_path / "turns.parquet")
    assert groups.num_row_groups == 2


def test_the_number_of_threads_changes_no_byte(tmp_path, monkeypatch):
    rows = [
        row(
            n % 50 + 1,
            conversation_id=f"c{n % 97}",
            user_message="m" * (n % 5 + 1),
            model=f"m{n % 3}",
        )
        for n in range(2_000)
    ]
    (tmp_path / "log.jsonl").write_text(lines(rows))
    written = set()
    for threads in (1, 7):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        out = tmp_path / f"{threads}.parquet"
        ingest([tmp_path / "log.jsonl"], out)
        written.add(out.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("n_rows", [50, 40_000], ids=["at-the-end", "while-gathering"])
def test_a_full_disk_is_told_and_leaves_the_earlier_output(tmp_path, n_rows):
    with small_disk(tmp_path / "disk", 400) as disk:
        (tmp_path / "small.jsonl").write_text(lines([row()]))
        ingest([tmp_path / "small.jsonl"], disk / "turns.parquet")
        before = (disk / "turns.parquet").read_bytes()
        rows = (
            row(n, user_message=os.urandom(6_000 if n_rows == 50 else 60).hex())
            for n in range(1, n_rows)
        )
        (tmp_path / "log.jsonl").write_text(lines(rows))
        with pytest.raises(StorageError, match=r"turns\.parquet: .*(disk|space)"):
            ingest([tmp_path / "log.jsonl"], disk / "turns.parquet")
        assert (disk / "turns.parquet").read_bytes() == before
        assert [p.name for p in disk.iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_a_killed_run_leaves_the_earlier_output_and_can_be_run_again(tmp_path):
    out = tmp_path / "turns.parquet"
    ingested(tmp_path, lines([row()]))
    before = out.read_bytes()
    (tmp_path / "log.jsonl").write_text(
        lines(row(n, conversation_id=f"c{n % 9}") for n in range(1, 15_000))
    )
    code = "import sys; from pathlib import Path; from turnout.logs import ingest\n"
    code += "ingest([sys.argv[1]], Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(tmp_path / "log.jsonl"), str(out)]
    process = subprocess.Popen(command)
    while not list(tmp_path.glob(".turns.parquet.*/rows.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert out.read_bytes() == before
    report = ingest([tmp_path / "log.jsonl"], out)
    assert report.fresh
    assert report.rows_kept == 14_999
    assert not list(tmp_path.glob(".turns.parquet.*"))


def test_what_lies_beside_a_log_in_a_folder_is_passed_over_by_name(tmp_path):
    others = {
        "strings.json": '["a"]', "empty_object.json": "{}", "empty.json": "",
        "config.json": '{ // a comment\n "a": 1,}', "number.json": "3",
    }  # fmt: skip
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    report, turns = ingested(tmp_path, lines([row()]))
    folder = tmp_path / "log"
    folder.mkdir()
    for name in (*others, "log.jsonl"):
        (tmp_path / name).rename(folder / name)
    report = ingest([folder], tmp_path / "again.parquet")
    assert (len(turns), report.rows_kept) == (1, 1)
    passed_over = {name.rpartition("/")[2] for name in report.passed_over}
    assert passed_over == others.keys() - {"empty.json"}


@pytest.mark.parametrize("n_chars", [-9, -2, 30])
def test_half_a_json_file_beside_a_log_is_refused(tmp_path, n_chars):
    (tmp_path / "half.json").write_text(json.dumps([row()])[:n_chars])
    (tmp_path / "log.jsonl").write_text(lines([row()]))
    with pytest.raises(RecordError, match=r"half\.json: not JSON at item 1"):
        ingest([tmp_path], tmp_path / "turns.parquet")


def test_settings_with_comments_beside_a_log_are_passed_over(tmp_path):
    (tmp_path / "tsconfig.json").write_text('{\n  // no log\n  "a": 1\n}\n')
    (tmp_path / "log.jsonl").write_text(lines([row()]))
    report = ingest([tmp_path], tmp_path / "turns.parquet")
    assert [name.rpartition("/")[2] for name in report.passed_over] == ["tsconfig.json"]


@pytest.mark.parametrize("word", ["NaN", "None", "NULL", "\\N", "n/a"])
def test_words_for_nothing_are_no_model(tmp_path, word):
    rows = [row(model=word), row(turn_index=2)]
    _, turns = ingested(tmp_path, lines(rows))
    assert [turn["model"] for turn in turns] == [None, "o3"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    ingest([tmp_path / "log.parquet"], tmp_path / "again.parquet")
    again = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert [turn["model"] for turn in again] == [None, "o3"]


def test_columns_without_a_name_after_the_last_one_are_a_spreadsheets(tmp_path):
    content = "conversation_id,turn_index,user_message,model,,\na,1,hello,o3,,\n"
    report, turns = ingested(tmp_path, content, "log.csv")
    assert (len(turns), report.ignored_columns) == (1, ["column 5", "column 6"])


def test_a_line_may_name_a_tab_as_the_separator(tmp_path):
    content = "sep=\t\nconversation_id\tturn_index\tuser_message\tmodel\na\t1\thello\to3\n"
    assert len(ingested(tmp_path, content, "log.csv")[1]) == 1
