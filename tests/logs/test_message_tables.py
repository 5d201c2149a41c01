"""Tables with a message a row: the turns of each conversation, and every row counted."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError
from turnout.logs import ingest
from turnout.logs.message_table import (
    JOINED,
    NO_ROLE,
    NOT_ASKED,
    OF_SYSTEM,
    READ_WITH_TURN,
    SAME_TIME,
    TWICE,
    UNKNOWN_ROLE,
    WITHOUT_TIME,
    fates_of_messages,
)
from turnout.logs.readers.branches import REGENERATED_ELSEWHERE
from turnout.logs.readers.sessions import BRANCH, WITHOUT_TEXT

SAID = [
    ("user", "hello", None),
    ("assistant", "hi", "gpt-4o-mini"),
    ("user", "prove it", None),
    ("assistant", "it is so", "o3"),
]
TURNS = [("c1", 1, "hello", "gpt-4o-mini", "hi"), ("c1", 2, "prove it", "o3", "it is so")]


def minute(number):
    return f"2026-05-04T12:{number:02}:00Z"


def table(said=SAID, **more):
    return [
        {
            "id": f"m{number:02}",
            "conversation_id": "c1",
            "role": role,
            "content": text,
            "model": model,
            "created_at": minute(number),
        }
        | more
        for number, (role, text, model) in enumerate(said)
    ]


def without(rows, *names):
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


def renamed(rows, **names):
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def read(tmp_path, rows, name="messages.jsonl", **options):
    write(tmp_path / name, rows)
    report = ingest([tmp_path / name], tmp_path / "turns.parquet", **options)
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def facts(rows):
    names = ("conversation_id", "turn_index", "user_message", "model", "assistant_message")
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_every_format_gives_the_turns_and_counts_the_answers(tmp_path, suffix):
    report, rows = read(tmp_path, table(), f"messages.{suffix}")
    assert facts(rows) == TURNS
    assert [row["timestamp"].minute for row in rows] == [0, 2]
    assert (report.dropped, report.complete_conversations) == ({READ_WITH_TURN: 2}, 1)
    assert list(report.layouts.values()) == [{"a message a row": 4}]


def test_messages_are_put_in_the_order_of_their_times(tmp_path):
    rows = table() + [row | {"conversation_id": "c2"} for row in table()]
    random.Random(0).shuffle(rows)
    _, turns = read(tmp_path, rows)
    assert facts(turns) == TURNS + [("c2", *turn[1:]) for turn in TURNS]


def test_an_index_goes_before_the_time(tmp_path):
    rows = [row | {"position": 9 - n} for n, row in enumerate(table()[::-1])]
    late = [row | {"created_at": minute(5)} for row in rows]
    _, turns = read(tmp_path, late[::-1])
    assert facts(turns) == TURNS


def test_messages_of_a_conversation_may_lie_in_several_files(tmp_path):
    for number, part in enumerate((table()[2:], table()[:2])):
        write(tmp_path / f"{number}.jsonl", part)
    ingest([tmp_path], tmp_path / "out" / "turns.parquet")
    assert facts(pq.read_table(tmp_path / "out" / "turns.parquet").to_pylist()) == TURNS


@pytest.mark.parametrize("newest_first", [False, True])
def test_messages_of_one_time_are_put_in_order_and_said(tmp_path, newest_first):
    by_turn = [row | {"created_at": minute(n // 2)} for n, row in enumerate(without(table(), "id"))]
    answers_first = [by_turn[n] for n in (1, 0, 3, 2)]
    report, turns = read(tmp_path, answers_first[::-1] if newest_first else answers_first)
    assert facts(turns) == TURNS
    assert report.mended == {SAME_TIME: 4}


@pytest.mark.parametrize("newest_first", [False, True])
def test_days_alone_leave_the_order_of_the_log(tmp_path, newest_first):
    rows = [row | {"created_at": "2026-05-04"} for row in without(table(), "id")]
    rows += [row | {"created_at": "2026-05-05", "content": "again"} for row in rows[:1]]
    _, turns = read(tmp_path, rows[::-1] if newest_first else rows)
    assert facts(turns)[:2] == TURNS


def test_numbered_messages_of_one_time_need_no_guess(tmp_path):
    rows = [row | {"created_at": minute(0), "id": n} for n, row in enumerate(table())]
    report, turns = read(tmp_path, [rows[n] for n in (2, 0, 3, 1)])
    assert (facts(turns), report.mended) == (TURNS, {})


def test_a_message_without_a_time_stays_where_it_is(tmp_path):
    rows = without(table(), "id")
    rows[1] = rows[1] | {"created_at": None}
    report, turns = read(tmp_path, rows)
    assert facts(turns) == TURNS
    assert report.mended[WITHOUT_TIME] == 1


def test_a_table_without_times_is_in_the_order_of_the_log(tmp_path):
    report, turns = read(tmp_path, without(table(), "id", "created_at"))
    assert facts(turns) == TURNS
    assert report.mended == {WITHOUT_TIME: 4}


ODD = [
    ("assistant", "welcome", "o3"),
    ("system", "be terse", None),
    ("user", "one", None),
    ("user", "more", None),
    ("moderator", "hey", None),
    ("assistant", "let me see", "gpt-4o-mini"),
    ("tool", "a page", None),
    ("assistant", "1", "o3"),
    (None, "?", None),
    ("user", " ", None),
    ("user", "two", None),
]


def test_every_row_is_kept_or_counted_under_its_reason(tmp_path):
    report, turns = read(tmp_path, table(ODD))
    assert facts(turns) == [("c1", 1, "one\n\nmore", "o3", "1"), ("c1", 2, "two", None, None)]
    assert report.dropped == {
        NOT_ASKED: 1,
        OF_SYSTEM: 1,
        JOINED: 1,
        f"{UNKNOWN_ROLE}: moderator": 1,
        NO_ROLE: 1,
        READ_WITH_TURN: 3,
        "empty user message": 1,
    }


def test_a_message_that_is_in_the_log_twice_counts_once(tmp_path):
    report, turns = read(tmp_path, table() + table()[1:])
    assert facts(turns) == TURNS
    assert report.dropped[TWICE] == 3


@pytest.mark.parametrize(
    "roles",
    [
        pytest.param(("Human", "AI"), id="langchain"),
        pytest.param(("customer", "Bot"), id="support"),
        pytest.param(("MessageRole.USER", "MessageRole.ASSISTANT"), id="enum"),
        pytest.param(("prompt", "completion"), id="prompt"),
        pytest.param(("end-user", "agent"), id="agent"),
    ],
)
def test_roles_go_by_many_names(tmp_path, roles):
    names = dict(zip(("user", "assistant"), roles, strict=True))
    rows = renamed(table(), role="sender", content="body", created_at="timestamp")
    _, turns = read(tmp_path, [row | {"sender": names[row["sender"]]} for row in rows])
    assert facts(turns) == TURNS


@pytest.mark.parametrize("of_person", [True, False])
def test_a_column_may_say_whether_a_person_speaks(tmp_path, of_person):
    name = "is_user" if of_person else "is_bot"
    rows = [row | {name: (row["role"] == "user") == of_person} for row in table()]
    _, turns = read(tmp_path, without(rows, "role"), "messages.csv")
    assert facts(turns) == TURNS


def langchain(row):
    kind = {"user": "human", "assistant": "ai"}[row["role"]]
    return {"type": kind, "data": {"content": row["content"]}}


def n8n(row):
    return {"type": {"user": "human", "assistant": "ai"}[row["role"]], "content": row["content"]}


@pytest.mark.parametrize("store", [langchain, n8n])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_may_hold_the_message_as_an_object(tmp_path, store, as_text):
    rows = [
        {"id": n, "session_id": "c1", "model": row["model"]}
        | {"message": json.dumps(store(row)) if as_text else store(row)}
        for n, row in enumerate(table())
    ]
    _, turns = read(tmp_path, rows[::-1])
    assert facts(turns) == TURNS


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(lambda text: [{"type": "text", "text": text}], id="parts"),
        pytest.param(lambda text: json.dumps([{"type": "text", "text": text}]), id="json"),
        pytest.param(
            lambda text: [{"type": "text", "text": {"value": text, "annotations": []}}], id="thread"
        ),
    ],
)
def test_content_may_be_parts(tmp_path, parts):
    _, turns = read(tmp_path, [row | {"content": parts(row["content"])} for row in table()])
    assert facts(turns) == TURNS


def test_json_that_a_person_pasted_stays_text(tmp_path):
    said = [("user", '{"a": 1}', None), ("assistant", "valid", "o3"), ("user", "[1, 2]", None)]
    _, turns = read(tmp_path, table(said))
    assert [row["user_message"] for row in turns] == ['{"a": 1}', "[1, 2]"]


def test_columns_under_other_names_are_mapped(tmp_path):
    rows = renamed(table(), conversation_id="ticket", content="words", model="engine")
    with pytest.raises(RecordError, match="--map conversation_id=ticket"):
        read(tmp_path, rows)
    columns = {"conversation_id": "ticket", "user_message": "words", "model": "engine"}
    report, turns = read(tmp_path, rows, columns=columns)
    assert (facts(turns), report.ignored_columns) == (TURNS, [])


def test_facts_of_person_and_answer_come_with_the_turn(tmp_path):
    rows = table()
    rows[0] |= {"user_id": "ann", "product_area": "billing"}
    rows[1] |= {"user_id": "bot", "prompt_tokens": 9, "completion_tokens": 2, "feedback": "good"}
    rows.insert(2, rows[1] | {"id": "m01b", "content": "hi again"})
    report, turns = read(tmp_path, rows, keep=["product_area"])
    assert [turns[0][name] for name in ("prompt_tokens", "completion_tokens")] == [18, 4]
    assert (turns[0]["feedback"], turns[0]["assistant_message"]) == ("good", "hi again")
    assert json.loads(turns[0]["segments"]) == {"product_area": "billing"}
    assert turns[0]["user_id"] is not None
    assert report.ignored_columns == []


def test_an_attachment_alone_keeps_its_place(tmp_path):
    rows = table()
    rows[0] |= {"content": "", "attachments": [{"url": "a.png"}]}
    report, turns = read(tmp_path, rows)
    assert facts(turns) == TURNS[1:]
    assert report.dropped[WITHOUT_TEXT] == 1


def test_harness_text_and_helper_calls_are_no_words_of_a_person(tmp_path):
    said = [
        ("user", "<system-reminder>be kind</system-reminder>hello", None),
        ("assistant", "hi", "o3"),
        ("user", "Generate a title for this conversation", None),
        ("assistant", "Greetings", "gpt-4o-mini"),
    ]
    report, turns = read(tmp_path, table(said))
    assert facts(turns) == [("c1", 1, "hello", "o3", "hi")]
    assert report.dropped["a product's helper call: title"] == 1


def test_a_row_without_a_conversation_is_refused_or_counted(tmp_path):
    rows = table()
    rows[1] |= {"conversation_id": None}
    with pytest.raises(RecordError, match=r"messages\.jsonl:2: conversation_id is None"):
        read(tmp_path, rows)
    report, _ = read(tmp_path, rows, skip_unreadable=True)
    assert report.dropped["unreadable"] == 1


def test_turns_with_a_role_beside_them_are_no_messages(tmp_path):
    asked = [row for row in table() if row["role"] == "user"]
    rows = renamed(asked, content="prompt")
    report, turns = read(tmp_path, rows)
    assert [row["user_message"] for row in turns] == ["hello", "prove it"]
    assert list(report.layouts.values()) == [{"a turn a row": 2}]


def test_a_table_that_names_no_conversation_is_one(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "chat.jsonl", without(table(), "id", "conversation_id"))
    ingest([tmp_path], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert [turn["user_message"] for turn in turns] == ["hello", "prove it"] * 2
    assert len({turn["conversation_id"] for turn in turns}) == 2


TREE = [
    ("a", None, "user", "one", None),
    ("b", "a", "assistant", "1", "gpt-4o-mini"),
    ("c", "b", "user", "taken back", None),
    ("d", "c", "assistant", "2", "gpt-4o-mini"),
    ("e", "a", "assistant", "1 again", "o3"),
    ("f", "e", "user", "two", None),
    ("g", "f", "assistant", "2", "o3"),
]


def tree(root="00000000-0000-0000-0000-000000000000"):
    return [
        {"messageId": name, "parentMessageId": parent or root, "conversationId": "c1",
         "role": role, "text": text, "model": model, "createdAt": minute(number)}
        for number, (name, parent, role, text, model) in enumerate(TREE)
    ]  # fmt: skip


def test_of_a_tree_of_messages_the_branch_stays_that_the_person_ended_on(tmp_path):
    report, turns = read(tmp_path, tree())
    assert facts(turns) == [("c1", 1, "one", "o3", "1 again"), ("c1", 2, "two", "o3", "2")]
    assert [turn["regenerated_from"] for turn in turns] == ["gpt-4o-mini", None]
    assert report.dropped == {
        READ_WITH_TURN: 2, BRANCH: 1, REGENERATED_ELSEWHERE: 1, "a message on another branch": 1,
    }  # fmt: skip


def test_a_parent_that_the_log_lacks_cuts_nothing_off(tmp_path):
    rows = [row for row in tree() if row["messageId"] in "aefg"]
    rows[2]["parentMessageId"] = "gone"
    _, turns = read(tmp_path, rows)
    assert [turn["user_message"] for turn in turns] == ["one", "two"]


def test_answers_that_name_what_they_reply_to_are_no_tree(tmp_path):
    rows = [row | {"reply_to": f"m{n - 1:02}" if n % 2 else None} for n, row in enumerate(table())]
    _, turns = read(tmp_path, rows)
    assert facts(turns) == TURNS


class CountedName(str):
    """An id that counts how often it is looked up."""

    n_lookups = 0
    __slots__ = ()

    def __hash__(self):
        CountedName.n_lookups += 1
        return super().__hash__()


def lookups_of_a_conversation(n_messages):
    names = [CountedName(f"m{number}") for number in range(n_messages)]
    rows = [
        {"name": name, "parent": parent, "role": role, "model": "o3", "has_words": True,
         "position": number}
        for number, (name, parent, role) in enumerate(
            zip(names, [None, *names], ["user", "assistant"] * n_messages, strict=False)
        )
    ]  # fmt: skip
    CountedName.n_lookups = 0
    assert fates_of_messages(rows) == {}
    return CountedName.n_lookups


def test_a_conversation_twice_as_long_takes_twice_as_many_steps():
    assert lookups_of_a_conversation(800) < 3 * lookups_of_a_conversation(400)
