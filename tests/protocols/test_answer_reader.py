"""Reading answers on their way: of every format, whole or in pieces, well formed or not."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocols import WIRE_FORMATS, AnswerReader, chat, messages, responses
from turnout.protocols.event_stream import MAX_BYTES, MAX_HELD_BYTES

FORMATS = pytest.mark.parametrize("wire_format", WIRE_FORMATS.values(), ids=WIRE_FORMATS)
PIECES = ["one ", "two\n", "dréi ", "data: four 🚂"]
CALLED = ("read", "run")
USAGE = (50, 7, 5, 40, 8)


def events(*items, end="\n\n", named=True):
    lines = []
    for item in items:
        name = f"event: {item['type']}{end[: len(end) // 2]}" if named and "type" in item else ""
        lines.append(f"{name}data: {json.dumps(item, ensure_ascii=False)}{end}")
    return "".join(lines).encode()


def chat_chunk(delta, index=0, **more):
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, **more}]}


def call(index, **more):
    return chat_chunk({"tool_calls": [{"index": index, **more}]})


CHAT_USAGE = {"id": "c1", "model": "m", "choices": [], "usage": {
    "prompt_tokens": 50, "completion_tokens": 7,
    "completion_tokens_details": {"reasoning_tokens": 5},
    "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 8}}}  # fmt: skip


def chat_stream(end="\n\n"):
    pieces = [chat_chunk({"content": piece}) for piece in PIECES]
    calls = [call(0, id="t1", function={"name": "read", "arguments": ""}),
             call(0, function={"name": "read", "arguments": "{}"}),
             call(1, id="t2", function={"name": "run", "arguments": "{}"})]  # fmt: skip
    last = chat_chunk({}, finish_reason="stop")
    return events(*pieces, *calls, last, CHAT_USAGE, end=end) + f"data: [DONE]{end}".encode()


def responses_stream(end="\n\n"):
    deltas = [{"type": "response.output_text.delta", "output_index": 1, "delta": piece}
              for piece in PIECES]  # fmt: skip
    calls = [{"type": kind, "output_index": index, "item": {"type": "function_call", "name": name}}
             for index, name in enumerate(CALLED, 2)
             for kind in ("response.output_item.added", "response.output_item.done")]  # fmt: skip
    usage = {"input_tokens": 50, "input_tokens_details": {
             "cached_tokens": 40, "cache_write_tokens": 8}, "output_tokens": 7,
             "output_tokens_details": {"reasoning_tokens": 5}}  # fmt: skip
    response = {"id": "c1", "model": "m", "status": "completed", "usage": usage, "output": []}
    started = {"type": "response.created", "response": {"id": "c1", "status": "in_progress"}}
    last = {"type": "response.completed", "response": response}
    return events(started, *deltas, *calls, last, end=end)


def messages_stream(end="\n\n"):
    usage = {"input_tokens": 2, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 8,
             "cache_creation": {"ephemeral_1h_input_tokens": 3}, "output_tokens": 1}  # fmt: skip
    deltas = [{"type": "content_block_delta", "index": 0,
               "delta": {"type": "text_delta", "text": piece}} for piece in PIECES]  # fmt: skip
    calls = [
        {
            "type": "content_block_start",
            "index": index,
            "content_block": {"type": "tool_use", "name": name},
        }
        for index, name in enumerate(CALLED, 1)
    ]
    more = {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5}}
    return events(
        {"type": "message_start", "message": {"id": "c1", "model": "m", "usage": usage}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        *calls,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": more},
        {"type": "message_stop"},
        end=end,
    )


STREAMS = {"chat": chat_stream, "responses": responses_stream, "messages": messages_stream}
CASES = pytest.mark.parametrize("name", STREAMS)


def fed(wire_format, chunks, **more):
    """A reader that was given the chunks, and what it passed on."""
    reader = AnswerReader(wire_format, streamed=True, **more)
    passed = [reader.feed(chunk) for chunk in chunks]
    return reader, b"".join([*passed, reader.close()])


def answer_of(wire_format, *chunks):
    return fed(wire_format, chunks)[0].answer()


@CASES
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"], ids=["lf", "crlf", "cr"])
@given(cuts=st.lists(st.integers(0, 4000), max_size=20))
def test_a_stream_reads_the_same_and_passes_whole_however_it_is_cut(name, end, cuts):
    data = b": a comment" + end.encode() + STREAMS[name](end)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    reader, passed = fed(WIRE_FORMATS[name], chunks)
    answer = reader.answer()
    assert passed == data
    assert (answer.text, answer.model, answer.response_id) == ("".join(PIECES), "m", "c1")
    assert answer.tools == CALLED
    assert (answer.complete, answer.failed, answer.error) == (True, False, None)
    usage = answer.usage
    assert (
        usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens,
        usage.cached_tokens, usage.cache_write_tokens,
    ) == USAGE  # fmt: skip


@CASES
def test_a_stream_is_complete_with_its_last_event_and_not_before(name):
    data = STREAMS[name]()
    reader = AnswerReader(WIRE_FORMATS[name], streamed=True)
    blocks = data.split(b"\n\n")[:-1]
    ended = []
    for block in blocks:
        reader.feed(block + b"\n\n")
        ended.append(reader.is_complete())
    # A chat answer is whole when its choice says why it ends; usage and [DONE] may follow.
    assert ended.index(True) == len(blocks) - (3 if name == "chat" else 1)


@given(st.lists(st.integers(0, 4000), max_size=20), st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]))
def test_the_usage_that_the_caller_did_not_ask_for_is_read_and_taken_out(cuts, end):
    data = chat_stream(end)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    reader, passed = fed(chat, chunks, usage_withheld=True)
    assert passed == data.replace(events(CHAT_USAGE, end=end), b"")
    assert reader.answer().usage.prompt_tokens == 50


def test_events_are_passed_on_as_soon_as_they_are_whole():
    reader = AnswerReader(chat, streamed=True)
    assert reader.feed(b": ping\n") == b": ping\n"
    assert reader.feed(b'data: {"a"') == b""
    assert reader.feed(b": 1}\n\nda") == b'data: {"a": 1}\n\n'
    assert reader.feed(b"ta: [DONE]") == b""
    assert reader.close() == b"data: [DONE]"


def test_an_event_of_any_length_is_passed_on_before_it_ends():
    reader = AnswerReader(chat, streamed=True, usage_withheld=True)
    chunk = b"~" * 1000
    passed = [reader.feed(b"data: ")]
    passed += [reader.feed(chunk) for _ in range(2 * MAX_BYTES // 1000)]
    assert sum(map(len, passed)) > 2 * MAX_BYTES - 2 * MAX_HELD_BYTES
    passed += [reader.feed(b"\n\n" + chat_stream()), reader.close()]
    assert b"".join(passed).count(b"~") == len(chunk) * (2 * MAX_BYTES // 1000)
    assert reader.answer().text == "".join(PIECES)


def test_events_without_a_blank_line_between_them_are_read_and_passed_on():
    data = events(*(chat_chunk({"content": piece}) for piece in PIECES), end="\n")
    reader, passed = fed(chat, [data])
    assert (reader.answer().text, passed) == ("".join(PIECES), data)


def test_data_of_several_lines_is_one_event():
    assert answer_of(chat, b'data: {"model":\ndata: "m"}\n\n').model == "m"


def test_choices_are_kept_apart():
    chunks = [chat_chunk({"content": f"{n}{piece}"}, n) for piece in "ab" for n in (1, 0)]
    answer = answer_of(chat, events(*chunks))
    assert (answer.text, answer.other_texts) == ("0a0b", ("1a1b",))
    whole = {"choices": [{"index": n, "message": {"content": f"w{n}"}} for n in (1, 0)]}
    answer = chat.read_answer(whole)
    assert (answer.text, answer.other_texts) == ("w0", ("w1",))


@pytest.mark.parametrize(
    ("calls", "names"),
    [
        pytest.param([call(0, id="a", function={"name": "read"})] * 3, ("read",), id="repeated"),
        pytest.param([call(0, id=i, function={"name": "read"}) for i in "ab"], ("read", "read"),
                     id="one-index-two-ids"),
        pytest.param([chat_chunk({"tool_calls": [{"function": {"name": "read"}}]})] * 2,
                     ("read", "read"), id="neither-index-nor-id"),
        pytest.param([chat_chunk({"function_call": {"name": "read"}})] * 2, ("read",), id="legacy"),
        pytest.param([call(0, id="a", function={"name": "re"}), call(0, function={"name": "ad"})],
                     ("read",), id="in-pieces"),
    ],
)  # fmt: skip
def test_a_tool_call_is_counted_once(calls, names):
    assert answer_of(chat, events(*calls)).tools == names


@pytest.mark.parametrize(
    ("wire_format", "item"),
    [
        pytest.param(chat, {"error": {"message": "overloaded"}}, id="chat"),
        pytest.param(chat, {"error": "overloaded"}, id="chat-text"),
        pytest.param(chat, {"object": "error", "message": "overloaded"}, id="chat-object"),
        pytest.param(chat, {"choices": [{"finish_reason": "error", "error": {
            "message": "overloaded"}}]}, id="chat-choice"),
        pytest.param(responses, {"type": "error", "message": "overloaded"}, id="responses"),
        pytest.param(responses, {"type": "response.failed", "response": {
            "status": "failed", "error": {"message": "overloaded"}}}, id="responses-failed"),
        pytest.param(messages, {"type": "error", "error": {
            "type": "overloaded_error", "message": "overloaded"}}, id="messages"),
    ],
)  # fmt: skip
def test_an_error_event_in_a_stream_is_a_failure(wire_format, item):
    answer = answer_of(wire_format, events(item) + b"data: [DONE]\n\n")
    assert (answer.failed, answer.complete, answer.error) == (True, False, "overloaded")


@pytest.mark.parametrize("wire_format", [chat, responses, messages])
def test_an_error_that_only_the_events_name_tells_is_a_failure(wire_format):
    data = b'event: error\ndata: {"message": "overloaded"}\n\ndata: [DONE]\n\n'
    answer = answer_of(wire_format, data)
    assert (answer.failed, answer.complete, answer.error) == (True, False, "overloaded")


def test_a_response_that_was_cancelled_is_a_failure():
    assert responses.read_answer({"status": "cancelled", "output": []}).failed


def test_events_without_a_choice_are_no_answer():
    assert not answer_of(chat, events({"detail": "no"}) + b"data: [DONE]\n\n").complete


def test_a_mark_of_the_encoding_before_the_first_event_is_passed_over():
    data = b"\xef\xbb\xbf" + events(chat_chunk({"content": "hi"}))
    reader, passed = fed(chat, [data])
    assert (reader.answer().text, passed) == ("hi", data)


@CASES
def test_a_stream_that_broke_ends_with_an_error_that_is_read_as_one(name):
    data = STREAMS[name]()
    reader = AnswerReader(WIRE_FORMATS[name], streamed=True)
    passed = reader.feed(data[: len(data) // 2])
    assert not reader.answer().complete
    # The torn event is thrown away, so a client never meets half of one.
    ended = answer_of(WIRE_FORMATS[name], passed + reader.error_event("the upstream broke off"))
    assert (ended.failed, ended.error) == (True, "the upstream broke off")


def test_an_error_event_after_half_an_event_stands_alone():
    reader = AnswerReader(chat, streamed=True)
    passed = reader.feed(b"data: " + b"x" * (2 * MAX_HELD_BYTES))
    assert answer_of(chat, passed + reader.error_event("broken")).error == "broken"


@FORMATS
@given(data=st.lists(st.binary(max_size=300)), streamed=st.booleans())
def test_no_bytes_make_reading_fail(wire_format, data, streamed):
    reader = AnswerReader(wire_format, streamed=streamed)
    passed = [reader.feed(chunk) for chunk in data]
    assert b"".join([*passed, reader.close()]) == b"".join(data)
    reader.answer()
    reader.error_event("x").decode()


WORDS = [
    "choices", "message", "usage", "content", "tool_calls", "function", "delta", "index", "type",
    "error", "response", "item", "output", "output_index", "content_block", "text", "id", "name",
    "response.output_item.done", "content_block_start", "message_delta", "message_start",
    "tool_use",
]  # fmt: skip
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
)


@FORMATS
@given(body=ANY_JSON)
def test_no_json_makes_reading_fail(wire_format, body):
    whole = AnswerReader(wire_format, streamed=False)
    whole.feed(json.dumps(body).encode())
    whole.answer()
    answer_of(wire_format, events(body, named=False) * 2)


def test_deep_nesting_in_an_answer_is_left_unread():
    deep = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    reader = AnswerReader(chat, streamed=False)
    reader.feed(deep)
    assert reader.answer().text == ""
    assert answer_of(chat, b"data: " + deep + b"\n\n" + chat_stream()).text == "".join(PIECES)


def test_an_endless_answer_is_kept_only_so_far():
    reader = AnswerReader(chat, streamed=False)
    for _ in range(3):
        assert len(reader.feed(b"x" * (MAX_BYTES // 2))) == MAX_BYTES // 2
    assert not reader._pieces
    assert reader.answer().text == ""


def test_words_in_parts_are_read_from_a_stream_too():
    reader = AnswerReader(chat, streamed=True)
    reader.feed(events(chat_chunk({"content": [{"type": "text", "text": "in "}]})))
    reader.feed(events(chat_chunk({"content": "parts"})))
    assert reader.answer().text == "in parts"
