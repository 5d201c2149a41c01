"""A linear model on words as an ONNX graph with an encoder's inputs and outputs."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from turnout.records import ID2LABEL, LABEL_REASONING
from turnout.training.linear import HEADER, MESSAGE, PREVIOUS_TURNS, FieldNgrams, LinearModel
from turnout.training.report import Calibration

# The same as that of encoders' graphs.
_OPSET = 17
_IR_VERSION = 9
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_LEAST_NORM = 1e-12  # a row without a known n-gram has the norm 0


def linear_graph(model: LinearModel, calibration: Calibration) -> onnx.ModelProto:
    """The graph from token ids to two logits, calibration folded in.

    It counts n-grams as `LinearFeatures` does: of the tokens of one field, never across.

    Args:
        model: A fitted model.
        calibration: Of its margins.
    """
    graph = _Graph()
    inside = graph.masks(model.features.separator)
    parts = []
    start = 0
    for ngrams in model.features.fields:
        end = start + len(ngrams.idf)
        weights = calibration.scale * model.coefficients[start:end]
        parts.append(graph.field_margin(inside[ngrams.field], ngrams, weights))
        start = end
    bias = calibration.scale * model.intercept + calibration.bias
    margin = graph.node("Sum", [*parts, graph.floats([[bias]])])
    direction = [[float(label == LABEL_REASONING) for label in sorted(ID2LABEL)]]
    graph.node("Mul", [margin, graph.floats(direction)], output="logits")
    return graph.model()


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def floats(self, values: ArrayLike) -> str:
        """The name of a float32 constant."""
        return self._constant(np.asarray(values, np.float32))

    def integers(self, values: ArrayLike) -> str:
        """The name of an int64 constant."""
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def node(
        self, operator: str, inputs: list[str], output: str | None = None, **attributes: object
    ) -> str:
        """The name of a node's only output."""
        name = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def masks(self, separator: int | None) -> dict[int, str]:
        """Field → which tokens are in it, shape `(rows, tokens)`."""
        is_text = self.node("Equal", ["attention_mask", self.integers([1])])
        of_message = self.node("Equal", ["token_type_ids", self.integers([0])])
        of_context = self.node("Not", [of_message])
        ends = self.node(
            "Equal", ["input_ids", self.integers([-1 if separator is None else separator])]
        )
        ends = self.node("Cast", [self.node("And", [ends, of_context])], to=TensorProto.INT64)
        ended = self.node("CumSum", [ends, self.integers(1)])
        is_header = self.node("Equal", [ended, self.integers([0])])
        is_after = self.node("Not", [is_header])
        parts = {
            MESSAGE: of_message,
            HEADER: self.node("And", [of_context, is_header]),
            PREVIOUS_TURNS: self.node("And", [of_context, is_after]),
        }
        return {field: self.node("And", [part, is_text]) for field, part in parts.items()}

    def field_margin(self, inside: str, ngrams: FieldNgrams, weights: NDArray[np.float64]) -> str:
        """What the n-grams of one field add to the margin, shape `(rows, 1)`."""
        # No n-gram has a −1 in it, so none reaches over the field's ends.
        ids = self.node("Where", [inside, "input_ids", self.integers([-1])])
        counts = self.node(
            "TfIdfVectorizer",
            [ids],
            mode="TF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=0,
            ngram_counts=[0, len(ngrams.unigrams)],
            ngram_indexes=list(range(len(ngrams.idf))),
            pool_int64s=np.concatenate([ngrams.unigrams, ngrams.bigrams.ravel()]).tolist(),
        )
        # 1 + log(count) where there is one, and 0 elsewhere.
        unit = self.floats([1.0])
        logarithms = self.node("Log", [self.node("Max", [counts, unit])])
        frequencies = self.node("Add", [logarithms, self.node("Min", [counts, unit])])
        weighted = self.node("Mul", [frequencies, self.floats([ngrams.idf])])
        norm = self.node(
            "Max",
            [
                self.node("ReduceL2", [weighted], axes=[1], keepdims=1),
                self.floats([_LEAST_NORM]),
            ],
        )
        product = self.node("MatMul", [weighted, self.floats(weights[:, None])])
        return self.node("Div", [product, norm])

    def model(self) -> onnx.ModelProto:
        """The whole graph."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
            for name in _INPUTS
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])
        graph = helper.make_graph(
            self._nodes, "linear_model_on_words", inputs, [logits], self._constants
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
