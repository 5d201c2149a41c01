"""A real router folder, small enough to write in a test: some words need reasoning, some do not."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from turnout.routing import Formatter, RouterSpec
from turnout.routing.folder import GRAPHS, TOKENIZER_NAME, write_description

HARD = ("prove", "derive", "refactor", "deadlock")
EASY = ("hello", "thanks", "rename", "spell")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def write_router(
    folder: Path, architecture: str = "session", max_tokens: int = 32, **spec: object
) -> Path:
    """A router whose logit margin is −1, +3 for every hard word and −1 for every easy one."""
    folder.mkdir(parents=True)
    words = [*_SPECIAL, *HARD, *EASY]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / TOKENIZER_NAME))
    weights = np.zeros((len(words), 2), np.float32)
    weights[[words.index(word) for word in HARD], 0] = 3.0
    weights[[words.index(word) for word in EASY], 0] = -1.0
    for name in GRAPHS.values():
        onnx.save(_graph(weights, np.array([-1.0, 0.0], np.float32)), folder / name)
    write_description(folder, RouterSpec(Formatter(architecture), max_tokens, **spec))
    return folder


def _graph(weights: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "bias"], ["logits"]),
    ]
    constants = {"weights": weights, "bias": bias, "axis": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
