"""A data set with a rule that can be learnt, and a random BERT that learns it in seconds."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from turnout.records import Turn
from turnout.routing import Formatter
from turnout.schema import SAMPLES
from turnout.training import Recipe, TrainReport, train

HARD = ["prove", "derive", "refactor", "deadlock", "concurrency", "invariant"]
EASY = ["hello", "thanks", "rename", "define", "list", "spell"]
FILLER = ["the", "a", "please", "now", "this", "for", "in", "my", "of", "with", "code", "file"]
HEADER = ["turn", "two", "history", "answer", "missing", "message"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LEARNS = Recipe(epochs=3, learning_rate=3e-3, batch_size=8, model="encoder")
QUICK = Recipe(epochs=1, learning_rate=3e-3, batch_size=32, model="encoder")
# The encoders of these tests are tiny: a second thread would only wait for the first.
torch.set_num_threads(1)


def rows(n: int, seed: int, architecture: str = "session") -> list[dict[str, Any]]:
    """Samples whose label is that of the words of the message, or of the turn before."""
    draw = random.Random(seed)
    formatter = Formatter(architecture)
    made = []
    for number in range(n):
        hard = number % 2 == 0
        words = draw.choices(HARD if hard else EASY, k=2) + draw.choices(FILLER, k=number % 9 + 1)
        message = " ".join(draw.sample(words, len(words)))
        turns = [Turn(message)]
        if architecture == "conversation" and number % 3 == 0:
            turns.append(Turn("now please"))
        shown = formatter.format(turns)
        made.append(
            {
                "sample_id": f"s{seed}-{number}",
                "conversation_id": f"c{seed}-{number}",
                "turn_index": len(turns),
                "turn_count": len(turns),
                "stratum": "1",
                "message": shown.message,
                "context": shown.context,
                "label": 0 if hard else 1,
                "target": 0.95 if hard else 0.05,
                "weight": 1.0,
                "evidence": ["model"],
                "previous": [{"user_message": t.user_message} for t in turns[-2::-1]],
            }
        )
    return made


def write_split(folder: Path, name: str, samples: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(samples, schema=SAMPLES), folder / f"{name}.parquet")


def write_dataset(folder: Path, architecture: str = "session") -> Path:
    folder.mkdir()
    for seed, (name, n) in enumerate({"train": 160, "validation": 60, "test": 20}.items()):
        write_split(folder, name, rows(n, seed, architecture))
    description = {
        "format_version": 1,
        "architecture": architecture,
        "formatter": Formatter(architecture).to_json(),
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def word_pieces() -> Tokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789|>…")
    pieces = [*SPECIAL, *letters, *("##" + x for x in letters), *HARD, *EASY, *FILLER, *HEADER]
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def write_base(folder: Path, vocab_size: int | None = None) -> Path:
    """A random two-layer BERT encoder, without a head, and its tokenizer."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=vocab_size or word_pieces().get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertModel(config)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    word_pieces().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@dataclass(frozen=True)
class Trained:
    """A training run: its input, its base and what it gave."""

    dataset: Path
    base: Path
    report: TrainReport


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def quick(tmp_path_factory, base) -> Trained:
    """A run of one epoch on the session data set."""
    folder = tmp_path_factory.mktemp("quick")
    dataset = write_dataset(folder / "dataset")
    report = train(dataset, folder / "router", base=base, recipe=QUICK, max_tokens=48)
    return Trained(dataset, base, report)


@pytest.fixture(scope="session", params=["session", "conversation"])
def trained(request, tmp_path_factory, base) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    dataset = write_dataset(folder / "dataset", request.param)
    report = train(dataset, folder / "router", base=base, recipe=LEARNS, max_tokens=48)
    return Trained(dataset, base, report)
