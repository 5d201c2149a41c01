"""Any log becomes one row a turn, and every row is accounted for."""

import csv
import gzip
import hmac
import json

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.command import run
from tests.tables import NOON
from turnout.errors import RecordError, SettingsError, StorageError
from turnout.logs import ingest
from turnout.logs.moments import moment
from turnout.logs.pseudonyms import Salt
from turnout.schema import TURNS


def row(**values):
    return {
        "conversation_id": "a",
        "turn_index": 1,
        "user_message": "hello",
        "model": "o3",
        "timestamp": "2026-05-04T12:00:00Z",
    } | values


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def written(path, rows):
    """A log in the format of its name."""
    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def ingested(tmp_path, rows, **options):
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    report = ingest([source], tmp_path / "turns.parquet", **options)
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def test_both_spellings_of_the_columns_are_read(tmp_path):
    camel = {
        "conversationId": "b", "turnIndex": 2, "userMessage": "hi", "model": "o3",
        "timestamp": 1_770_000_000, "assistantMessage": "yes", "promptTokens": 7,
    }  # fmt: skip
    snake = row(conversation_id="a")
    for name, rows in (("camel", [camel]), ("snake", [snake])):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    ingest([tmp_path / "camel.jsonl", tmp_path / "snake.jsonl"], tmp_path / "turns.parquet")
    table = pq.read_table(tmp_path / "turns.parquet")
    assert table.schema.equals(TURNS)
    first, second = table.to_pylist()
    assert (first["conversation_id"], first["source"]) == ("a", "snake.jsonl")
    assert (second["assistant_message"], second["prompt_tokens"]) == ("yes", 7)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_turns(tmp_path, kind):
    rows = [row(), row(turn_index=2, user_message='two\nlines, "quoted"')]
    path = tmp_path / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        opener = gzip.open if kind.endswith("gz") else open
        with opener(path, "wt", newline="") as stream:
            if kind.startswith("csv"):
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            else:
                stream.writelines(json.dumps(r) + "\n" for r in rows)
    ingest([path], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert [r["user_message"] for r in turns] == ["hello", 'two\nlines, "quoted"']
    assert [r["turn_index"] for r in turns] == [1, 2]
    assert turns[0]["timestamp"].isoformat() == "2026-05-04T12:00:00+00:00"


def test_a_turn_sent_several_times_is_kept_at_its_longest(tmp_path):
    report, rows = ingested(
        tmp_path,
        [row(user_message="fix"), row(user_message="fix it all"), row(user_message="fix it")],
    )
    assert [r["user_message"] for r in rows] == ["fix it all"]
    assert report.dropped == {"sent again (the longest is kept)": 2}


def test_rows_come_out_in_order_of_conversation_and_turn(tmp_path):
    rows = [row(conversation_id="b", turn_index=2), row(conversation_id="b"), row(turn_index=3)]
    _, turns = ingested(tmp_path, rows)
    assert [(r["conversation_id"], r["turn_index"]) for r in turns] == [
        ("a", 3),
        ("b", 1),
        ("b", 2),
    ]


def test_a_complete_conversation_starts_at_one_and_has_no_gap(tmp_path):
    rows = [
        row(conversation_id=name, turn_index=index)
        for name, indices in {"whole": (1, 2), "late": (2, 3), "gap": (1, 3)}.items()
        for index in indices
    ]
    report, _ = ingested(tmp_path, rows)
    assert (report.conversations, report.complete_conversations) == (3, 1)


@pytest.mark.parametrize("index", [-1, 1.5, "one", None, True, 2**40])
def test_a_turn_index_that_is_no_position_is_refused_with_its_place(tmp_path, index):
    rows = [row(), row(turn_index=index)]
    with pytest.raises(RecordError, match=r"log\.jsonl:2: turn_index is .*expected a whole number"):
        ingested(tmp_path, rows)
    assert not (tmp_path / "turns.parquet").exists()


def test_half_a_line_is_refused_with_its_place_or_counted(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row()) + '\n{"conversation_id": "b", "turn_')
    with pytest.raises(RecordError, match=r"log\.jsonl:2: not JSON"):
        ingest([path], tmp_path / "turns.parquet")
    report = ingest([path], tmp_path / "turns.parquet", skip_unreadable=True)
    assert (report.rows_read, report.rows_kept, report.dropped) == (2, 1, {"unreadable": 1})


def test_a_missing_column_is_named_with_what_was_found_and_what_to_do(tmp_path):
    rows = [{"conversation_id": "a", "turn_index": 1, "text": "x", "timestamp": 1, "model": "o3"}]
    with pytest.raises(RecordError, match=r"no column for user_message; found .*text.*--map"):
        ingested(tmp_path, rows)


def test_four_columns_make_a_log(tmp_path):
    rows = [row(turn_index=2, user_message="and then?"), row()]
    for record in rows:
        del record["timestamp"]
    report, turns = ingested(tmp_path, rows)
    assert [(turn["turn_index"], turn["timestamp"]) for turn in turns] == [(1, None), (2, None)]
    assert report.noted["no time"] == 2


def test_a_column_can_be_named(tmp_path):
    rows = [row(text="the real one")]
    _, turns = ingested(tmp_path, rows, columns={"user_message": "text"})
    assert turns[0]["user_message"] == "the real one"


def test_naming_a_column_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="--map model=engine"):
        ingested(tmp_path, [row()], columns={"model": "engine"})


@pytest.mark.parametrize(
    "rows", [[], [row(user_message="  ")]], ids=["no-row", "only-empty-messages"]
)
def test_an_empty_log_is_refused(tmp_path, rows):
    with pytest.raises(RecordError, match="no turn left"):
        ingested(tmp_path, rows)


def test_a_truncated_parquet_file_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist([row()]), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match="not readable as Parquet"):
        ingest([path], tmp_path / "turns.parquet")


@pytest.mark.parametrize("name", ["absent.jsonl", "*.jsonl", "log.xlsx"])
def test_a_source_that_is_no_log_is_refused(tmp_path, name):
    (tmp_path / "log.xlsx").write_text("x")
    with pytest.raises(RecordError):
        ingest([tmp_path / name], tmp_path / "turns.parquet")


def pseudonyms(tmp_path, out, **options):
    """Of two users, the first of whom has two turns, and whether the run was fresh."""
    rows = [row(user_id="ada"), row(turn_index=2, user_id="ada"), row(turn_index=3, user_id="bob")]
    source = write_jsonl(tmp_path / "log.jsonl", rows)
    report = ingest([source], tmp_path / out, **options)
    return pq.read_table(tmp_path / out)["user_id"].to_pylist(), report.fresh


def test_user_ids_become_pseudonyms_of_128_bits_that_nobody_can_make_without_the_salt(tmp_path):
    (ada, again, bob), _ = pseudonyms(tmp_path, "t.parquet")
    secret = (tmp_path / "t.parquet.salt").read_bytes().strip()
    assert len(secret) == 64 and (tmp_path / "t.parquet.salt").stat().st_mode & 0o777 == 0o600
    assert ada == again == hmac.new(secret, b"ada", "sha256").hexdigest()[:32] != bob
    manifest = (tmp_path / "t.parquet.manifest.json").read_text()
    assert secret.decode() not in manifest


def test_a_rerun_uses_the_salt_beside_the_output_and_another_output_draws_its_own(tmp_path):
    first, _ = pseudonyms(tmp_path, "t.parquet")
    assert pseudonyms(tmp_path, "t.parquet") == (first, False)
    (tmp_path / "t.parquet").unlink()
    assert pseudonyms(tmp_path, "t.parquet") == (first, True)
    other, _ = pseudonyms(tmp_path, "other.parquet")
    assert not set(first) & set(other)


def test_a_shared_salt_gives_a_user_one_pseudonym_in_several_tables(tmp_path):
    tables = [pseudonyms(tmp_path, out, salt=tmp_path / "salt") for out in ("a", "b")]
    assert tables[0] == tables[1]
    assert sorted(path.name for path in tmp_path.glob("*salt")) == ["salt"]


def test_the_verb_says_where_the_salt_is(tmp_path):
    write_jsonl(tmp_path / "log.jsonl", [row(user_id="ada")])
    shown = run("ingest", "log.jsonl", "-o", "t.parquet", cwd=tmp_path).stdout
    assert "to be kept apart from the turns: t.parquet.salt" in shown
    shown = run("ingest", "log.jsonl", "-o", "t.parquet", "--salt", "s", cwd=tmp_path).stdout
    assert "to be kept apart from the turns: s\n" in shown


def test_a_salt_too_short_to_be_secret_is_refused(tmp_path):
    (tmp_path / "salt").write_text("pepper\n")
    with pytest.raises(SettingsError, match=r"salt: a salt of 6 bytes; expected at least 16"):
        pseudonyms(tmp_path, "t.parquet", salt=tmp_path / "salt")


def test_an_interrupted_run_leaves_the_earlier_output_alone(tmp_path):
    ingested(tmp_path, [row()])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingested(tmp_path, [row(), row(turn_index=2)], on_progress=interrupted)
    (tmp_path / "log.jsonl").write_bytes(before["log.jsonl"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_run_leaves_no_salt_and_one_that_another_run_wrote_is_not_replaced(tmp_path):
    with pytest.raises(RecordError):
        ingested(tmp_path, [row(turn_index=-1)])
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    ours, theirs = (Salt(tmp_path / "salt") for _ in range(2))
    theirs.keep()
    with pytest.raises(StorageError, match="another run wrote its salt"):
        ours.keep()
    assert Salt(tmp_path / "salt").fingerprint == theirs.fingerprint


def test_of_equal_messages_the_one_that_names_its_model_is_kept(tmp_path):
    rows = [row(model="o3"), row(model=None, timestamp="2026-05-05T12:00:00Z")]
    _, (turn,) = ingested(tmp_path, rows)
    assert turn["model"] == "o3"


COUNTED_FROM_ZERO = [
    row(conversation_id=name, turn_index=index, user_message=f"{name}{index}")
    for name in "ab"
    for index in (0, 1, 2)
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_log_that_counts_from_zero_is_shifted_and_said(tmp_path, kind):
    path = written(tmp_path / f"log.{kind}", COUNTED_FROM_ZERO)
    report = ingest([path], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert [(r["turn_index"], r["user_message"]) for r in turns[:3]] == [
        (1, "a0"), (2, "a1"), (3, "a2"),
    ]  # fmt: skip
    assert report.complete_conversations == 2
    assert report.mended == {"turn index counted from 0 (shifted by one)": 6}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("indices", "counted"),
    [
        ((1, 3, 5, 7), (1, 2, 3, 4)),
        ((0, 2, 4, 6), (1, 2, 3, 4)),
        ((1, 2, 5, 7), (1, 2, 5, 7)),  # the turns between them are not in the log
        ((1, 3), (1, 3)),  # too few to tell
    ],
)
def test_an_index_that_counts_messages_becomes_one_of_turns(tmp_path, indices, counted, kind):
    rows = [row(turn_index=index, user_message=f"q{index}") for index in indices]
    path = written(tmp_path / f"log.{kind}", rows)
    report = ingest([path], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet")["turn_index"].to_pylist()
    assert tuple(turns) == counted
    assert bool(report.mended) == (indices != counted)


def test_a_log_of_which_some_conversations_begin_at_zero_is_refused_with_the_reason(tmp_path):
    rows = [row(conversation_id="c"), row(conversation_id="c", turn_index=2), *COUNTED_FROM_ZERO]
    with pytest.raises(
        RecordError, match=r"log\.jsonl:3: .* 1 of 3 conversations begin at another"
    ):
        ingested(tmp_path, rows)


def test_a_conversation_that_lost_its_first_turn_is_not_called_whole(tmp_path):
    rows = [row(conversation_id="c"), row(conversation_id="c", turn_index=2), *COUNTED_FROM_ZERO]
    report, turns = ingested(tmp_path, rows, skip_unreadable=True)
    assert report.dropped == {"unreadable": 2}
    assert (report.conversations, report.complete_conversations, len(turns)) == (3, 1, 6)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_two_products_with_the_same_ids_are_kept_apart_by_name(tmp_path, kind):
    apps = {"shop": ["where is it", "thanks"], "desk": ["reset it", "again", "and now"]}
    for name, messages in apps.items():
        rows = [row(turn_index=n, user_message=m) for n, m in enumerate(messages, start=1)]
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            write_jsonl(path, rows)
        ingest([path], tmp_path / f"{name}-turns.parquet", source=name)
    tables = [tmp_path / f"{name}-turns.parquet" for name in apps]
    report = ingest(tables, tmp_path / "turns.parquet")
    assert (report.rows_kept, report.conversations, report.complete_conversations) == (5, 2, 2)
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert {(r["conversation_id"], r["source"]) for r in turns} == {
        ("shop:a", "shop"), ("desk:a", "desk"),
    }  # fmt: skip


def test_other_texts_of_another_source_are_counted_with_what_keeps_them_apart(tmp_path):
    write_jsonl(tmp_path / "shop.jsonl", [row(user_message="where is it")])
    write_jsonl(tmp_path / "desk.jsonl", [row(user_message="reset the password")])
    files = [tmp_path / "shop.jsonl", tmp_path / "desk.jsonl"]
    report = ingest(files, tmp_path / "turns.parquet")
    (reason,) = report.dropped
    assert reason.startswith("another text under the same turn index in another source (--source")


def test_times_that_cannot_be_read_are_null_and_counted(tmp_path):
    rows = [row(timestamp="yesterday"), row(turn_index=2, timestamp=None)]
    report, turns = ingested(tmp_path, rows)
    assert [r["timestamp"] for r in turns] == [None, None]
    assert report.noted["no time"] == 2
    assert report.mended == {"timestamp of another kind (left empty)": 1}


def test_a_time_is_read_in_any_unit_and_zone(tmp_path):
    stamps = [1_777_896_000, 1_777_896_000_000, "2026-05-04T14:00:00+02:00"]
    rows = [row(turn_index=index, timestamp=stamp) for index, stamp in enumerate(stamps, start=1)]
    _, turns = ingested(tmp_path, rows)
    assert [t["timestamp"].isoformat() for t in turns] == ["2026-05-04T12:00:00+00:00"] * 3


def test_keys_that_only_later_rows_have_are_read(tmp_path):
    _, turns = ingested(tmp_path, [row(), row(turn_index=2, feedback="up")])
    assert [r["feedback"] for r in turns] == [None, "up"]


def test_columns_that_nothing_reads_are_named(tmp_path):
    report, _ = ingested(tmp_path, [row(colour="red")])
    assert report.ignored_columns == ["colour"]


def test_a_second_run_on_the_same_log_does_nothing(tmp_path):
    first, _ = ingested(tmp_path, [row()])
    before = (tmp_path / "turns.parquet").stat().st_mtime_ns
    second, _ = ingested(tmp_path, [row()])
    assert (first.fresh, second.fresh) == (True, False)
    assert (tmp_path / "turns.parquet").stat().st_mtime_ns == before


MESSAGES = st.text(alphabet=st.characters(exclude_categories=[]), max_size=20)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 3), MESSAGES), max_size=40)


NOON_S = 1_777_896_000
SPELLINGS = [
    NOON_S, str(NOON_S), NOON_S * 10**3, NOON_S * 10**6, NOON_S * 10**9, str(NOON_S * 10**9),
    "20260504120000", 20260504120000, "202605041200", "20260504120000.0", "46146.5", 46146.5,
    "2026-05-04T12:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_number_is_read_as_the_time_that_it_is(written):
    assert moment(written) == NOON


def test_a_day_in_digits_is_midnight():
    assert moment("20260504") == moment(20260504) == NOON.replace(hour=0)


@pytest.mark.parametrize("written", ["2026", 2026, 0, -NOON_S, 12.5, "20261304", 638_713 * 10**12])
def test_a_number_that_is_no_time_of_this_century_is_none(written):
    assert moment(written) is None


@given(st.integers() | st.floats() | st.integers(0, 10**20).map(str))
def test_no_number_is_ever_a_time_outside_this_century(written):
    read = moment(written)
    assert read is None or 2000 <= read.year < 2100


@pytest.mark.slow
@settings(max_examples=15)
@given(ROWS)
def test_rows_in_are_rows_kept_plus_rows_dropped(tmp_path_factory, drawn):
    tmp_path = tmp_path_factory.mktemp("log")
    rows = [row()] + [row(conversation_id=c, turn_index=t, user_message=m) for c, t, m in drawn]
    report, turns = ingested(tmp_path, rows, skip_unreadable=True)
    assert report.rows_read == len(rows) == report.rows_kept + sum(report.dropped.values())
    assert len({(r["conversation_id"], r["turn_index"]) for r in turns}) == report.rows_kept
    for r in turns:
        r["user_message"].encode("utf-8")
        assert "\0" not in r["user_message"]


def test_real_logs_are_read_whole(shared_data, tmp_path):
    source = shared_data / "dev_chat_logs" / "turns.parquet"
    report = ingest([source], tmp_path / "turns.parquet")
    assert (report.rows_read, report.rows_kept) == (4856, 4846)
    assert report.dropped == {"harness text of a product without words of a person": 10}
    assert report.conversations == 516


def test_common_names_are_known_in_camel_case_too(tmp_path):
    row = {"sessionId": "a", "turn": 1, "createdAt": "2026-01-01", "modelName": "m", "prompt": "hi"}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    ingest([tmp_path / "log.jsonl"], tmp_path / "turns.parquet")
    (turn,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (turn["conversation_id"], turn["model"]) == ("a", "m")


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "log.parquet"])
def test_the_order_in_time_is_the_index_of_a_log_without_one(tmp_path, name):
    rows = [
        {"session_id": chat, "created_at": f"2026-01-01T00:0{minute}:00Z", "model": model,
         "prompt": text, "response": "ok"}
        for chat, minute, model, text in [
            ("b", 3, "o3", "three"), ("a", 1, "m", "one"), ("b", 2, "m", "two"),
            ("b", 3, "o3", "three"), ("a", 4, "m", "one"), ("a", 2, "o3", "yes"),
        ]
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    if name.endswith("csv"):
        pa_csv.write_csv(table, tmp_path / name)
    elif name.endswith("parquet"):
        pq.write_table(table, tmp_path / name)
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    report = ingest([tmp_path / name], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    facts = ("conversation_id", "turn_index", "user_message", "model")
    assert [tuple(turn[name] for name in facts) for turn in turns] == [
        ("a", 1, "one", "m"), ("a", 2, "yes", "o3"), ("a", 3, "one", "m"),
        ("b", 1, "two", "m"), ("b", 2, "three", "o3"),
    ]  # fmt: skip
    assert report.dropped == {"sent again (the longest is kept)": 1}
    assert report.mended == {"without a turn index (the order in time is the index)": 6}
    assert report.complete_conversations == 2


def test_a_log_without_a_turn_index_and_without_times_is_refused(tmp_path):
    row = {"session_id": "a", "model": "m", "prompt": "hi"}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    with pytest.raises(RecordError, match="no column for turn_index"):
        ingest([tmp_path / "log.jsonl"], tmp_path / "turns.parquet")
