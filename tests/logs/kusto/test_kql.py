"""The shipped Kusto queries: valid for Kusto, and the same rows as the default engine gives."""

import datetime as dt
import hashlib
import random
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.logs.kusto.engine import COLUMNS, run
from turnout.catalog import load_catalog
from turnout.errors import SettingsError
from turnout.logs import ingest
from turnout.logs.kusto.kql import QueryParameters, queries, query_text
from turnout.simulation import simulate
from turnout.switches import report_switches

pytestmark = pytest.mark.slow

ALL_TIME = {"startTime": "datetime(2000-01-01)", "endTime": "datetime(2100-01-01)"}
OPTIONAL = {
    "assistantMessage": "string", "responseType": "string", "promptTokens": "long",
    "completionTokens": "long", "reasoningTokens": "long", "cachedTokens": "long",
    "llmCalls": "int", "toolCounts": "string", "durationMs": "long", "mode": "string",
    "userId": "string", "feedback": "string",
}  # fmt: skip
RESULTS = {
    "sft_session_router_first_turns": {
        "conversationId": "string", "turnIndex": "int", "userMessage": "string",
        "model": "string", "timestamp": "datetime", "turnCount": "long", "isComplete": "bool",
        "modelsUsed": "long", "durationSeconds": "long", "messageCharacters": "long",
        "messageLines": "long", "hasCodeBlock": "bool", "hasStackTrace": "bool",
        "questionMarks": "long", **OPTIONAL,
    },
    "sft_stratified_by_turn_count": {
        "conversationId": "string", "turnIndex": "int", "userMessage": "string",
        "model": "string", "timestamp": "datetime", "turnCount": "long", "bucket": "string",
        "position": "string", **OPTIONAL,
    },
    "model_switching": {
        "conversationId": "string", "turnIndex": "int", "timestamp": "datetime",
        "fromModel": "string", "toModel": "string", "switchKind": "string",
        "otherProvider": "bool", "modelsUsed": "long", "userMessage": "string",
    },
    "models_per_conversation": {"models": "string", "conversations": "long", "percent": "real"},
}  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A simulated log as Kusto would hold it, and the turns table that ingest makes of it."""
    folder = tmp_path_factory.mktemp("kql")
    simulate(folder / "log", n_conversations=150, seed=5)
    ingest([folder / "log" / "turns.parquet"], folder / "turns.parquet")
    named = {
        "conversation_id": "conversationId", "turn_index": "turnIndex",
        "user_message": "userMessage", "model": "model", "timestamp": "timestamp",
    }  # fmt: skip
    raw = pq.read_table(folder / "log" / "turns.parquet").select(list(named)).to_pylist()
    turns = pq.read_table(folder / "turns.parquet").to_pylist()
    rows = [{named[name]: value for name, value in row.items()} for row in raw]
    return rows, turns, folder / "turns.parquet"


def complete(turns):
    """Conversations whose captured turns run from 1 without a gap."""
    indices = {}
    for turn in turns:
        indices.setdefault(turn["conversation_id"], []).append(turn["turn_index"])
    return {
        name
        for name, numbers in indices.items()
        if sorted(numbers) == [*range(1, len(numbers) + 1)]
    }


@pytest.mark.parametrize("name", RESULTS)
def test_microsofts_parser_finds_no_fault_and_the_documented_columns(parser, name):
    checked = parser.check(query_text(name))
    assert checked == {"problems": [], "columns": RESULTS[name]}


def test_microsofts_parser_would_find_a_fault(parser):
    broken = query_text("model_switching").replace(
        "userMessage = tostring", "userMessage = tostrin"
    )
    assert parser.check(broken)["problems"]


def test_a_query_for_ones_own_table_is_valid_for_it(parser):
    own = {"id": "guid", "n": "long", "the prompt": "string", "llm": "string", "at": "datetime"}
    text = query_text(
        "sft_stratified_by_turn_count",
        table="Chat-Turns",
        columns=dict(zip(["conversationId", "turnIndex", "userMessage", "model", "timestamp"], own,
                         strict=True)),
        settings={"perBucket": "7", "seed": '"x"', "startTime": "ago(3d)"},
    )  # fmt: skip
    assert parser.check(text, own, "Chat-Turns")["problems"] == []
    assert "ago(3d)" in text


@pytest.mark.parametrize("kind", ["dynamic", "string"])
def test_a_path_leads_into_a_column_that_holds_json(parser, kind):
    columns = {"userMessage": "customDimensions.prompt", "model": "customDimensions.llm.name"}
    text = query_text("sft_session_router_first_turns", columns=columns)
    assert "userMessage = tostring(todynamic(customDimensions).prompt)," in text
    assert parser.check(text, COLUMNS | {"customDimensions": kind})["problems"] == []
    assert parser.check(text)["problems"]


def test_an_optional_column_that_is_named_must_be_there(parser):
    text = query_text("sft_session_router_first_turns", columns={"user_id": "who"})
    assert parser.check(text, COLUMNS | {"who": "string"})["problems"] == []
    assert parser.check(text)["problems"]


def test_parameters_set_the_window_the_sizes_and_the_seed():
    until = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    parameters = QueryParameters(days=30, until=until, seed='s"1', per_bucket=7)
    text = query_text("sft_stratified_by_turn_count", settings=parameters.settings())
    assert "let startTime = datetime(2026-01-30T10:00:00Z);" in text
    assert "let endTime = datetime(2026-03-01T10:00:00Z);" in text
    assert r'let seed = "s\"1";' in text
    assert "let perBucket = 7;" in text
    open_ended = QueryParameters(days=3, percent=20).settings()
    assert open_ended == {"startTime": "ago(3d)", "sampledPercent": "20"}


def test_of_one_message_sent_twice_the_first_time_is_kept(log):
    later = log[0][0] | {"turnIndex": 1, "conversationId": "c"}
    earlier = later | {"timestamp": later["timestamp"] - dt.timedelta(days=1)}
    for rows in ([later, earlier], [earlier, later]):
        (stored,) = run(query_text("sft_session_router_first_turns", settings=ALL_TIME), rows)
        assert stored["timestamp"] == earlier["timestamp"].replace(tzinfo=None)


def test_the_window_holds_its_start_and_not_its_end(log):
    row = log[0][0] | {"turnIndex": 1, "timestamp": dt.datetime(2026, 3, 1)}

    def within(start, end):
        settings = {"startTime": f"datetime({start})", "endTime": f"datetime({end})"}
        return run(query_text("sft_session_router_first_turns", settings=settings), [row])

    assert within("2026-03-01", "2026-03-02")
    assert not within("2026-02-01", "2026-03-01")


def test_first_turns_are_those_of_the_default_engine(log):
    rows, turns, _ = log
    answered = run(query_text("sft_session_router_first_turns", settings=ALL_TIME), rows)
    assert {(row["conversationId"], row["userMessage"], row["model"]) for row in answered} == {
        (turn["conversation_id"], turn["user_message"], turn["model"])
        for turn in turns
        if turn["turn_index"] == 1
    }
    whole = complete(turns)
    counts = Counter(turn["conversation_id"] for turn in turns)
    for row in answered:
        assert row["isComplete"] == (row["conversationId"] in whole)
        assert row["turnCount"] == counts[row["conversationId"]]
        assert row["messageCharacters"] == len(row["userMessage"])


def test_a_larger_sample_holds_the_smaller_one(log):
    def ids(percent):
        settings = ALL_TIME | {"sampledPercent": str(percent)}
        answered = run(query_text("sft_session_router_first_turns", settings=settings), log[0])
        return {row["conversationId"] for row in answered}

    small, large = ids(20), ids(60)
    assert small < large
    assert 0.1 < len(small) / len(ids(100)) < 0.3


def test_all_turns_of_complete_conversations_are_those_of_the_default_engine(log):
    rows, turns, _ = log
    answered = run(query_text("sft_stratified_by_turn_count", settings=ALL_TIME), rows)
    whole = complete(turns)
    assert {
        (r["conversationId"], r["turnIndex"], r["userMessage"], r["model"]) for r in answered
    } == {
        (t["conversation_id"], t["turn_index"], t["user_message"], t["model"])
        for t in turns
        if t["conversation_id"] in whole
    }


def test_every_bucket_gives_the_conversations_with_the_least_hash(log):
    settings = ALL_TIME | {"perBucket": "3", "seed": '"s"'}
    text = query_text("sft_stratified_by_turn_count", settings=settings)
    answered = run(text, log[0])
    chosen = {}
    for row in answered:
        chosen.setdefault(row["bucket"], set()).add(row["conversationId"])
    counts = Counter(turn["conversation_id"] for turn in log[1])
    least = sorted(
        (name for name in complete(log[1]) if counts[name] <= 2),
        key=lambda name: hashlib.sha256(f"s|{name}".encode()).hexdigest(),
    )[:3]
    assert chosen["1-2"] == set(least)
    assert {len(names) for names in chosen.values()} == {3}
    shuffled = random.Random(1).sample(log[0], len(log[0]))
    assert run(text, shuffled) == answered


def test_models_per_conversation_are_those_of_the_switch_report(log):
    rows, _, path = log
    answered = run(query_text("models_per_conversation", settings=ALL_TIME), rows)
    report = report_switches(path, load_catalog())
    assert {row["models"]: row["conversations"] for row in answered} == {
        name: count for name, count in report.by_models.items() if count
    }
    assert sum(row["percent"] for row in answered) == pytest.approx(100, abs=0.2)


def test_switches_are_classified_as_the_switch_report_does(log):
    rows, _, path = log
    answered = run(query_text("model_switching", settings=ALL_TIME), rows)
    report = report_switches(path, load_catalog())
    assert Counter(row["switchKind"] for row in answered) == {
        kind.kind: kind.count for kind in report.switches if kind.count
    }
    assert sum(row["otherProvider"] for row in answered) == sum(
        kind.provider_switches for kind in report.switches
    )
    used = Counter(row["modelsUsed"] for row in {r["conversationId"]: r for r in answered}.values())
    assert used[2] == report.by_models["2"]


def test_the_message_kept_of_a_turn_sent_twice_is_the_longest(log):
    first = {
        "conversationId": "c",
        "turnIndex": 1,
        "model": "o3",
        "timestamp": log[0][0]["timestamp"],
    }
    rows = [first | {"userMessage": text} for text in ("cut off", "cut off no more", "cut")]
    (stored,) = run(query_text("sft_session_router_first_turns", settings=ALL_TIME), rows)
    assert stored["userMessage"] == "cut off no more"


def test_rows_outside_the_window_are_left_out(log):
    settings = {"startTime": "datetime(2100-01-01)", "endTime": "datetime(2101-01-01)"}
    assert run(query_text("sft_session_router_first_turns", settings=settings), log[0]) == []


def test_no_query_samples_at_random_or_leans_on_the_order_of_rows():
    for query in queries().values():
        for banned in ("rand(", "sample ", "make_list", "prev(", "row_number", "take "):
            assert banned not in query.text, query.name


def test_every_query_says_what_it_is_for():
    assert [(q.folder, name) for name, q in queries().items()] == [
        ("production", "sft_session_router_first_turns"),
        ("production", "sft_stratified_by_turn_count"),
        ("exploration", "model_switching"),
        ("exploration", "models_per_conversation"),
    ]
    assert all(40 < len(query.purpose) < 200 for query in queries().values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "model_switchin"}, "Did you mean model_switching?"),
        ({"name": "model_switching", "columns": {"usrMessage": "x"}}, "column 'usrMessage' is not"),
        ({"name": "model_switching", "settings": {"perBucket": "1"}}, "expected one of startTime"),
    ],
)
def test_what_a_query_does_not_have_is_refused(arguments, said):
    with pytest.raises(SettingsError, match=said):
        query_text(**arguments)
