"""A router with a fallback: its encoder where messages are familiar, their surface where not."""

import math

import numpy as np
import onnx
import pytest
import torch

import turnout
from tests.training.conftest import EASY, HARD, rows, write_dataset, write_split
from tests.training.test_surface_fit import samples
from turnout.errors import RecordError
from turnout.routing import RouterFolder
from turnout.routing.scorer import SURFACE_INPUT
from turnout.routing.surface import Surface, surface_of
from turnout.training import Recipe, train
from turnout.training.encoder import load_base
from turnout.training.fallback import (
    Around,
    RouterWithFallback,
    Weights,
    around_of,
    stacked,
)
from turnout.training.surface_fit import SurfaceFit
from turnout.training.surface_trees import DEPTH, SurfaceTrees

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


def test_the_counts_of_training_rows_are_not_quantised(trained):
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


def mixed(encoder, gate, weights=None):
    """Known is what has as many numbers as `1 2 3`; two trees tell one number from more."""
    numbers = Surface._fields.index("log_numbers")
    zeros = np.zeros(len(Surface._fields))
    slopes = np.zeros((2, len(zeros)))
    slopes[:, numbers] = 2.0, -3.0
    nodes = 2**DEPTH - 1
    thresholds, values = np.full((2, nodes), np.inf), np.zeros((2, nodes + 1))
    thresholds[:, 0] = 1.0
    values[:, 0], values[:, (nodes + 1) // 2] = (-1.0, -2.0), (10.0, 20.0)
    model = RouterWithFallback(
        encoder.model,
        surface=SurfaceFit(zeros, zeros + 1, slopes, bias=np.asarray([-1.0, 0.5])),
        trees=SurfaceTrees(np.full((2, nodes), numbers), thresholds, values, bias=0.25),
        around=Around(np.asarray([surface_of("1 2 3")]).clip(-4, 4), gate),
    )
    model.weigh(weights or Weights(1.0, 0.0, 0.0))
    return model


def margin(model, **more):
    ids = torch.tensor([[2, 30, 31, 3]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        logits = model(**given, token_type_ids=torch.zeros_like(ids), **more).logits[0]
    return float(logits[0] - logits[1])


def test_beyond_the_gate_the_surface_alone_decides_and_before_it_the_encoder(base):
    encoder = load_base(str(base), 0)
    near, far = (torch.tensor([surface_of(text)]) for text in ("1 2 3", "1"))
    assert margin(mixed(encoder, gate=0.1), surface=far) == pytest.approx(
        2.0 * math.log(2) - 1.0, abs=1e-4
    )
    alone = margin(encoder.model)
    assert margin(mixed(encoder, gate=0.1), surface=near) == pytest.approx(alone, abs=0.01)


def test_half_of_a_message_at_the_gate_is_familiar(base):
    model = mixed(load_base(str(base), 0), gate=1.0)
    away = model.anchors[:1].clone()
    away[0, Surface._fields.index("questions")] += torch.tensor(1.0)
    assert float(model.familiarity(away)) == pytest.approx(0.5, abs=1e-3)


def test_on_known_kinds_encoder_and_trees_count_by_their_weights(base):
    encoder = load_base(str(base), 0)
    model = mixed(encoder, gate=100.0, weights=Weights(0.5, 2.0, 3.0))
    found = margin(model, surface=torch.tensor([surface_of("1 2 3")]))
    expected = 0.5 * margin(encoder.model) + 2.0 * (10.0 + 20.0 + 0.25) + 3.0
    assert found == pytest.approx(expected, rel=0.01)


def test_a_tree_goes_left_where_its_count_is_at_most_the_threshold(base):
    model = mixed(load_base(str(base), 0), gate=1.0)
    few, many = torch.tensor([surface_of("1"), surface_of("1 2 3")])
    found = model.trees_margin(torch.stack([few, many]))
    assert found.tolist() == pytest.approx([-1.0 - 2.0 + 0.25, 10.0 + 20.0 + 0.25])


def test_a_count_far_from_the_training_rows_tells_no_more_than_one_at_four_deviations(base):
    model = mixed(load_base(str(base), 0), gate=1.0)
    far = torch.tensor([surface_of("1 " * 1000)])
    assert float(model.surface_margin(far)) == pytest.approx(2.0 * 4 - 1.0)


def test_a_question_with_options_has_slopes_of_its_own(base):
    model = mixed(load_base(str(base), 0), gate=1.0)
    plain, asked = torch.tensor([surface_of("1 2 3"), surface_of("1 2 3\nA. yes\nB. no")])
    found = model.surface_margin(torch.stack([asked, plain]))
    assert found.tolist() == pytest.approx([-3.0 * math.log(4) + 0.5, 2.0 * math.log(4) - 1.0])


def test_what_the_trees_look_up_is_not_quantised(trained):
    graph = onnx.load(trained.router / "model.int8.onnx").graph
    held = {one.name: one.data_type for one in graph.initializer}
    for name in ("tree_thresholds", "tree_values"):
        assert held[name] == onnx.TensorProto.FLOAT


def test_what_speaks_against_itself_does_not_count():
    draw = np.random.default_rng(0)
    needs = np.tile([0.0, 1.0], 100)
    helps, misleads = (sign * (2 * needs - 1) + draw.normal(0, 1, 200) for sign in (1, -1))
    weights = stacked(helps, misleads, samples(needs, [None] * 200, 1 - needs))
    assert weights.encoder > 0.5
    assert weights.trees == 0


def test_what_follows_the_targets_more_closely_than_the_labels_counts_more():
    draw = np.random.default_rng(0)
    targets = draw.uniform(0, 1, 400)
    labels = (targets < 0.5).astype(int)
    coarse, fine = 1.0 - 2 * labels, 4 * (targets - 0.5) + draw.normal(0, 0.3, 400)
    weights = stacked(coarse, fine, samples(targets, [None] * 400, labels))
    assert weights.trees > weights.encoder


def test_encoder_and_trees_that_tell_nothing_leave_the_encoder():
    weights = stacked(
        np.zeros(20), np.zeros(20), samples(np.tile([0.0, 1.0], 10), [None] * 20, [1, 0] * 10)
    )
    assert weights.trees == 0
    assert weights.encoder > 0


def test_the_gate_leaves_the_asked_share_of_training_rows_outside():
    rows = np.random.default_rng(0).normal(size=(1000, 18))
    around = around_of(rows, 0.1, 0)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart.min(1) > around.gate).mean() == pytest.approx(0.1, abs=0.002)


def test_labels_without_weight_are_refused_before_anything_is_trained(tmp_path, base):
    folder = write_dataset(tmp_path / "dataset")
    for name in ("train", "validation"):
        measured = [sample | {"group": "measured", "weight": 0.0} for sample in rows(40, 0)]
        stated = [sample | {"group": "stated", "label": None} for sample in rows(40, 1)]
        write_split(folder, name, measured + stated)
    with pytest.raises(RecordError, match="every row of a group that carries labels has weight 0"):
        train(folder, tmp_path / "router", base=base, recipe=LEARNS)
    assert not (tmp_path / "router").exists()
