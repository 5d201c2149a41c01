"""Reading an answer on its way: whole or in pieces, well formed or not."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from turnout.protocols.chat_stream import MAX_BYTES, AnswerReader

PIECES = ["one ", "two\n", "dréi ", "data: four"]


def streamed() -> bytes:
    chunks = [{"model": "m", "choices": [{"delta": {"content": piece}}]} for piece in PIECES]
    chunks.append({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6}})
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks]
    return ("".join([": a comment\n\n", *lines, "data: [DONE]\n\n"])).encode()


@given(st.lists(st.integers(0, len(streamed())), max_size=20))
def test_a_stream_reads_the_same_however_it_is_cut(cuts):
    data, reader = streamed(), AnswerReader(streamed=True)
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        reader.feed(data[start:end])
    answer = reader.answer()
    assert (answer.text, answer.model) == ("".join(PIECES), "m")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 6)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_reading_fail(data, whole):
    reader = AnswerReader(streamed=not whole)
    reader.feed(data)
    reader.answer()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "usage", "content", "tool_calls", "function"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_json_makes_reading_fail(body):
    reader = AnswerReader(streamed=False)
    reader.feed(json.dumps(body).encode())
    reader.answer()


def test_tool_calls_are_counted_by_name():
    calls = [{"function": {"name": n, "arguments": "{}"}} for n in ("read", "read", "run")]
    reader = AnswerReader(streamed=False)
    reader.feed(json.dumps({"choices": [{"message": {"tool_calls": calls}}]}).encode())
    assert reader.answer().tools == ("read", "read", "run")


def test_an_endless_answer_is_kept_only_so_far():
    reader = AnswerReader(streamed=False)
    for _ in range(3):
        reader.feed(b"x" * (MAX_BYTES // 2))
    assert not reader._pieces
    assert reader.answer().text == ""
