"""A body is changed by splicing: what is not changed keeps its bytes."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnout.errors import RecordError
from turnout.protocols import Changes, JsonBody, json_body
from turnout.protocols.json_body import MAX_DEPTH


def changed(body: bytes, dropped=(), renamed=None, **values) -> bytes:
    return JsonBody.from_bytes(body).changed(Changes(values, dropped, renamed or {}))


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(rb'"text": "half \ud83d"', id="lone-surrogate"),
        pytest.param(rb'"text": "\u00fc\/\u0041"', id="escapes"),
        pytest.param(b'"n": 1e999, "m": -0.0, "k": 1.50', id="numbers"),
        pytest.param(b'"n": ' + b"9" * 5000, id="integer-of-5000-digits"),
        pytest.param(b'"a": 1, "a": 2', id="duplicate-keys"),
        pytest.param('"ключ": "значение 🚂"'.encode(), id="letters-of-all-lengths"),
        pytest.param(b'"deep":\t[ {"model" : "mine"} ,\r\n2 ]', id="spacing"),
    ],
)
def test_what_is_not_changed_keeps_its_bytes(rest):
    body = b' {"model": "auto", ' + rest + b"}\n"
    assert changed(body, model="deep") == b' {"model": "deep", ' + rest + b"}\n"


def test_every_one_of_duplicate_names_is_changed():
    body = b'{"model": "a", "x": 1, "model": "b"}'
    assert changed(body, model="m") == b'{"model": "m", "x": 1, "model": "m"}'
    assert changed(body, ["model"]) == b'{"x": 1}'


@pytest.mark.parametrize(
    ("body", "kwargs", "expected"),
    [
        pytest.param(b"{}", {"model": "m"}, b'{"model": "m"}', id="added-to-nothing"),
        pytest.param(b'{"a":1}', {"model": "m"}, b'{"a":1, "model": "m"}', id="added"),
        pytest.param(b'{"a":1,"b":2,"c":3}', {"dropped": ["b"]}, b'{"a":1,"c":3}', id="drop"),
        pytest.param(b'{"a":1, "b":2}', {"dropped": ["a"]}, b'{"b":2}', id="drop-the-first"),
        pytest.param(b'{"a":1, "b":2}', {"dropped": ["b"]}, b'{"a":1}', id="drop-the-last"),
        pytest.param(b'{ "a":1 }', {"dropped": ["a"]}, b"{  }", id="drop-all"),
        pytest.param(b'{"a":1}', {"dropped": ["m"], "m": 2}, b'{"a":1}', id="drop-beats-set"),
        pytest.param(b'{"a" : 1}', {"renamed": {"a": "b"}}, b'{"b" : 1}', id="rename"),
        pytest.param(b'{"a":1,"b":2}', {"renamed": {"a": "b"}}, b'{"b":2}', id="rename-onto-sent"),
        pytest.param(b'{"a":1}', {"renamed": {"a": "b"}, "b": 5}, b'{"b":5}', id="rename-and-set"),
        pytest.param(b'{"r":{"x":1e9,"e":"low"}}', {"r": {"e": "high"}},
                     b'{"r":{"x":1e9,"e":"high"}}', id="objects-are-merged"),
        pytest.param(b'{"r":{}}', {"r": {"e": 1}}, b'{"r":{"e": 1}}', id="merged-into-empty"),
        pytest.param(b'{"r":null}', {"r": {"e": 1}}, b'{"r":{"e": 1}}', id="null-is-replaced"),
        pytest.param(b'{"t":{"type":"enabled","budget":9}}', {"t": {"type": "disabled"}},
                     b'{"t":{"type": "disabled"}}', id="another-variant-replaces"),
        pytest.param(b'{"t":{"type":"a","show":1}}', {"t": {"type": "a"}},
                     b'{"t":{"type":"a","show":1}}', id="the-same-variant-is-merged"),
        pytest.param(b'{"r":{"x":1,"e":2}}', {"dropped": ["r.e"]}, b'{"r":{"x":1}}',
                     id="drop-inside"),
    ],
)  # fmt: skip
def test_members_are_set_dropped_and_renamed(body, kwargs, expected):
    dropped, renamed = kwargs.pop("dropped", ()), kwargs.pop("renamed", {})
    result = changed(body, dropped, renamed, **kwargs)
    assert result == expected
    json.loads(result)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.sampled_from(["a", "b", "model", "ü"])


@settings(max_examples=40)
@given(st.dictionaries(NAMES | st.text(), JSON), st.dictionaries(NAMES, JSON), st.sets(NAMES),
       st.sampled_from([None, 1]))  # fmt: skip
def test_a_changed_body_is_the_changed_object(body, values, dropped, indent):
    text = json.dumps(body, ensure_ascii=False, indent=indent)
    read = JsonBody.from_bytes(text.encode("utf-8", "replace"))
    assert read.changed(Changes()).decode() == read.text
    result = JsonBody.from_bytes(read.changed(Changes(values, dropped))).values
    for name in set(read.values) | set(values):
        if name in dropped:
            assert name not in result
        elif name not in values:
            assert repr(result[name]) == repr(read.values[name])
        elif not isinstance(values[name], dict):
            assert repr(result[name]) == repr(values[name])


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ 0aeut', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    try:
        JsonBody.from_bytes(data)
    except RecordError as error:
        assert str(error).startswith("body: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON object"),
        (b"[]", "no JSON object"),
        (b'{"a":', "not JSON"),
        (b'{"a":1} x', "more text at character 8"),
        (b'{"a" 1}', "expected ':'"),
        (b'{"a":1 "b":2}', "expected ','"),
        (b"{1:2}", "a name in double quotes"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper than"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_used_is_refused_with_its_place(body, said):
    with pytest.raises(RecordError, match=said):
        JsonBody.from_bytes(body)


def test_the_deepest_body_allowed_is_read():
    depth = MAX_DEPTH - 1
    body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    assert changed(body) == body


def test_the_text_of_a_member_is_as_the_caller_wrote_it():
    body = JsonBody.from_bytes(b'{"messages" : [ 1.0 ], "x": 2}')
    assert (body.text_of("messages"), body.text_of("y")) == ("[ 1.0 ]", "")


LISTS = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=5,
    ),
    max_size=12,
)


@example([1, -2.5, 10**30, None, True, "a", 3, 4, 5, 6, 7, 8], " ")
@given(LISTS, st.sampled_from(["", " ", "\n\t"]))
def test_a_long_list_is_read_item_by_item_as_a_short_one_is(items, space):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "_LONG_CHARS", 0)
        patch.setattr(json_body, "_PIECE_CHARS", 16)
        separators = (f"{space},{space}", f"{space}:{space}")
        text = json.dumps({"x": items, "y": 1}, separators=separators)
        body = JsonBody.from_bytes(text.replace("[]", f"[{space}]").encode())
        assert body.values == {"x": items, "y": 1}


@pytest.mark.parametrize(
    "text",
    ["[1,]", "[1 2]", "[,1]", "[1", "[", "[1}", "[1]]", "[1,,2]", "[1.2.3, 1]", "[1, nul, 2]"],
)
def test_a_long_list_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setattr(json_body, "_LONG_CHARS", 0)
    with pytest.raises(RecordError, match="not JSON"):
        JsonBody.from_bytes(f'{{"x": {text}}}'.encode())
