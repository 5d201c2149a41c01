"""What the gateway's journal says comes back in the turns table, and only people vote."""

import datetime as dt
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import NOON, turn, write_turns
from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.errors import RecordError
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.protocols import Usage
from turnout.routing.served import Attempt, Served
from turnout.schema import LATER_TURN_COLUMNS, TURNS
from turnout.switches import report_switches

pytestmark = pytest.mark.slow  # many seconds in all

ROUTED = Served(
    request_id="r1", timestamp=NOON, protocol="chat", kind="turn", conversation_id="c1",
    turn_index=1, requested_model="turnout", model="o3", model_class="reasoning", target="deep",
    chosen_by="router", outcome="success", user_message="prove it", assistant_message="so it is",
    decided_class="reasoning", p_reasoning=0.75, population="log", threshold=0.5,
    policy="conversation", propensity=0.95, router="abc",
    usage=Usage(100, 20, 10, 40, 30), duration_ms=900,
)  # fmt: skip


def later(served, minutes, **changes):
    moment = served.timestamp + dt.timedelta(minutes=minutes)
    return replace(served, timestamp=moment, request_id=f"later-{minutes}", **changes)


def ingested(tmp_path, lines):
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = ingest([path], tmp_path / "turns.parquet")
    assert report.rows_read == report.rows_kept + sum(report.dropped.values()) == len(lines)
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def test_the_decision_of_a_request_survives_ingest(tmp_path):
    report, (row,) = ingested(tmp_path, [ROUTED.as_json()])
    expected = ROUTED.as_json() | {"segments": None, "regenerated_from": None}
    names = (*LATER_TURN_COLUMNS, "conversation_id", "turn_index", "model", "duration_ms")
    assert {name: row[name] for name in names} == {name: expected[name] for name in names}
    assert report.ignored_columns == []


def test_feedback_that_was_added_to_a_line_comes_with_its_turn(tmp_path):
    report, (row,) = ingested(tmp_path, [ROUTED.as_json() | {"feedback": "thumbs_up"}])
    assert (row["feedback"], row["propensity"]) == ("thumbs_up", 0.95)
    assert report.ignored_columns == []


def test_the_table_read_again_keeps_the_decision(tmp_path):
    _, rows = ingested(tmp_path, [ROUTED.as_json()])
    for name in ("again.jsonl", "again.parquet"):
        again = tmp_path / name
        if name.endswith("parquet"):
            pq.write_table(pa.Table.from_pylist(rows, TURNS), again)
        else:
            again.write_text(json.dumps(rows[0], default=str))
        ingest([again], tmp_path / "out.parquet")
        (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
        decided = {key: row[key] for key in LATER_TURN_COLUMNS}
        assert decided == {key: rows[0][key] for key in LATER_TURN_COLUMNS}


def test_a_continuation_adds_to_its_turn_and_leaves_its_decision(tmp_path):
    goes_on = later(
        ROUTED, 1, kind="continuation", assistant_message="done", p_reasoning=None,
        decided_class=None, propensity=None,
    )  # fmt: skip
    _, (row,) = ingested(tmp_path, [ROUTED.as_json(), goes_on.as_json()])
    assert (row["assistant_message"], row["llm_calls"], row["prompt_tokens"]) == ("done", 2, 200)
    assert (row["cache_write_tokens"], row["p_reasoning"]) == (60, 0.75)
    assert (row["decided_class"], row["propensity"]) == ("reasoning", 0.95)


def test_a_message_that_was_edited_is_the_later_one_and_nothing_is_summed(tmp_path):
    edited = later(ROUTED, 1, user_message="prove")
    report, (row,) = ingested(tmp_path, [ROUTED.as_json(), edited.as_json()])
    assert (row["user_message"], row["llm_calls"], row["prompt_tokens"]) == ("prove", 1, 100)
    assert report.dropped == {
        "request with another message in its place (the later one is kept)": 1,
    }


@pytest.mark.parametrize("kind", ["title", "compaction", "permission check", "sub-agent"])
def test_a_helper_call_is_no_turn_and_counted_by_its_name(tmp_path, kind):
    helper = later(ROUTED, 1, kind=kind, user_message="name this chat")
    report, rows = ingested(tmp_path, [ROUTED.as_json(), helper.as_json()])
    assert len(rows) == 1
    assert report.dropped == {f"a product's helper call: {kind}": 1}


def test_a_journal_without_texts_is_counted_as_such(tmp_path):
    silent = later(ROUTED, 1, user_message=None)
    report, _ = ingested(tmp_path, [ROUTED.as_json(), silent.as_json()])
    assert report.dropped == {"request whose text the journal did not record": 1}


def test_a_record_of_another_version_is_refused_with_its_place(tmp_path):
    with pytest.raises(RecordError, match=r"journal\.jsonl:2: served_version: found 9; expected 2"):
        ingested(tmp_path, [ROUTED.as_json(), ROUTED.as_json() | {"served_version": 9}])


def line_of_first_version(turn_index, decision):
    return {
        "conversation_id": "c1", "turn_index": turn_index, "user_message": f"message {turn_index}",
        "model": "o3", "timestamp": f"2026-05-04T12:{turn_index:02}:00+00:00",
        "assistant_message": "yes", "response_type": "success", "llm_calls": 1,
        "requested_model": "turnout" if decision else "o3", "target": "o3", "router": "abc",
        "status": 200, "decision": decision,
    }  # fmt: skip


def test_lines_of_the_first_version_are_read_and_who_chose_is_derived(tmp_path):
    decision = {
        "model_class": "reasoning", "label": 0, "p_reasoning": 0.75, "threshold": 0.5,
        "population": "log", "policy": "session", "reason": "…", "turn_index": 1,
    }  # fmt: skip
    lines = [line_of_first_version(1, decision), line_of_first_version(2, None)]
    _, (decided, named) = ingested(tmp_path, lines)
    assert decided["chosen_by"] == "router"
    assert (decided["decided_class"], decided["p_reasoning"]) == ("reasoning", 0.75)
    assert (decided["threshold"], decided["population"]) == (0.5, "log")
    assert (named["chosen_by"], named["requested_model"]) == ("person", "o3")


def test_only_a_persons_choice_of_a_model_votes(tmp_path):
    fast = {"model": "gpt-4o-mini", "model_class": "fast"}
    rows = [
        replace(ROUTED, **fast),
        later(ROUTED, 1, turn_index=2),
        later(ROUTED, 2, turn_index=3, chosen_by="person", **fast),
        later(ROUTED, 3, turn_index=4, chosen_by="product", attempts=(Attempt("fast", "gpt-4o"),)),
    ]
    ingested(tmp_path, [row.as_json() for row in rows])
    turns, catalog = tmp_path / "turns.parquet", load_catalog()
    switches = report_switches(turns, catalog)
    by_kind = {count.kind: count.count for count in switches.fallbacks if count.count}
    assert by_kind == {"router": 1, "product": 1}
    report = label_turns(turns, tmp_path / "labels.parquet", catalog)
    assert report.not_chosen == 3
    choices = ("model_first", "model_later", "upgrade", "before_upgrade", "downgrade")
    voted = {source.code: source.turns for source in report.sources if source.code in choices}
    assert {code: turns for code, turns in voted.items() if turns} == {"downgrade": 1}


def served_week():
    """Twenty users of one key who begin alike, two who name models, one whose target failed."""
    mini = {"model": "gpt-4o-mini", "model_class": "fast", "target": "quick"}
    by_name = {
        "chosen_by": "person", "decided_class": None, "p_reasoning": None, "propensity": None,
    }  # fmt: skip
    for user in range(20):
        begun = replace(
            ROUTED, request_id=f"{user}-1", conversation_id=f"unnamed-{user}", user_message="hi",
            identified_by="transcript", caller="one key", **mini,
        )  # fmt: skip
        yield begun
        moved = {"turn_index": 2, "user_message": f"prove theorem {user}"}
        yield replace(later(begun, 1, **moved), request_id=f"{user}-2", model="o3")
    for chat in range(120):
        model = mini if chat % 2 else {}
        asked = replace(
            ROUTED, request_id=f"named-{chat}", conversation_id=f"named-{chat}",
            identified_by="x-turnout-conversation-id", **model, **by_name,
            user_message=f"request {chat} " + " ".join(f"w{chat * 7 % n}" for n in range(3, 9)),
        )  # fmt: skip
        yield asked
        yield replace(asked, request_id=f"tool-{chat}", kind="continuation", assistant_message="b")
        yield replace(asked, request_id=f"title-{chat}", kind="title", user_message="a title?")
    fallback = {"chosen_by": "product", "propensity": None, **mini}
    yield replace(ROUTED, request_id="f", conversation_id="fell", user_message="go", **fallback)


@pytest.mark.slow
@pytest.mark.parametrize("with_labels", [True, False])
def test_from_journal_to_data_set_no_row_is_lost_and_no_decision_votes(tmp_path, with_labels):
    report, rows = ingested(tmp_path, [served.as_json() for served in served_week()])
    assert report.dropped == {
        "a product's helper call: title": 120,
        "another model call of the turn (added to it)": 120,
    }
    assert (report.rows_kept, report.conversations) == (161, 141)
    turns, catalog = tmp_path / "turns.parquet", load_catalog()
    by_person = {(r["conversation_id"], r["turn_index"]): r["chosen_by"] == "person" for r in rows}
    labels = tmp_path / "labels.parquet"
    labelled = label_turns(turns, labels, catalog)
    assert labelled.not_chosen == 41
    for row in pq.read_table(labels).to_pylist():
        codes = {code.removeprefix("-") for code in row["evidence"]}
        if codes & {"model_first", "model_later", "upgrade", "before_upgrade", "downgrade"}:
            assert by_person[row["conversation_id"], row["turn_index"]]
    build_from_turns(
        turns, tmp_path / "data", architecture="session", catalog=catalog,
        labels=labels if with_labels else None,
    )  # fmt: skip
    if with_labels:  # other evidence than the choice may label a turn that a router decided
        return
    samples = [
        pq.read_table(path)
        for path in (tmp_path / "data").glob("*.parquet")
        if path.stem != "traffic"
    ]
    used = {name for table in samples for name in table["conversation_id"].to_pylist()}
    assert len(used) > 60
    assert all(by_person[name, 1] for name in used)


def test_a_table_of_an_earlier_version_is_read(tmp_path):
    path = write_turns(tmp_path / "turns.parquet", [turn("c1", 1, "hello", "o3")])
    pq.write_table(pq.read_table(path).drop_columns(list(LATER_TURN_COLUMNS)), path)
    assert report_switches(path, load_catalog()).conversations == 1
