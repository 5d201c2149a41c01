"""Damaged requests, headers and answers: every reader ends, and raises only what it says it does.

`TURNOUT_FUZZ_INPUTS=100000 pytest tests/protocols/test_fuzz.py` tries more.
"""

import json
import os
import random

import pytest

from tests.integrations.agents import ClaudeCode, Codex, item, text
from tests.upstream import answers
from turnout.errors import RecordError
from turnout.protocols import WIRE_FORMATS, AnswerReader, Changes, JsonBody, read_call

N_INPUTS = int(os.environ.get("TURNOUT_FUZZ_INPUTS", "2000"))
_ASKED = {"model": "m", "stream": True, "tools": [{"name": "t", "function": {"name": "t"}}]}
_USER = {"role": "user", "content": [text("use the tool <system-reminder>x</system-reminder> é")]}
BODIES = {
    "chat": [_ASKED | {"messages": [_USER], "stream_options": {"include_usage": True}, "n": 2}],
    "responses": [_ASKED | {"input": [*Codex("").items, item("user", "Why?")]}],
    "messages": [ClaudeCode("").body([_USER, {"role": "assistant", "content": "é"}, _USER])],
}
HEADERS = {**ClaudeCode("").headers(x_claude_code_agent_id="a"), "x-session-id": "s" * 20,
           "x-codex-turn-metadata": '{"turn_id": "t", "window_number": 3}'}  # fmt: skip
STREAMS = {"chat": answers.chat_stream, "responses": answers.responses_stream,
           "messages": answers.messages_stream}  # fmt: skip
# What real clients and servers get wrong.
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"1e999", b"NaN", b"-", b"0",
          b"\r", b"\n", b"\n\n", b"data: ", b"data:[DONE]", b"event: error\n", b"\xff", b"\x00",
          b"\xed\xa0\x80", b"\\ud83d", b"\xe2\x80\xa8", b"<system-reminder>", b"[" * 600,
          b'{"error":', b'"usage":1', b'"choices":{}', b"9" * 5000, b"true"]  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some cut, doubled, swapped, or replaced by others."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([0, 1, 3, 20, 200]))
        middle = rng.choice(
            [rng.choice(PIECES), data[start:end] * 2, b"", rng.randbytes(rng.randint(1, 4))]
        )
        data = data[:start] + middle + data[end:]
    return data


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_damaged_requests_are_read_or_refused_and_change_in_nothing_but_their_model(name):
    rng, n_read = random.Random(1), 0
    for number in range(N_INPUTS):
        source = json.dumps(rng.choice(BODIES[name]), ensure_ascii=number % 2 == 0).encode()
        data = damaged(source, rng)
        headers = {
            key: damaged(value.encode(), rng).decode("latin-1") if rng.random() < 0.2 else value
            for key, value in HEADERS.items()
        }
        try:
            body = JsonBody.from_bytes(data)
            read_call(WIRE_FORMATS[name], headers, body)
        except RecordError:
            continue
        n_read += 1
        assert body.changed(Changes()) == data
        changed = body.changed(Changes({"model": "other", **WIRE_FORMATS[name].usage_parameters(
            body.values)}, dropped=["tools"], renamed={"stream": "streamed"}))  # fmt: skip
        again = JsonBody.from_bytes(changed).values
        assert (again["model"], "tools" in again) == ("other", False)
    assert n_read > N_INPUTS // 20


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_damaged_answers_are_passed_on_whole_and_read_as_far_as_they_can_be(name):
    rng, n_complete = random.Random(2), 0
    body = BODIES[name][0]
    whole = json.dumps(answers.chat_whole(body) if name == "chat" else {}).encode()
    stream = b"".join(STREAMS[name](body))
    for _ in range(N_INPUTS):
        streamed = rng.random() < 0.9
        data = damaged(stream if streamed else whole, rng)
        reader = AnswerReader(WIRE_FORMATS[name], streamed=streamed)
        passed, start = [], 0
        while start < len(data):
            end = start + rng.choice([1, 7, 100, 5000])
            passed.append(reader.feed(data[start:end]))
            start = end
        if rng.random() < 0.5:
            reader.error_event("broken").decode()
        passed.append(reader.close())
        assert b"".join(passed) == data
        answer = reader.answer()
        assert not (answer.complete and answer.failed)
        json.dumps([answer.text, answer.tools, answer.model, answer.error]).encode()
        answer.text.encode()
        n_complete += answer.complete
    assert N_INPUTS // 20 < n_complete < N_INPUTS
