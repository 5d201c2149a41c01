"""Encoders other than the default: each gives a router, or a clear message before it is trained."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

import turnout
from tests.training.conftest import rows, word_pieces, write_base, write_tokenizer
from turnout.errors import ArtifactError, SettingsError
from turnout.records import ModelInput
from turnout.routing import RouterFolder
from turnout.training import Recipe, train
from turnout.training.encoder import load_base
from turnout.training.fitting import fit_router
from turnout.training.loop import FitContext
from turnout.training.precision import trains_in_bfloat16
from turnout.training.samples import read_dataset

pytestmark = pytest.mark.slow

QUICK = Recipe(epochs=1, learning_rate=3e-3, batch_size=32, model="encoder")
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
RELATIVE = {
    "max_position_embeddings": 64,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
KINDS = {
    "bert": (transformers.BertConfig, {"num_hidden_layers": 12, "max_position_embeddings": 64}),
    "roberta": (
        transformers.RobertaConfig,
        {"num_hidden_layers": 2, "max_position_embeddings": 66, "pad_token_id": 0},
    ),
    "xlm-roberta": (
        transformers.XLMRobertaConfig,
        {"num_hidden_layers": 2, "max_position_embeddings": 66, "pad_token_id": 0},
    ),
    "modernbert": (
        transformers.ModernBertConfig,
        {
            "num_hidden_layers": 3,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
    ),
    "deberta": (transformers.DebertaConfig, {"num_hidden_layers": 2, **RELATIVE}),
    "deberta-v2": (
        transformers.DebertaV2Config,
        {"num_hidden_layers": 2, "position_buckets": 16, "norm_rel_ebd": "layer_norm", **RELATIVE},
    ),
}


def write_kind(folder, kind):
    """A random encoder of another architecture, with the tokenizer of the tiny BERT."""
    make, options = KINDS[kind]
    config = make(vocab_size=word_pieces().get_vocab_size(), **SIZES, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def rewritten(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_gives_a_router_that_plain_transformers_reads_alike(
    dataset, tmp_path, kind
):
    base = write_kind(tmp_path / kind, kind)
    report = train(dataset, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    folder = RouterFolder.read(report.router)
    assert folder.precision == report.export.serves
    text = "prove the invariant"
    classify = transformers.pipeline(
        "text-classification", model=str(report.router), top_k=None, device="cpu"
    )
    theirs = {label["label"]: label["score"] for label in classify(text)[0]}["reasoning"]
    ours = folder.scorer("float32").score_one(ModelInput(text))
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert 0 < turnout.load(report.router).decide(text).p_reasoning < 1


def test_a_deberta_is_trained_in_float32_where_bfloat16_fails(dataset, tmp_path):
    base = write_kind(tmp_path / "deberta", "deberta")
    model = load_base(str(base), 0).model
    ids = torch.ones(2, 8, dtype=torch.long)

    def logits():
        with torch.autocast("cpu", torch.bfloat16):
            return model(input_ids=ids, attention_mask=ids).logits

    assert not trains_in_bfloat16(model, "auto", logits)
    recipe = Recipe(1, 3e-3, 32, precision="bfloat16", model="encoder")
    with pytest.raises(SettingsError, match=r"--precision bfloat16: Deberta.* expected float32"):
        train(dataset, tmp_path / "router", base=base, recipe=recipe, max_tokens=48)


def test_a_cross_encoder_of_three_classes_gets_a_new_head(dataset, tmp_path):
    base = write_base(tmp_path / "nli")
    config = transformers.AutoConfig.from_pretrained(base, num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(base)
    rewritten(base, problem_type="regression")
    encoder = load_base(str(base), 0)
    assert {"classifier.weight", "classifier.bias"} <= encoder.fresh
    assert encoder.head.out_features == 2
    assert encoder.model.config.problem_type == "single_label_classification"
    report = train(dataset, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    stored = json.loads((report.router / "config.json").read_text())
    assert stored["problem_type"] == "single_label_classification"


def test_the_greatest_budget_leaves_out_the_positions_of_padding(dataset, tmp_path):
    base = write_kind(tmp_path / "roberta", "roberta")
    (base / "tokenizer_config.json").unlink()
    with pytest.raises(SettingsError, match="token budget: found 66; expected 16 to 65"):
        train(dataset, tmp_path / "router", base=base, max_tokens=66)
    model, ids = load_base(str(base), 0).model, torch.full((1, 65), 7)
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 2)


def test_a_base_without_a_padding_token_is_refused(dataset, tmp_path):
    base = write_base(tmp_path / "base")
    rewritten(base, pad_token_id=None)
    rewritten(base, "tokenizer_config.json", pad_token=None)
    with pytest.raises(
        ArtifactError, match=r"pad_token_id is None in config\.json.*expected a pad"
    ):
        train(dataset, tmp_path / "router", base=base)


def test_a_padding_token_that_config_does_not_name_is_looked_up(tmp_path):
    base = write_base(tmp_path / "base")
    rewritten(base, pad_token_id=None)
    assert load_base(str(base), 0).model.config.pad_token_id == 0


def test_a_short_encoder_needs_no_option(dataset, base):
    # The tiny encoder reads 64 tokens; a session router's budget is 128 by default.
    fitted = fit_router(
        read_dataset(dataset, 0),
        base=str(base),
        recipe=QUICK,
        max_tokens=None,
        context=FitContext(),
    )
    assert fitted.reader.max_tokens == 64


def test_python_without_docstrings_is_refused_with_the_cause(dataset, tmp_path):
    command = [sys.executable, "-OO", "-m", "turnout", "train", dataset, "-o", tmp_path / "router"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == SettingsError.exit_code
    assert "PYTHONOPTIMIZE=2" in done.stderr


def test_the_cards_lines_give_the_routers_score_of_a_text_beyond_the_budget(trained):
    router = trained.report.router
    code = (router / "README.md").read_text().split("```python\n")[-1].split("```")[0]
    text = " ".join(row["message"] for row in rows(40, 7))
    names = {
        "torch": torch,
        "text": text,
        "tokenizer": transformers.AutoTokenizer.from_pretrained(router),
        "model": transformers.AutoModelForSequenceClassification.from_pretrained(router),
    }
    exec(code, names)
    formatter = RouterFolder.read(router).spec.formatter
    scorer = RouterFolder.read(router).scorer("float32")
    shown = formatter.format([turnout.Turn(text)])
    assert scorer.encode(shown).truncated_tokens > 0
    assert scorer.score_one(shown) == pytest.approx(names["p_reasoning"], abs=1e-5)
    classify = transformers.pipeline("text-classification", model=str(router), device="cpu")
    assert np.isfinite(classify(text, truncation=True)[0]["score"])
