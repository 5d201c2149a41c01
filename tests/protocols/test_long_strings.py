"""Long strings of a JSON text are read as Python reads them, only piece by piece."""

import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.protocols import Changes, JsonBody, json_body

characters = st.sampled_from([*'ab"\\/{}[],: \né会🚀\x01', "\ud83d", "\udc00"])
texts = st.text(characters, max_size=200)
json_values = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)


@given(st.dictionaries(texts, json_values, max_size=3), st.booleans(), st.integers(0, 400))
@example({"a": "🚀" * 30}, True, 400)
@example({"a": "\\" * 33}, True, 400)
@example({"a": "\\" * 33}, True, 80)
@example({"a" * 40: "b" * 40, "c": ["d" * 40]}, True, 400)
@example({"a": [1] * 40, "b": "c" * 40}, True, 400)
def test_any_body_is_read_as_python_reads_it(value, is_ascii, n_kept):
    text = json.dumps(value, ensure_ascii=is_ascii)[:n_kept]
    assume("\ud83d" not in text and "\udc00" not in text)  # no UTF-8 gives half of a pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "_LONG_CHARS", 0)
        patch.setattr(json_body, "_PIECE_CHARS", 16)
        try:
            expected = json.loads(text)
        except ValueError:
            with pytest.raises(RecordError):
                JsonBody.from_bytes(text.encode())
        else:
            body = JsonBody.from_bytes(text.encode())
            assert body.values == expected
            assert body.changed(Changes({})) == text.encode()
            assert [body.text_of(name) for name in expected] == [
                json.dumps(each, ensure_ascii=is_ascii) for each in expected.values()
            ]


@pytest.mark.parametrize("words", ["some words ", 'print("x")\n', "\\\\", "会話", "🚀"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_body_with_a_long_string_keeps_its_bytes_and_its_words(words, is_ascii):
    long = words * (600_000 // len(words))
    asked = {"before": [1], "messages": [{"role": "user", "content": long}], "model": "turnout"}
    text = json.dumps(asked, ensure_ascii=is_ascii)
    body = JsonBody.from_bytes(text.encode())
    assert body.values == asked
    changed = body.changed(Changes({"model": "quick"}))
    assert changed == text.replace('"turnout"', '"quick"').encode()


def test_where_a_long_text_is_wrong_is_told_by_its_own_place():
    text = json.dumps({"messages": ["x" * 600_000]})[:-1] + "; }"
    with pytest.raises(RecordError, match=f"character {len(text) - 3}"):
        JsonBody.from_bytes(text.encode())
