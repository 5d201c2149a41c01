"""Coding assistants' own session files: an event a row, a file a conversation."""

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.logs import ingest
from turnout.logs.formats import RawRow
from turnout.logs.readers import rows_of_turns
from turnout.logs.readers.sessions import READ_WITH_TURN, WITHOUT_TEXT

pytestmark = pytest.mark.slow  # many seconds in all

FACTS = ("turn_index", "user_message", "model", "assistant_message", "response_type")


def read(tmp_path, rows, name="session.jsonl"):
    file = tmp_path / name
    file.write_text("\n".join(map(json.dumps, rows)))
    report = ingest([file], tmp_path / "turns.parquet")
    return report, pq.read_table(tmp_path / "turns.parquet").to_pylist()


def facts(turns):
    return [tuple(turn[name] for name in FACTS) for turn in turns]


class ClaudeCode:
    """Writes a session's events; each follows the one before unless it names its parent."""

    def __init__(self):
        self.rows = []

    def event(self, kind, message, **more):
        number = len(self.rows)
        parent = f"u{number - 1}" if number else None
        row = {"type": kind, "uuid": f"u{number}", "parentUuid": parent, "sessionId": "s1",
               "isSidechain": False, "timestamp": f"2026-06-01T08:{number:02}:00.000Z",
               "message": message}  # fmt: skip
        self.rows.append(row | more)
        return f"u{number}"

    def says(self, content, **more):
        return self.event("user", {"role": "user", "content": content}, **more)

    def answers(self, *content, call=None, model="claude-opus-4-5", **more):
        message = {"id": call or f"m{len(self.rows)}", "type": "message", "role": "assistant",
                   "model": model, "content": list(content),
                   "usage": {"input_tokens": 3, "cache_read_input_tokens": 7,
                             "output_tokens": 5}}  # fmt: skip
        return self.event("assistant", message, **more)


def text(words):
    return {"type": "text", "text": words}


def test_a_turn_of_claude_code_is_all_that_followed_the_persons_words(tmp_path):
    log = ClaudeCode()
    log.rows.append({"type": "file-history-snapshot", "messageId": "x", "snapshot": {}})
    log.says("<command-name>/model</command-name><command-args>opus</command-args>")
    log.says("<local-command-stdout>Set model to opus</local-command-stdout>")
    log.says("A note.", isMeta=True)
    log.says([text("<system-reminder>x</system-reminder>"), text("find the race")])
    log.answers({"type": "thinking", "thinking": "…"}, call="m1")
    log.answers({"type": "tool_use", "name": "Read"}, call="m1")
    log.says([{"type": "tool_result", "content": "code"}])
    log.says("Explore.", isSidechain=True)
    log.answers(text("Two locks."), model="claude-haiku-4-5", isSidechain=True)
    log.answers(text("No lock."), call="m2")
    log.says("This session is being continued from a previous conversation.", isCompactSummary=True)
    log.says("rename it")
    log.answers(text("Renamed."), model="claude-haiku-4-5")
    report, turns = read(tmp_path, log.rows)
    assert facts(turns) == [
        (1, "find the race", "claude-opus-4-5", "No lock.", "success"),
        (2, "rename it", "claude-haiku-4-5", "Renamed.", "success"),
    ]
    first = turns[0]
    assert (first["llm_calls"], first["prompt_tokens"], first["cached_tokens"]) == (2, 20, 14)
    assert (first["tool_counts"], first["source"]) == ('{"Read": 1}', "claude code")
    assert report.dropped == {
        "a product's own note": 5,
        "a sub-agent's message": 2,
        "an event read with its turn": 5,
    }
    assert report.rows_read == len(log.rows)


@pytest.mark.parametrize("at_start", [False, True])
def test_of_an_edited_message_the_branch_that_the_person_ended_on_is_kept(tmp_path, at_start):
    log = ClaudeCode()
    first = None if at_start else log.says("first")
    if not at_start:
        first = log.answers(text("1"))
    log.says("second, misspelt")
    log.answers(text("what?"))
    log.says("second", parentUuid=first)
    log.answers(text("2"))
    report, turns = read(tmp_path, log.rows)
    assert [turn["user_message"] for turn in turns] == [*([] if at_start else ["first"]), "second"]
    assert turns[-1]["assistant_message"] == "2"
    assert report.dropped["a message edited or taken back"] == 1


def test_a_session_that_was_resumed_is_one_conversation(tmp_path):
    log = ClaudeCode()
    log.says("first")
    log.answers(text("1"))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/before.jsonl").write_text("\n".join(map(json.dumps, log.rows)))
    # An old version copies the events into another file, with another id.
    log.rows = [row | {"sessionId": "s2"} for row in log.rows]
    log.says("second", sessionId="s3")
    log.answers(text("2"), sessionId="s3", model="claude-haiku-4-5")
    (tmp_path / "logs/resumed.jsonl").write_text("\n".join(map(json.dumps, log.rows)))
    ingest([tmp_path / "logs"], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert [(t["conversation_id"], t["turn_index"], t["user_message"]) for t in turns] == [
        ("s1", 1, "first"), ("s1", 2, "second"),
    ]  # fmt: skip


def test_a_session_that_went_on_twice_is_two_conversations(tmp_path):
    (tmp_path / "logs").mkdir()
    for name in "ab":
        log = ClaudeCode()
        log.says("first", sessionId=name)
        log.answers(text("1"), sessionId=name)
        log.says(f"second of {name}", uuid=name, sessionId=name)
        log.answers(text("2"), parentUuid=name, sessionId=name)
        (tmp_path / f"logs/{name}.jsonl").write_text("\n".join(map(json.dumps, log.rows)))
    ingest([tmp_path / "logs"], tmp_path / "turns.parquet")
    turns = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert [(t["conversation_id"], t["user_message"]) for t in turns] == [
        ("a", "first"), ("a", "second of a"), ("b", "first"), ("b", "second of b"),
    ]  # fmt: skip


@pytest.mark.parametrize(("again", "made_from"), [("first", "claude-opus-4-5"), ("1st", None)])
def test_the_same_message_again_on_another_model_is_made_again(tmp_path, again, made_from):
    log = ClaudeCode()
    log.says("first")
    log.answers(text("no"))
    log.says(again, parentUuid=None)
    log.answers(text("yes"), model="claude-haiku-4-5")
    _, (turn,) = read(tmp_path, log.rows)
    assert (turn["model"], turn["regenerated_from"]) == ("claude-haiku-4-5", made_from)


@pytest.mark.parametrize(("mode", "n_turns"), [("prompt", 2), ("task-notification", 1)])
def test_what_a_person_writes_while_claude_code_works_is_a_turn(tmp_path, mode, n_turns):
    log = ClaudeCode()
    log.says("first")
    log.answers({"type": "tool_use", "name": "Bash"})
    queued = {"type": "queued_command", "prompt": "and this", "commandMode": mode}
    log.event("attachment", None, attachment=queued)
    log.answers(text("both done"))
    _, turns = read(tmp_path, log.rows)
    assert [turn["user_message"] for turn in turns] == ["first", "and this"][:n_turns]
    assert turns[-1]["assistant_message"] == "both done"


def test_an_image_keeps_its_place_and_its_answer(tmp_path):
    log = ClaudeCode()
    log.says("first")
    log.answers(text("1"), model="claude-opus-4-5")
    log.says([{"type": "image", "source": {}}])
    log.answers(text("a cat"), model="claude-haiku-4-5")
    log.says("third")
    log.answers(text("3"), model="claude-opus-4-5")
    report, turns = read(tmp_path, log.rows)
    assert facts(turns) == [
        (1, "first", "claude-opus-4-5", "1", "success"),
        (3, "third", "claude-opus-4-5", "3", "success"),
    ]
    assert report.dropped[WITHOUT_TEXT] == 1


def test_what_went_wrong_in_a_turn_is_told_and_names_no_model(tmp_path):
    log = ClaudeCode()
    log.says("first")
    log.answers(text("API Error"), model="<synthetic>", isApiErrorMessage=True)
    log.says("second")
    log.answers(text("working"))
    log.says("[Request interrupted by user]")
    _, turns = read(tmp_path, log.rows)
    assert facts(turns) == [
        (1, "first", None, None, "failed"),
        (2, "second", "claude-opus-4-5", "working", "cancelled"),
    ]


def codex(*events, **meta):
    rows = [("session_meta", {"id": "cx", **meta}), *events]
    return [
        {"timestamp": f"2026-06-02T08:00:{number:02}.000Z", "type": kind, "payload": payload}
        for number, (kind, payload) in enumerate(rows)
    ]


def item(role, words):
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": words}]
    return "response_item", {"type": "message", "role": role, "content": content}


def tokens(total):
    used = {"input_tokens": total, "cached_input_tokens": 2, "output_tokens": 3,
            "reasoning_output_tokens": 1}  # fmt: skip
    return "event_msg", {"type": "token_count", "info": {"last_token_usage": used}}


ENVIRONMENT = "<environment_context>\n<cwd>/a</cwd>\n</environment_context>"


def test_a_turn_of_codex_has_the_model_of_its_context_and_is_read_once(tmp_path):
    rows = codex(
        item("developer", "rules"),
        item("user", ENVIRONMENT),
        item("user", "why?"),
        ("event_msg", {"type": "user_message", "message": "why?"}),
        ("turn_context", {"model": "gpt-5-codex", "effort": "high"}),
        ("response_item", {"type": "function_call", "name": "shell", "arguments": "{}"}),
        ("response_item", {"type": "function_call_output", "output": "ok"}),
        tokens(10), tokens(10), tokens(20),
        ("event_msg", {"type": "agent_message", "message": "No cache."}),
        item("assistant", "No cache."),
    )  # fmt: skip
    report, turns = read(tmp_path, rows)
    assert facts(turns) == [(1, "why?", "gpt-5-codex", "No cache.", "success")]
    (turn,) = turns
    assert (turn["conversation_id"], turn["tool_counts"]) == ("cx", '{"shell": 1}')
    assert (turn["llm_calls"], turn["prompt_tokens"], turn["reasoning_tokens"]) == (2, 30, 2)
    assert report.rows_read == len(rows)


def test_equal_calls_of_codex_count_apart_where_their_total_grows(tmp_path):
    def call(total):
        kind, payload = tokens(10)
        payload["info"]["total_token_usage"] = {"input_tokens": total}
        return kind, payload

    rows = codex(item("user", "why?"), item("assistant", "so"), call(10), call(20), call(20))
    _, (turn,) = read(tmp_path, rows)
    assert (turn["llm_calls"], turn["prompt_tokens"]) == (2, 20)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize(
    "event",
    [
        {"type": "agent-colour", "colour": "blue"},
        # As Claude Code 2.1.332 stores a part of a request.
        {"type": "api-request-blob", "hash": "0", "message": {"role": "user", "content": "why?"}},
    ],
)
def test_events_that_a_newer_version_writes_are_notes(tmp_path, place, event):
    log = ClaudeCode()
    log.says("why?")
    log.answers(text("so"))
    log.rows.insert(place, {"sessionId": "s1", **event})
    report, (turn,) = read(tmp_path, log.rows)
    assert (turn["user_message"], report.rows_read) == ("why?", 3)
    assert report.dropped["a product's own note"] == 1
    rows = codex(item("user", "why?"), item("assistant", "so"), ("window_moved", {"x": 1}))
    # Codex 0.171 numbers its events.
    rows = [row | {"ordinal": number} for number, row in enumerate(rows)]
    rows.insert(place, rows.pop())
    report, (turn,) = read(tmp_path, rows)
    assert (turn["user_message"], report.rows_read) == ("why?", 4)


def test_a_turn_that_names_a_session_and_a_type_is_no_event(tmp_path):
    row = {"sessionId": "s1", "type": "chat", "turnIndex": 1, "userMessage": "why?", "model": "o3"}
    _, (turn,) = read(tmp_path, [row])
    assert turn["user_message"] == "why?"


def test_turns_before_a_compaction_are_kept_beside_events_without_an_id(tmp_path):
    log = ClaudeCode()
    for words in ("first", "second"):
        log.rows.append({"type": "mode", "sessionId": "s1", "mode": "default"})
        log.says(words)
        log.answers(text(words))
    last = log.rows[-1]["uuid"]
    log.event("system", None, subtype="compact_boundary", parentUuid=None, logicalParentUuid=last)
    log.says("This session is being continued from a previous conversation.", isCompactSummary=True)
    log.says("third")
    log.answers(text("third"))
    _, turns = read(tmp_path, log.rows)
    assert [turn["user_message"] for turn in turns] == ["first", "second", "third"]


def test_a_summary_of_codex_is_no_answer_and_its_call_is_no_call_of_the_turn(tmp_path):
    summary = "Another language model started to solve this problem and produced a summary: so far"
    rows = codex(
        item("user", "why?"), item("assistant", "so"), tokens(10),
        ("event_msg", {"type": "task_started"}),
        item("assistant", "so far"), tokens(90),
        ("compacted", {"message": summary}),
        item("user", "and then?"), item("assistant", "that"), tokens(20),
    )  # fmt: skip
    _, turns = read(tmp_path, rows)
    assert [(turn["assistant_message"], turn["prompt_tokens"]) for turn in turns] == [
        ("so", 10), ("that", 20),
    ]  # fmt: skip


def test_what_codex_writes_of_a_review_is_no_persons_message(tmp_path):
    review = "<user_action>\n<action>review</action>\n<results>fine</results>\n</user_action>"
    rows = codex(item("user", review), item("assistant", "fine"), item("user", "thanks"))
    _, turns = read(tmp_path, rows)
    assert [turn["user_message"] for turn in turns] == ["thanks"]


def test_a_turn_of_codex_that_ended_with_an_error_failed(tmp_path):
    ended = {"type": "task_complete", "last_agent_message": None, "error": {"message": "429"}}
    _, (turn,) = read(tmp_path, codex(item("user", "why?"), ("event_msg", ended)))
    assert turn["response_type"] == "failed"


def test_turns_of_codex_that_were_taken_back_are_counted(tmp_path):
    rows = codex(
        item("user", "first"), item("assistant", "1"),
        item("user", "second"), item("assistant", "2"),
        ("event_msg", {"type": "thread_rolled_back", "num_turns": 1}),
        item("user", "again"), ("event_msg", {"type": "turn_aborted"}),
    )  # fmt: skip
    report, turns = read(tmp_path, rows)
    assert [(turn["turn_index"], turn["user_message"]) for turn in turns] == [
        (1, "first"), (2, "again"),
    ]  # fmt: skip
    assert turns[1]["response_type"] == "cancelled"
    assert report.dropped["a message edited or taken back"] == 1


@pytest.mark.parametrize(("again", "made_from"), [("second", "gpt-5"), ("2nd", None)])
def test_a_turn_of_codex_asked_again_on_another_model_is_made_again(tmp_path, again, made_from):
    rows = codex(
        item("user", "first"), item("assistant", "1"),
        item("user", "second"), item("assistant", "2"),
        ("event_msg", {"type": "thread_rolled_back", "num_turns": 1}),
        ("turn_context", {"model": "gpt-5-mini"}), item("user", again), item("assistant", "3"),
    )  # fmt: skip
    _, turns = read(tmp_path, rows)
    assert [turn["model"] for turn in turns] == [turns[0]["model"], "gpt-5-mini"]
    assert turns[1]["regenerated_from"] == (made_from and turns[0]["model"])


def test_a_sub_agents_file_of_codex_is_no_conversation(tmp_path):
    folder = tmp_path / "sessions"
    folder.mkdir()
    for name, rows in {
        "helper": codex(item("user", "explore"), source={"subagent": "review"}, id="h"),
        "main": codex(item("user", "why?")),
    }.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = ingest([folder], tmp_path / "turns.parquet")
    assert (report.conversations, report.rows_kept) == (1, 1)
    assert report.dropped["a sub-agent's message"] == 1


names = st.sampled_from([
    "type", "role", "content", "text", "message", "id", "uuid", "parentUuid", "usage", "model",
    "info", "last_token_usage", "num_turns", "source", "name",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "assistant", "text", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant", "session_meta", "response_item", "event_msg",
                              "turn_context"]),
     "sessionId": values, "message": st.dictionaries(names, values, max_size=5),
     "payload": st.dictionaries(names, values, max_size=5)},
    optional={"uuid": values, "parentUuid": values, "timestamp": values, "isMeta": values},
)  # fmt: skip


@given(st.lists(events, max_size=4))
def test_no_event_makes_reading_fail_and_each_is_one_row(rows):
    read = list(rows_of_turns([RawRow("log", row) for row in rows], "log"))
    assert len(read) == len(rows)


OLD_CODEX = [
    {"id": "s1", "timestamp": "2025-07-01T08:00:00.000Z", "instructions": None, "git": {}},
    {"record_type": "state"},
    {"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "<environment_context>\nx\n</environment_context>"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "why?"}]},
    {"type": "reasoning", "summary": [], "encrypted_content": "x"},
    {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "1"},
    {"type": "function_call_output", "call_id": "1", "output": "ok"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
]  # fmt: skip


@pytest.mark.parametrize("as_document", [False, True])
def test_items_of_old_codex_sessions_have_no_frame(tmp_path, as_document):
    file = tmp_path / ("rollout-a.json" if as_document else "rollout-a.jsonl")
    document = {"session": OLD_CODEX[0], "items": OLD_CODEX[1:]}
    text = json.dumps(document) if as_document else "\n".join(map(json.dumps, OLD_CODEX))
    file.write_text(text)
    report = ingest([file], tmp_path / "turns.parquet")
    (turn,) = pq.read_table(tmp_path / "turns.parquet").to_pylist()
    assert (turn["conversation_id"], turn["user_message"], turn["assistant_message"]) == (
        "s1", "why?", "so",
    )  # fmt: skip
    assert (turn["model"], json.loads(turn["tool_counts"])) == (None, {"shell": 1})
    assert turn["timestamp"].month == 7
    assert report.rows_read == 8


def test_answers_to_a_slash_command_are_no_neighbours(tmp_path):
    def event(number, kind, content, **more):
        message = {"role": kind, "content": content} | more.pop("message", {})
        return {"type": kind, "sessionId": "s", "uuid": str(number), "message": message,
                "parentUuid": str(number - 1) if number else None,
                "timestamp": f"2026-05-04T12:0{number}:00Z"} | more  # fmt: skip

    usage = {"model": "claude-haiku-4-5", "id": "m", "usage": {"input_tokens": 900}}
    report, turns = read(tmp_path, [
        event(0, "user", "why?"),
        event(1, "assistant", [{"type": "text", "text": "so"}], message={"model": "o3"}),
        event(2, "user", "<command-name>/review</command-name><command-args>it</command-args>"),
        event(3, "user", "A long prompt of the product's.", isMeta=True),
        event(4, "assistant", [{"type": "text", "text": "A review."}], message=usage),
        event(5, "user", "and now?"),
        event(6, "assistant", [{"type": "text", "text": "yes"}], message={"model": "o3"}),
    ])  # fmt: skip
    assert [tuple(turn[name] for name in FACTS[:4]) for turn in turns] == [
        (1, "why?", "o3", "so"), (2, "and now?", "o3", "yes"),
    ]  # fmt: skip
    assert (report.rows_read, turns[0]["prompt_tokens"]) == (7, None)


@pytest.mark.parametrize("with_items", [False, True])
def test_a_codex_session_may_hold_what_the_screen_showed_alone(tmp_path, with_items):
    def line(kind, **payload):
        return {"timestamp": "2026-05-04T12:00:00Z", "type": kind, "payload": payload}

    rows = [
        line("session_meta", id="s1"),
        line("turn_context", model="gpt-5-codex"),
        line("event_msg", type="user_message", message="why?"),
        line("event_msg", type="agent_message", message="so"),
    ]
    if with_items:
        part = {"type": "input_text", "text": "why?"}
        rows.insert(2, line("response_item", type="message", role="user", content=[part]))
        part = {"type": "output_text", "text": "so"}
        rows.append(line("response_item", type="message", role="assistant", content=[part]))
    report, (turn,) = read(tmp_path, rows)
    assert (turn["user_message"], turn["model"], turn["assistant_message"]) == (
        "why?", "gpt-5-codex", "so",
    )  # fmt: skip
    assert report.rows_read == len(rows)
    assert report.dropped[READ_WITH_TURN] == (3 if with_items else 1)
