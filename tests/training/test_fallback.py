"""A router with a fallback: its encoder where messages are familiar, their surface where not."""

import math

import numpy as np
import onnx
import pytest
import torch

import turnout
from tests.training.conftest import EASY, HARD, rows, write_dataset, write_split
from turnout.routing import RouterFolder
from turnout.routing.scorer import SURFACE_INPUT
from turnout.routing.surface import Surface, surface_of
from turnout.training import Recipe, train
from turnout.training.encoder import load_base
from turnout.training.fallback import RouterWithFallback, nearest
from turnout.training.surface_fit import SurfaceFit

LEARNS = Recipe(epochs=3, learning_rate=3e-3, batch_size=16, fallback=0.2)
NUMBERS = " 17 93 4 22 8 31 56 72 90 11 48 63"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base):
    """Hard messages are full of numbers: the surface can tell them too."""
    folder = write_dataset(tmp_path_factory.mktemp("fallback") / "dataset")
    for seed, (name, n) in enumerate({"train": 160, "validation": 60}.items()):
        samples = rows(n, seed)
        for sample in samples:
            sample["message"] += NUMBERS if sample["label"] == 0 else ""
        write_split(folder, name, samples)
    return train(folder, folder.with_name("router"), base=base, recipe=LEARNS, max_tokens=48)


def scores(router, *messages):
    return [turnout.load(router).decide(message).p_reasoning for message in messages]


def test_familiar_messages_get_what_the_encoder_learned(trained):
    hard, easy = scores(trained.router, f"prove the {HARD[0]}{NUMBERS}", f"{EASY[0]} {EASY[1]}")
    assert hard > 0.7 > 0.3 > easy


def test_the_surface_tells_strange_messages_apart(trained):
    letters = "zq xj kv wq zz vx qj jk"
    plain, numbers = scores(trained.router, letters, letters + NUMBERS * 2)
    assert numbers > plain


def test_the_graphs_of_such_a_router_read_the_surface_and_those_of_others_do_not(trained):
    names = {node.name for node in onnx.load(trained.router / "model.int8.onnx").graph.input}
    assert SURFACE_INPUT in names
    assert RouterFolder.read(trained.router).spec.surface_version == 1
    assert trained.export.float_difference < 1e-3


def test_the_vectors_of_training_rows_are_not_quantised(trained):
    graph = onnx.load(trained.router / "model.int8.onnx").graph
    held = {one.name: one for one in graph.initializer}["anchors"]
    assert held.data_type == onnx.TensorProto.FLOAT
    assert held.dims[0] == trained.fallback.anchors


def test_the_report_of_an_earlier_run_tells_the_fallback(trained):
    dataset = trained.router.with_name("dataset")
    again = train(dataset, trained.router, base=trained.base, recipe=LEARNS, max_tokens=48)
    assert not again.fresh
    assert again.fallback == trained.fallback
    assert 0 < again.fallback.validation_familiarity <= 1


def test_the_card_says_that_plain_transformers_has_no_fallback(trained):
    assert "has no fallback" in (trained.router / "README.md").read_text()


def mixed(encoder, gate):
    zeros = np.zeros(len(Surface._fields))
    slopes = np.zeros((2, len(zeros)))
    slopes[:, Surface._fields.index("log_numbers")] = 2.0, -3.0
    anchors = np.eye(1, encoder.model.config.hidden_size)
    return RouterWithFallback(
        encoder.model,
        anchors=anchors,
        gate=gate,
        gate_width=1e-3,
        surface=SurfaceFit(zeros, zeros + 1, slopes, bias=np.asarray([-1.0, 0.5])),
    )


def margin(model, **more):
    ids = torch.tensor([[2, 30, 31, 3]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        logits = model(**given, token_type_ids=torch.zeros_like(ids), **more).logits[0]
    return float(logits[0] - logits[1])


def test_beyond_the_gate_the_surface_alone_decides_and_before_it_the_encoder(base):
    encoder = load_base(str(base), 0)
    surface = torch.tensor([surface_of("1 2 3")])
    alone = margin(encoder.model)
    assert margin(mixed(encoder, gate=2.0), surface=surface) == pytest.approx(
        2.0 * math.log(4) - 1.0, abs=1e-5
    )
    assert margin(mixed(encoder, gate=-2.0), surface=surface) == pytest.approx(alone, abs=1e-5)


def test_a_count_far_from_the_training_rows_tells_no_more_than_one_at_four_deviations(base):
    model = mixed(load_base(str(base), 0), gate=2.0)
    far = torch.tensor([surface_of("1 " * 1000)])
    assert float(model.surface_margin(far)) == pytest.approx(2.0 * 4 - 1.0)


def test_a_question_with_options_has_slopes_of_its_own(base):
    model = mixed(load_base(str(base), 0), gate=2.0)
    plain, asked = torch.tensor([surface_of("1 2 3"), surface_of("1 2 3\nA. yes\nB. no")])
    found = model.surface_margin(torch.stack([asked, plain]))
    assert found.tolist() == pytest.approx([-3.0 * math.log(4) + 0.5, 2.0 * math.log(4) - 1.0])


def test_the_nearest_anchor_counts():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = nearest(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), anchors)
    assert found.tolist() == pytest.approx([0.8, 0.0])
