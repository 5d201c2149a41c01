"""Drawing from a log too long to look at whole: exact sizes, quotas, nothing torn by a split."""

import hashlib
import json
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.command import TURNOUT, run
from tests.dataset.sets import CATALOG, build_folder, dataset, rows_of, splits_of
from tests.tables import turn, write_turns
from turnout.dataset import build_from_turns
from turnout.dataset.assembly import dataset_from_turns
from turnout.dataset.card import card
from turnout.dataset.cells import SPLITS, STRATA, Cell, planned, position_of
from turnout.dataset.drawing import Log
from turnout.dataset.selection import COMPARE, DRAW, SPLIT, DatasetSpec, select_rows
from turnout.engine import connect
from turnout.errors import RecordError
from turnout.manifest import tree_sha256
from turnout.progress import Steps, silent
from turnout.routing import Formatter
from turnout.schema import LABELS, TURNS

pytestmark = pytest.mark.slow

WORDS = [
    "table",
    "queue",
    "index",
    "cache",
    "shard",
    "token",
    "batch",
    "cursor",
    "schema",
    "thread",
]
LENGTHS = (1, 2, 4, 8, 14, 25)


def log(n=240, users=60, seed=1):
    """Conversations of every bucket, with distinct words; one in five of no known user."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        user = None if number % 5 == 0 else f"u{rng.randrange(users)}"
        for index in range(1, LENGTHS[number % len(LENGTHS)] + 1):
            text = " ".join(rng.choices(WORDS, k=rng.randrange(2, 30))) + f" {number}-{index}"
            model = rng.choice(("o3", "gpt-4o"))
            rows.append(turn(f"c{number}", index, text, model, user_id=user))
    return rows


def build(tmp_path, rows, **options):
    return dataset(tmp_path, rows, **{"architecture": "conversation", "size": 100} | options)


@pytest.mark.parametrize("size", [20, 50, 101, 400])
@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_a_data_set_has_exactly_the_size_asked_for(tmp_path, architecture, size):
    rows = log()
    if architecture == "session":
        rows = [row | {"conversation_id": f"c{n}", "turn_index": 1} for n, row in enumerate(rows)]
    data = build(tmp_path, rows, architecture=architecture, size=size)
    splits = splits_of(data)
    assert data.description["rows"] == sum(map(len, splits.values())) == size
    assert data.description["account"] is None
    assert len({row["sample_id"] for split in splits.values() for row in split}) == size


def test_another_ratio_has_exactly_the_size_too(tmp_path):
    data = build(tmp_path, log(), size=150, ratio=(7, 3))
    labels = Counter(row["label"] for rows in splits_of(data).values() for row in rows)
    assert labels.total() == 150
    assert labels[0] == pytest.approx(105, abs=1)  # every split rounds its own part


def test_where_the_log_is_short_the_account_says_what_it_allows(tmp_path):
    rows = [turn(f"c{n}", 1, f"message {n}", "o3" if n < 30 else "gpt-4o") for n in range(400)]
    data = build(tmp_path, rows, architecture="session", size=200)
    assert data.description["rows"] == 60
    assert "200 rows were asked for; the log allows 60" in data.description["account"]
    assert "30 reasoning and" in data.description["account"]
    assert "With a --size above 400 all are" in data.description["account"]


def test_every_row_of_the_log_is_accounted_for(tmp_path):
    rows = log(120)
    rows += [turn("x", 1, "who knows", "mystery-9"), turn("y", 1, "  ", "o3")]
    rows += [turn(f"z{n}", 1, "the very same words", "o3") for n in range(3)]
    for architecture in ("session", "conversation"):
        data = build(tmp_path, rows, architecture=architecture).description
        assert data["rows"] + sum(data["dropped"].values()) == data["turns"] == len(rows)


def test_buckets_and_positions_are_taken_alike_and_written_down(tmp_path):
    quotas = build(tmp_path, log(), size=200).description["quotas"]
    by_bucket = Counter()
    for quota in quotas:
        taken = sum(quota[split] for split in SPLITS)
        assert taken <= quota["drawn"] <= quota["available"]
        by_bucket[quota["stratum"]] += taken
    assert by_bucket == dict.fromkeys(("1–2", "3–5", "6–10", "11–20", "21+"), 40)
    long = [q for q in quotas if q["stratum"] == "21+"]
    assert {q["position"] for q in long} == {"early", "middle", "late"}
    assert max(map(taken_of, long)) <= 2 * min(map(taken_of, long))


def taken_of(quota):
    return sum(quota[split] for split in SPLITS)


def test_the_first_turn_is_early_and_the_last_is_late(tmp_path):
    data = build(tmp_path, log(), size=400)
    rows = rows_of(data)
    for row in rows:
        if row["turn_index"] == 1:
            assert row["position"] == "early"
        elif row["turn_index"] == row["turn_count"]:
            assert row["position"] == "late"
    assert {r["position"] for r in rows if r["turn_count"] == 8 and 3 < r["turn_index"] < 6} == {
        "middle"
    }


@pytest.mark.parametrize("seed", range(3))
def test_no_user_no_conversation_and_no_text_stands_in_two_splits(tmp_path, seed):
    data = build(tmp_path, log(users=25), size=300, seed=seed)
    assert data.description["leaks"] == {"conversations": 0, "texts": 0, "users": 0}
    assert data.description["users_apart"] is True
    found_in = defaultdict(set)
    for name, rows in splits_of(data).items():
        for row in rows:
            found_in["user", row["user_id"]].add(name)
            found_in["conversation", row["conversation_id"]].add(name)
    del found_in["user", None]
    assert all(len(names) == 1 for names in found_in.values())


def test_conversations_that_had_a_long_text_in_common_fall_into_one_split(tmp_path):
    rows = log()
    pasted = (
        "please explain why the following query is slow on the second replica but not the first"
    )
    for number in range(0, 60, 3):
        rows += [
            turn(f"p{number}", 1, pasted, "o3"),
            turn(f"p{number}", 2, f"and what of {number}", "gpt-4o"),
        ]
    data = build(tmp_path, rows, size=4000)
    ids_by_split = {
        name: {r["conversation_id"] for r in split if r["conversation_id"].startswith("p")}
        for name, split in splits_of(data).items()
    }
    assert sorted(map(bool, ids_by_split.values())) == [False, False, True]


def test_one_persons_log_is_split_by_conversation_and_the_card_says_so(tmp_path):
    data = build(tmp_path, [row | {"user_id": "me"} for row in log()], size=100)
    assert data.description["rows"] == 100
    assert data.description["users_apart"] is False
    assert "too few users" in card(data.description)


def test_a_heavy_user_leaves_the_other_splits_their_rows(tmp_path):
    rows = [r | {"user_id": "heavy"} if r["conversation_id"] < "c2" else r for r in log(600)]
    data = build(tmp_path, rows, size=100)
    assert data.description["rows"] == 100
    assert data.description["users_apart"] is True


def test_the_same_rows_whatever_threads_order_and_layout(tmp_path):
    rows = log()
    spec = DatasetSpec(100, (1, 1), (0.8, 0.1, 0.1), 0)
    formatter = Formatter("conversation")
    shuffled = random.Random(5).sample(rows, len(rows))
    digests = []
    for number, (order, threads, group) in enumerate([(rows, 1, 10_000), (shuffled, 4, 50)]):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.Table.from_pylist(order, TURNS), path, row_group_size=group)
        backend = connect()
        backend.raw_sql(f"SET threads = {threads}")
        log_ = Log(backend, path, None, formatter, CATALOG, 0)
        selection = select_rows(log_, formatter, spec, Steps(silent, DRAW, COMPARE, SPLIT))
        digests.append(
            {name: [c.values for c in split] for name, split in selection.splits.items()}
        )
    assert digests[0] == digests[1]


def test_the_whole_log_is_counted_and_its_rare_rows_are_found(tmp_path):
    rows = [turn(f"c{n}", 1, f"message {n}", "gpt-4o") for n in range(6000)]
    for n in range(0, 6000, 150):
        rows[n]["model"] = "o3"
    data = build(tmp_path, rows, architecture="session", size=40)
    assert data.description["rows"] == 40
    assert [quota["available"] for quota in data.description["quotas"]] == [40, 5960]


# Of few rows a cell the bound is near for long conversations and far for short ones.
@pytest.mark.parametrize("each", [1, 5, 40, 900])
def test_the_turns_drawn_of_a_cell_are_those_with_the_least_order_keys(tmp_path, each):
    rows = log(400)
    # So clumped that a bound which leaves enough of distinct turns leaves too few of these.
    rows += [turn(f"often{n}", 1, "said again", "o3") for n in range(3) for _ in range(500)]
    path = write_turns(tmp_path / "turns.parquet", rows)
    drawn = Log(connect(), path, None, Formatter("conversation"), CATALOG, 7)
    wanted = {cell: min(each, n) for cell, n in drawn.available.items()}
    count = Counter(row["conversation_id"] for row in rows)
    last = {row["conversation_id"]: row["turn_index"] for row in rows}
    cells = defaultdict(list)
    for row in rows:
        place = row["conversation_id"], row["turn_index"]
        key = hashlib.md5(f"7|{place[0]}|{place[1]}".encode()).hexdigest()
        stratum = next(name for least, name in STRATA if count[place[0]] >= least)
        position = position_of(place[1], last[place[0]])
        cells[0 if row["model"] == "o3" else 1, stratum, position].append((key, place))
    assert drawn.available == {cell: len(keys) for cell, keys in cells.items()}
    expected = {k for cell, n in wanted.items() for k in sorted(cells[cell])[:n]}
    drawn_keys = {
        (turn.order_key, (turn.conversation_id, turn.turn_index))
        for turn in drawn.draw(wanted)
        if turn.order_key is not None
    }
    assert drawn_keys == expected


def test_scarce_and_common_turns_are_found_in_one_scan_of_the_log(tmp_path):
    path = write_turns(tmp_path / "turns.parquet", log(400))
    backend = connect()
    drawn = Log(backend, path, None, Formatter("conversation"), CATALOG, 7)
    least = min(drawn.available.values())
    # All of the scarcest cell, and few of the others.
    draws = {cell: n if n == least else 1 for cell, n in drawn.available.items()}
    query = backend.compile(drawn._below(drawn._bounds(draws, 1.0)))
    assert "left" in query.lower(), "the log has no scarce cell"
    # DuckDB holds all rows of what a query reads twice.
    assert query.count("ibis_read_parquet") == 1


def test_more_is_drawn_where_most_rows_are_duplicates_and_every_attempt_is_told(tmp_path):
    models = ("o3", "gpt-4o")
    rows = [turn(f"c{n}", 1, f"text {n % 400}", models[n % 2]) for n in range(11_000)]
    progress = {}

    def on_progress(step, done, total):
        progress.setdefault(step, []).append((done, total))

    report = build_folder(tmp_path, rows, size=300, on_progress=on_progress)
    assert report.description["rows"] == 300
    assert list(progress) == [
        "1 of 6: count the log",
        "2 of 6: draw rows",
        "3 of 6: compare rows",
        "4 of 6: split and balance",
        "2 of 6: draw rows, attempt 2",
        "3 of 6: compare rows, attempt 2",
        "4 of 6: split and balance, attempt 2",
        "5 of 6: sample the log as it is",
        "6 of 6: write",
    ]
    drawn = sum(quota["drawn"] for quota in report.description["quotas"])
    assert progress["2 of 6: draw rows, attempt 2"][-1] == (drawn, drawn)


def test_drawn_rows_are_told_as_they_come_without_the_turns_before_them(tmp_path):
    progress = []

    def on_progress(step, done, total):
        if step == "2 of 6: draw rows":
            progress.append((done, total))

    rows = log(n=300)
    report = build_folder(tmp_path, rows, "conversation", size=10_000, on_progress=on_progress)
    drawn = sum(quota["drawn"] for quota in report.description["quotas"])
    assert progress == [*((done, drawn) for done in range(0, drawn, 1000)), (drawn, drawn)]
    assert drawn > 2000


def test_labels_from_a_file_are_joined_with_their_weight_and_evidence(tmp_path):
    rows = log()
    labels = [
        {
            "conversation_id": row["conversation_id"],
            "turn_index": row["turn_index"],
            "p_reasoning": 0.9 if row["turn_index"] % 2 else 0.2,
            "confidence": 0.8 if row["turn_index"] % 2 else 0.0,
            "evidence": ["upgrade"] if row["turn_index"] % 2 else ["-effort"],
        }
        for row in rows
        if row["turn_index"] != 3
    ]
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.Table.from_pylist([*labels, labels[0]], LABELS), path)
    data = build(tmp_path, rows, labels=path, size=1000)
    for row in rows_of(data):
        odd = row["turn_index"] % 2 == 1
        assert (row["label"], row["evidence"]) == ((0, ["upgrade"]) if odd else (1, ["-effort"]))
        assert row["target"] == pytest.approx(0.9 if odd else 0.2)
        assert row["weight"] == pytest.approx(0.8 if odd else 0.05)
        assert row["turn_index"] != 3
    third = sum(row["turn_index"] == 3 for row in rows)
    assert data.description["dropped"]["no evidence in the labels"] == third


def test_of_two_texts_of_one_turn_the_longest_stays_and_the_other_is_counted(tmp_path):
    rows = log()
    rows += [turn("twice", 1, text, "o3") for text in ("short", "the longer of the two", "")]
    data = build(tmp_path, rows, size=10_000)
    rows = rows_of(data)
    said = [row["message"] for row in rows if row["conversation_id"] == "twice"]
    assert said in (["the longer of the two"], [])
    assert data.description["dropped"]["another text of the same turn"] == 2


@pytest.mark.slow
def test_a_conversation_of_100_000_turns_is_one_group(tmp_path):
    rows = log() + [turn("long", index, f"step {index}", "o3") for index in range(1, 100_001)]
    data = build(tmp_path, rows, size=100)
    assert data.description["rows"] == 100
    assert data.description["leaks"]["conversations"] == 0


def test_rows_without_a_place_are_counted_and_left_out(tmp_path):
    nullable = pa.schema([field.with_nullable(True) for field in TURNS])
    nowhere = turn("c", 1, "where", "o3")
    lost = [nowhere | {"turn_index": index} for index in (None, 0)]
    rows = [*log(), *lost, nowhere | {"conversation_id": None}]
    whole = pa.Table.from_pylist(rows, nullable)
    pq.write_table(whole, tmp_path / "t.parquet")
    data = dataset_from_turns(
        tmp_path / "t.parquet", DatasetSpec(100, (1, 1), (0.8, 0.1, 0.1), 0),
        architecture="conversation", catalog=CATALOG,
    )  # fmt: skip
    assert data.description["dropped"]["no conversation id or turn index"] == 3


@pytest.mark.parametrize("where", ["end", "middle"])
def test_a_damaged_parquet_file_is_refused_and_nothing_is_left(tmp_path, where):
    source = write_turns(tmp_path / "t.parquet", log())
    whole = bytearray(source.read_bytes())
    if where == "end":
        whole = whole[: len(whole) // 2]
    else:
        whole[100 : len(whole) // 2] = bytes(len(whole) // 2 - 100)
    source.write_bytes(whole)
    with pytest.raises(RecordError, match=r"t\.parquet: .*copy it again"):
        build_from_turns(source, tmp_path / "d", architecture="conversation", catalog=CATALOG)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("turn_index", pa.array(["one"]), "turn_index is string, expected int32"),
        ("user_message", pa.array([7]), "user_message is int64, expected string"),
        ("user_id", pa.array([[1]]), r"user_id is list<.*>, expected string"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(tmp_path, column, values, message):
    table = pa.Table.from_pylist(log()[:1], TURNS)
    position = table.schema.get_field_index(column)
    pq.write_table(table.set_column(position, column, values), tmp_path / "t.parquet")
    with pytest.raises(RecordError, match=message):
        build_from_turns(
            tmp_path / "t.parquet", tmp_path / "d", architecture="session", catalog=CATALOG
        )


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_and_a_rerun_gives_the_same_bytes(tmp_path):
    source = write_turns(tmp_path / "t.parquet", log())
    typed = ["build", source, "-o", tmp_path / "d", "--architecture", "conversation"]
    typed = [*map(str, typed), "--size", "200"]
    with subprocess.Popen([*TURNOUT, *typed], stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and not list(tmp_path.glob(".d.*.partial")):
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert running.returncode in (-signal.SIGKILL, 0)
    run(*typed)
    assert json.loads((tmp_path / "d" / "dataset.json").read_text())["rows"] == 200
    build_from_turns(
        source, tmp_path / "whole", architecture="conversation", catalog=CATALOG, size=200
    )
    assert tree_sha256(tmp_path / "d") == tree_sha256(tmp_path / "whole")


def test_the_files_open_with_the_datasets_library(tmp_path):
    build_folder(tmp_path, log(), "conversation", size=100)
    files = {name: str(tmp_path / "data" / f"{name}.parquet") for name in SPLITS}
    import datasets  # takes a second

    opened = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in opened.items()} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    assert {"message", "context", "label", "target", "weight", "evidence"} <= set(
        opened["train"].column_names
    )


cells = st.builds(
    Cell,
    st.sampled_from([0, 1]),
    st.sampled_from(["1–2", "21+"]),
    st.sampled_from(["early", "late"]),
)


@settings(max_examples=80)
@given(
    st.dictionaries(cells, st.integers(0, 500)),
    st.integers(2, 400),
    st.sampled_from([(1, 1), (7, 3), (1, 9)]),
    st.booleans(),
)
def test_a_plan_never_wants_more_than_there_is_or_than_was_asked_for(room, size, ratio, inside):
    plan = planned(room, size, ratio, (0.8, 0.1, 0.1), inside=inside)
    total = Counter()
    for wanted in plan.values():
        assert all(n >= 0 for n in wanted.values())
        total.update(wanted)
    assert all(n <= room[cell] for cell, n in total.items() if n)
    assert total.total() <= size
