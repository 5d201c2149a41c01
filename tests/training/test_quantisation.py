"""The int8 graph: as much of a router as stands quantisation, or none."""

import shutil

import pytest
import torch

import turnout
from tests.training.conftest import LEARNS
from turnout.progress import silent
from turnout.routing import RouterFolder
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS, write_description
from turnout.training import quantisation
from turnout.training.encoder import load_base
from turnout.training.export import write_float_graph
from turnout.training.samples import read_dataset
from turnout.training.split import TokenisedSplit

pytestmark = pytest.mark.slow

OUTLIER = 1e4


@pytest.fixture
def encoder(trained):
    """The trained router as an encoder that can be changed."""
    return load_base(str(trained.report.router), LEARNS.seed)


def with_outliers_in_attention(model):
    """One value of every attention is always large, and nothing reads it: the same scores."""
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.bias[1] = OUTLIER
            layer.attention.output.dense.weight[:, 1] = 0


def with_outliers_everywhere(model):
    """One dimension of every normalised state is large too, and nothing reads it."""
    with_outliers_in_attention(model)
    with torch.no_grad():
        norms = [model.bert.embeddings.LayerNorm]
        for layer in model.bert.encoder.layer:
            attention = layer.attention
            projections = attention.self.query, attention.self.key, attention.self.value
            for dense in (*projections, layer.intermediate.dense):
                dense.weight[:, 0] = 0
            for dense in (attention.output.dense, layer.output.dense):
                dense.weight[0] = 0
                dense.bias[0] = -OUTLIER
            norms += [attention.output.LayerNorm, layer.output.LayerNorm]
        for norm in norms[:-1]:
            norm.weight[0], norm.bias[0] = 0, OUTLIER


def exported(encoder, trained, folder):
    """The folder's check after an export of the encoder into a copy of its router."""
    shutil.copytree(trained.report.router, folder)
    (folder / GRAPHS["int8"]).unlink()
    samples = read_dataset(trained.dataset, 0).validation
    reader = InputEncoder(encoder.tokenizer, 48)
    validation = TokenisedSplit(samples, [reader.encode(row) for row in samples.inputs])
    write_float_graph(encoder.model, folder / GRAPHS["float32"])
    check = quantisation.quantise(folder, encoder.model, reader, validation, (1, 0.0), silent)
    write_description(folder, RouterFolder.read(trained.report.router).spec)
    return check


def test_a_router_as_trained_is_quantised_whole(trained):
    (check,) = trained.report.export.int8
    assert check.accepted
    assert (check.float_products, check.products) == (0, 14)
    assert check.auroc == pytest.approx(trained.report.export.auroc_float, abs=0.02)
    assert RouterFolder.read(trained.report.router).precision == "int8"


def test_layers_with_outliers_stay_in_float(encoder, trained, tmp_path):
    with_outliers_in_attention(encoder.model)
    check = exported(encoder, trained, tmp_path / "router")
    first, second = check.int8
    assert not first.accepted
    assert first.mean_difference > quantisation.MAX_MEAN_DIFFERENCE
    assert second.accepted
    assert 0 < second.float_products < second.products
    assert check.serves == RouterFolder.read(tmp_path / "router").precision == "int8"


def test_an_encoder_that_does_not_stand_int8_is_served_in_float(encoder, trained, tmp_path):
    with_outliers_everywhere(encoder.model)
    check = exported(encoder, trained, tmp_path / "router")
    assert len(check.int8) == len(quantisation.FLOAT_SHARES)
    assert not any(attempt.accepted for attempt in check.int8)
    folder = RouterFolder.read(tmp_path / "router")
    assert check.serves == folder.precision == "float32"
    assert 0 < turnout.load(tmp_path / "router").decide("prove it").p_reasoning < 1
