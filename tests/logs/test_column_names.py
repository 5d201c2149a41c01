"""Columns by other names: spelled differently, inside of JSON columns, or guessed."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnout.errors import RecordError, SettingsError
from turnout.logs import ingest

TURN = {"conversation_id": "c1", "turn_index": 1, "user_message": "prove it", "model": "o3"}
NOON = "2026-05-04T12:00:00Z"


def read(tmp_path, rows, name="log.jsonl", **more):
    file = tmp_path / name
    if name.endswith(".csv"):
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("\n".join(map(json.dumps, rows)))
    report = ingest([file], tmp_path / "turns.parquet", **more)
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def said(turn):
    return tuple(turn[name] for name in TURN)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("log.csv", ["Conversation Id", " Turn Index", "USER MESSAGE", "model "]),
        ("log.jsonl", ["ConversationId", "TurnIndex", "UserMessage", "Model"]),
        ("log.parquet", ["session_Id", "turn-no", "Prompt", "modelName"]),
    ],
)
def test_a_name_is_known_in_any_spelling(tmp_path, name, names):
    report, (turn,) = read(tmp_path, [dict(zip(names, TURN.values(), strict=True))], name)
    assert said(turn) == tuple(TURN.values())
    assert report.ignored_columns == []


def portal_row(**more):
    """As Log Analytics exports a custom event to CSV."""
    own = {"conversationId": "c1", "turnIndex": "1", "userMessage": "prove it", "model": "o3",
           "promptTokens": "12", "area": "billing"}  # fmt: skip
    return {
        "timestamp [UTC]": "5/4/2026, 1:02:03.456 PM", "name": "chat", "message": "200 OK",
        "customDimensions": json.dumps(own | more), "session_Id": "browser", "user_Id": "ann",
    }  # fmt: skip


def test_an_export_of_application_insights_is_read_by_its_custom_dimensions(tmp_path):
    report, (turn,) = read(tmp_path, [portal_row()], "export.csv")
    assert said(turn) == tuple(TURN.values())
    assert turn["timestamp"].isoformat() == "2026-05-04T13:02:03.456000+00:00"
    assert (turn["prompt_tokens"], turn["user_id"] is None) == (12, False)
    assert report.ignored_columns == [
        "customDimensions.area", "message", "name", "session_Id",
    ]  # fmt: skip


def test_the_tables_of_a_workspace_name_their_columns_differently(tmp_path):
    own = {"ConversationId": "c1", "Prompt": "prove it", "Model": "o3"}
    row = {"TimeGenerated [UTC]": "5/4/2026, 12:00:00.000 AM", "Properties": json.dumps(own)}
    _, (turn,) = read(tmp_path, [row], "AppEvents.csv")
    assert (said(turn), turn["timestamp"].hour) == (tuple(TURN.values()), 0)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_path_names_a_column_in_a_column(tmp_path, name):
    own = {"text": "prove it", "request": {"engine": "o3"}}
    row = {"conversation_id": "c1", "turn_index": 1,
           "payload": json.dumps(own) if name.endswith(".csv") else own}  # fmt: skip
    columns = {"user_message": "payload.text", "model": "payload.request.engine"}
    _, (turn,) = read(tmp_path, [row], name, columns=columns)
    assert said(turn) == tuple(TURN.values())


def test_a_path_that_is_nowhere_is_refused_with_those_that_are(tmp_path):
    row = TURN | {"payload": {"text": "x"}}
    with pytest.raises(SettingsError, match=r"payload\.txt.*payload\.text"):
        read(tmp_path, [row], columns={"user_message": "payload.txt"})


def test_a_message_that_is_json_is_a_message_and_no_columns(tmp_path):
    row = TURN | {"user_message": '{"model": "gpt-4o", "timestamp": 1}'}
    report, (turn,) = read(tmp_path, [row])
    assert (turn["model"], turn["user_message"], turn["timestamp"]) == (
        "o3", row["user_message"], None,
    )  # fmt: skip
    assert report.ignored_columns == []


def test_a_column_of_a_whole_conversation_can_be_named(tmp_path):
    row = {"ref": "c9", "meta": {"at": NOON, "who": "ann"}, "messages": [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "1", "model": "o3"},
        {"role": "user", "content": "two"},
    ]}  # fmt: skip
    columns = {"conversation_id": "ref", "timestamp": "meta.at", "user_id": "meta.who",
               "model": "engine"}  # fmt: skip
    with pytest.raises(SettingsError, match="model=engine"):
        read(tmp_path, [row], columns=columns)
    _, turns = read(tmp_path, [row | {"engine": "gpt-4o"}], columns=columns)
    assert [(t["conversation_id"], t["model"]) for t in turns] == [("c9", "o3"), ("c9", "gpt-4o")]
    assert all(t["timestamp"] and t["user_id"] not in (None, "ann") for t in turns)


def unnamed_rows():
    for number in range(6):
        yield {
            "conv_ref": f"c{number // 2}", "seq": number % 2 + 1, "lang": "en",
            "words": f"please prove the theorem number {number}",
            "engine": ["gpt-4o", "o3"][number % 2], "latency": 1.5,
        }  # fmt: skip


def test_the_error_of_unknown_names_is_the_option_that_reads_them(tmp_path):
    rows = list(unnamed_rows())
    with pytest.raises(RecordError, match="These look like it") as refused:
        read(tmp_path, rows)
    options = str(refused.value).partition("like it: ")[2].split(" --map ")
    columns = dict(option.removeprefix("--map ").split("=") for option in options)
    assert columns == {
        "conversation_id": "conv_ref", "turn_index": "seq", "user_message": "words",
        "model": "engine",
    }  # fmt: skip
    _, turns = read(tmp_path, rows, columns=columns)
    assert [turn["turn_index"] for turn in turns] == [1, 2] * 3


def test_a_path_is_offered_too(tmp_path):
    rows = [{"doc": {"ref_id": "c", "when": NOON, "what": "prove it now", "by": "o3"}}]
    with pytest.raises(RecordError) as refused:
        read(tmp_path, rows)
    assert "--map user_message=doc.what" in str(refused.value)
    assert "--map model=doc.by" in str(refused.value)


def test_rows_without_a_text_are_told_the_known_layouts_and_no_option(tmp_path):
    with pytest.raises(RecordError, match="ChatGPT account export") as refused:
        read(tmp_path, [{"id": "u1", "plan": "pro"}])
    assert "--map user_message=COLUMN" in str(refused.value)
    assert "--map conversation_id" not in str(refused.value)


def test_a_log_that_names_no_model_is_read(tmp_path):
    rows = [{"session_id": "c", "created_at": NOON, "prompt": "prove it"}]
    report, (turn,) = read(tmp_path, rows)
    assert (turn["user_message"], turn["model"]) == ("prove it", None)
    assert report.noted["no model"] == 1


def test_a_span_in_application_insights_is_a_model_call(tmp_path):
    own = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "o3",
        "gen_ai.conversation.id": "c1", "gen_ai.usage.input_tokens": "12",
        "gen_ai.input.messages": json.dumps([{"role": "user", "content": "prove it"}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": "so"}]),
    }  # fmt: skip
    row = {"timestamp [UTC]": "5/4/2026, 1:02:03.456 PM", "id": "s1", "operation_Id": "t1",
           "name": "chat o3", "duration": "1500.5", "success": "False",
           "customDimensions": json.dumps(own)}  # fmt: skip
    other = row | {"id": "s2", "customDimensions": "{}"}
    report, (turn,) = read(tmp_path, [row, other], "dependencies.csv", skip_unreadable=True)
    assert said(turn) == tuple(TURN.values())
    assert (turn["prompt_tokens"], turn["duration_ms"]) == (12, 1500)
    assert turn["response_type"] == "failed"
    assert report.rows_read == 2
