"""What is cut of an input, and what never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from turnout.errors import ArtifactError
from turnout.records import ModelInput
from turnout.routing.encoding import InputEncoder

WORDS = [f"w{n}" for n in range(60)]


def encoder(max_tokens: int) -> InputEncoder:
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return InputEncoder(tokenizer, max_tokens)


def ids(words):
    return [4 + int(word[1:]) for word in words]


def text(words):
    return " ".join(words)


def test_message_and_context_stand_in_their_own_segments():
    tokens = encoder(20).encode(ModelInput("w1 w2", "w3"))
    assert tokens.ids == [2, *ids(["w1", "w2"]), 3, *ids(["w3"]), 3]
    assert tokens.type_ids == [0, 0, 0, 0, 1, 1]
    assert tokens.truncated_tokens == 0


def test_the_context_gives_way_before_the_message_loses_a_token():
    tokens = encoder(13).encode(ModelInput(text(WORDS[:8]), text(WORDS[20:30])))
    assert tokens.ids == [2, *ids(WORDS[:8]), 3, *ids(WORDS[20:22]), 3]
    assert tokens.truncated_tokens == 8


def test_the_newest_part_of_the_context_stays():
    tokens = encoder(8).encode(ModelInput("w0", text(WORDS[20:30])))
    assert tokens.ids == [2, *ids(["w0"]), 3, *ids(WORDS[20:24]), 3]


def test_a_message_longer_than_the_budget_keeps_head_and_tail():
    tokens = encoder(10).encode(ModelInput(text(WORDS)))
    assert tokens.ids == [2, *ids(WORDS[:6]), *ids(WORDS[-2:]), 3]
    assert tokens.truncated_tokens == len(WORDS) - 8


def test_an_empty_message_is_the_special_tokens_alone():
    assert encoder(10).encode(ModelInput("")).ids == [2, 3]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(8, 40))
def test_no_input_exceeds_the_budget_and_every_cut_token_is_counted(n, m, budget):
    model_input = ModelInput(text(WORDS[:n]), text(WORDS[:m]))
    tokens = encoder(budget).encode(model_input)
    special = 3 if model_input.context else 2
    assert len(tokens.ids) == len(tokens.type_ids) <= budget
    assert len(tokens.ids) - special + tokens.truncated_tokens == n + m


def test_a_file_that_is_no_tokenizer_is_refused_with_its_path(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: not readable as a tokenizer"):
        InputEncoder.from_file(path, 10)
