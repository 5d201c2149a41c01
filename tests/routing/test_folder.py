"""A router folder is used whole and unchanged, or not at all."""

import json

import numpy as np
import onnx
import pytest

from tests.tiny_router import write_router
from turnout.errors import ArtifactError
from turnout.records import ModelInput
from turnout.routing import RouterFolder
from turnout.routing.encoding import InputEncoder
from turnout.routing.scorer import OnnxScorer, reasoning_probability


@pytest.fixture
def folder(tmp_path):
    return write_router(tmp_path / "router")


def rewritten(folder, **changes):
    path = folder / "router.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_read(folder):
    spec = RouterFolder.read(folder).spec
    assert (spec.formatter.architecture, spec.max_tokens, spec.threshold) == ("session", 32, 0.5)


@pytest.mark.parametrize("name", ["model.int8.onnx", "tokenizer.json"])
def test_a_changed_byte_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=f"{name}: sha256 .*expected .*as router.json lists it"):
        RouterFolder.read(folder)


def test_a_missing_file_is_refused(folder):
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx: not found"):
        RouterFolder.read(folder)


def test_a_newer_format_is_refused(folder):
    rewritten(folder, format_version=2)
    with pytest.raises(ArtifactError, match="router format 2; this Turnout reads format 1"):
        RouterFolder.read(folder)


def test_another_formatter_version_is_refused(folder):
    stored = json.loads((folder / "router.json").read_text())["formatter"]
    rewritten(folder, formatter=stored | {"version": 99})
    with pytest.raises(ArtifactError, match="formatter version 99; expected 1"):
        RouterFolder.read(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}', '{"files": 3}'])
def test_a_description_that_is_none_is_refused(folder, text):
    (folder / "router.json").write_text(text)
    with pytest.raises(ArtifactError, match="not in the form of a router description"):
        RouterFolder.read(folder)


def test_a_folder_that_is_no_router_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no router\.json in it; expected a router folder"):
        RouterFolder.read(tmp_path)


def test_a_row_scores_the_same_alone_and_among_others(folder):
    scorer = RouterFolder.read(folder).scorer()
    inputs = [ModelInput("prove " * n) for n in range(30)]
    together = scorer.score(inputs)
    alone = [scorer.score_one(one) for one in inputs]
    np.testing.assert_allclose(together, alone, rtol=1e-7)
    assert together.shape == (30,)


def test_a_graph_with_an_input_that_serving_does_not_give_is_refused(folder):
    path = folder / "model.int8.onnx"
    graph = onnx.load(path)
    graph.graph.input.append(
        onnx.helper.make_tensor_value_info("surface", onnx.TensorProto.FLOAT, ["rows", 18])
    )
    onnx.save(graph, path)
    with pytest.raises(ArtifactError, match=r"the graph has the input 'surface'.*train the router"):
        OnnxScorer(path, InputEncoder.from_file(folder / "tokenizer.json", 32))


def test_nothing_to_score_gives_no_scores(folder):
    assert RouterFolder.read(folder).scorer().score([]).shape == (0,)


def test_logits_of_any_size_give_probabilities():
    logits = np.array([[1e30, -1e30], [-1e30, 1e30], [0, 0]], np.float32)
    np.testing.assert_allclose(reasoning_probability(logits), [1, 0, 0.5], atol=1e-12)
