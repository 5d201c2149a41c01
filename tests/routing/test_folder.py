"""A router folder is used whole and unchanged, or not at all."""

import json
import math
from importlib import metadata

import numpy as np
import onnx
import pytest

from tests.tiny_router import write_router
from turnout.errors import ArtifactError
from turnout.records import ModelInput
from turnout.routing import Formatter, RouterFolder, RouterSpec
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import write_description
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
    with pytest.raises(ArtifactError, match="formatter version 99; expected 2"):
        RouterFolder.read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as JSON"),
        ("[]", r"found \[\]; expected an object"),
        ('{"files": 3}', "format_version: found nothing; expected a whole number"),
        ('{"format_version": "1"}', "format_version: found '1'; expected a whole number"),
    ],
)
def test_a_description_that_is_none_is_refused(folder, text, message):
    (folder / "router.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        RouterFolder.read(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threshold": {"value": math.nan, "origin": ""}}, "threshold: value: found nan; expected"),
        ({"threshold": {"value": 2, "origin": ""}}, "a number from 0 to 1"),
        ({"threshold": {"value": True, "origin": ""}}, "a number from 0 to 1"),
        ({"threshold": {"value": 0.5}}, "origin: found nothing; expected text"),
        ({"threshold": {"value": 0.5, "origin": "", "population": "all"}}, "log or balanced"),
        ({"threshold": {"value": 0.5, "origin": "", "population": "log"}}, "priors.log is missing"),
        ({"threshold": 0.5}, "threshold: found 0.5; expected an object"),
        ({"priors": {"balanced": 0, "log": None}}, "more than 0 and less than 1"),
        ({"priors": {"balanced": 0.5, "log": 1.5}}, "more than 0 and less than 1"),
        ({"priors": []}, "expected balanced"),
        ({"max_tokens": 0}, "a whole number from 1"),
        ({"max_tokens": "128"}, "a whole number from 1"),
        ({"calibration": None}, "calibration: found nothing"),
        ({"formatter": {"version": 2, "architecture": "both"}}, "session or conversation"),
        ({"formatter": 1}, "formatter: found 1"),
        ({"files": []}, "plain file names with their sha256"),
        ({"files": {}}, "plain file names with their sha256"),
        ({"files": {"tokenizer.json": "0" * 64}}, "model.onnx among them"),
        ({"files": {"model.onnx": "0" * 64, "../tokenizer.json": "0" * 64}}, "plain file names"),
    ],
)
def test_a_value_that_training_never_writes_is_refused_with_its_name(folder, changed, message):
    rewritten(folder, **changed)
    with pytest.raises(ArtifactError, match=message) as refused:
        RouterFolder.read(folder)
    assert str(folder / "router.json") in str(refused.value)


def test_a_router_without_an_int8_graph_serves_the_float_graph(folder):
    (folder / "model.int8.onnx").unlink()
    write_description(folder, RouterSpec(Formatter("session"), 32))
    read = RouterFolder.read(folder)
    assert read.precision == "float32"
    assert read.scorer().score([ModelInput("prove")]).shape == (1,)
    with pytest.raises(ArtifactError, match=r"has no model\.int8\.onnx; expected the precision"):
        read.scorer("int8")


def test_the_versions_that_change_scores_are_recorded(folder):
    assert RouterFolder.read(folder).spec.versions == {
        name: metadata.version(name) for name in ("numpy", "onnxruntime", "tokenizers")
    }


def test_a_folder_that_is_no_router_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no router\.json in it; expected a router folder"):
        RouterFolder.read(tmp_path)


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
    scores = reasoning_probability(logits)
    np.testing.assert_allclose(scores, [1, 0, 0.5], atol=1e-7)
    assert 0 < scores.min() <= scores.max() < 1, "a threshold can lie above every score"
