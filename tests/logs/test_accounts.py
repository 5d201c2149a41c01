"""Every row of a log is a turn or is counted under a reason, in every layout."""

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.logs import ingest

pytestmark = pytest.mark.slow

TITLE = "Generate a title for this conversation: hi"
MESSAGES = st.sampled_from(
    ["hi", "why?", "", "  ", TITLE, "<system-reminder>x</system-reminder>", None]
)
ROLES = st.sampled_from(["user", "assistant", "tool", "system", "other"])
LISTS = st.lists(st.tuples(ROLES, MESSAGES), max_size=4)


def flat(number, said):
    return {"conversation_id": f"c{number % 2}", "turn_index": number, "model": "o3",
            "user_message": said[-1][1] if said else ""}  # fmt: skip


def message_list(number, said):
    return {"id": f"c{number % 2}", "model": "o3",
            "messages": [{"role": role, "content": text} for role, text in said]}  # fmt: skip


def spend_log(number, said):
    return {
        "request_id": f"r{number}", "spend": 0.1, "call_type": "acompletion", "model": "o3",
        "messages": message_list(number, said)["messages"], "response": {},
        "startTime": f"2026-05-04T12:00:{number:02}Z",
    }  # fmt: skip


def claude_export(number, said):
    return {"uuid": f"c{number}", "chat_messages": [
        {"uuid": str(n), "sender": "human" if role == "user" else role, "text": text,
         "parent_message_uuid": str(max(0, n - 2)), "created_at": "2026-05-04T12:00:00Z"}
        for n, (role, text) in enumerate(said, start=1)
    ]}  # fmt: skip


def observation(number, said):
    return {"id": f"o{number}", "traceId": "t", "type": "GENERATION" if number % 3 else "SPAN",
            "model": "o3", "input": message_list(number, said)["messages"], "output": "so",
            "startTime": f"2026-05-04T12:00:{number:02}Z"}  # fmt: skip


def session_event(number, said):
    role, text = said[-1] if said else ("note", None)
    return {"type": role, "sessionId": "s", "uuid": str(number), "parentUuid": str(number - 1),
            "message": {"role": role, "content": text or ""}}  # fmt: skip


# A row of these layouts is one row of the account; of the others it is as many as it has turns.
ONE_EACH = [flat, spend_log, observation, session_event]
SURE = [("user", "hello there"), ("assistant", "yes")]


@pytest.mark.parametrize("layout", [*ONE_EACH, message_list, claude_export])
@settings(max_examples=3, deadline=None)
@given(st.lists(LISTS, min_size=5, max_size=30))
def test_rows_in_are_rows_kept_plus_rows_counted(tmp_path_factory, layout, lists):
    folder = tmp_path_factory.mktemp("log")
    rows = [layout(number, said) for number, said in enumerate([SURE[:1], *lists], start=1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ingest([folder / "log.jsonl"], folder / "turns.parquet", skip_unreadable=True)
    turns = pq.read_table(folder / "turns.parquet").to_pylist()
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    assert report.rows_read == len(rows) if layout in ONE_EACH else report.rows_read >= len(rows)
    assert len(turns) == report.rows_kept
    assert all(turn["user_message"].strip() for turn in turns)
    assert not any("system-reminder" in turn["user_message"] for turn in turns)
