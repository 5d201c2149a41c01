"""A fine-tuned model → the files of a router folder, checked against it; knows no data set."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.metrics import roc_auc_score

from turnout.errors import ArtifactError
from turnout.records import ModelInput
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS
from turnout.routing.scorer import OnnxScorer
from turnout.training.encoder import TOKENIZER_FILES
from turnout.training.loop import input_names

MAX_FLOAT_DIFFERENCE = 1e-3
MAX_AUROC_LOSS = 0.005
# Below this many rows a class, a difference of 0.005 in AUROC is one or two swapped pairs.
MIN_ROWS_A_CLASS = 50
_OPSET = 17


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """How far the exported graphs are from the model.

    Attributes:
        rows: Validation rows compared.
        float_difference: Largest |Δ p_reasoning| of the float graph.
        int8_difference: Largest |Δ p_reasoning| of the int8 graph.
        auroc_float: On labelled rows.
        auroc_int8: On the same rows.
        binding: Whether there were rows enough to hold the int8 graph to `MAX_AUROC_LOSS`.
    """

    rows: int
    float_difference: float
    int8_difference: float
    auroc_float: float
    auroc_int8: float
    binding: bool


def write_model(model: transformers.PreTrainedModel, tokenizer_folder: Path, folder: Path) -> None:
    """Write weights, tokenizer, and both graphs into `folder`."""
    model.save_pretrained(folder, safe_serialization=True)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    _write_graph(model, folder / GRAPHS["float32"])
    with _quiet():
        # Seven bits: on CPUs without VNNI eight would saturate in the 16-bit sums.
        quantize_dynamic(
            folder / GRAPHS["float32"],
            folder / GRAPHS["int8"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )


def check_export(
    folder: Path,
    encoder: InputEncoder,
    inputs: Sequence[ModelInput],
    expected: NDArray[np.float64],
    needs_reasoning: NDArray[np.bool_],
) -> ExportCheck:
    """Compare both graphs with the model's own probabilities.

    Args:
        folder: Holds both graphs.
        encoder: The tokenizer side.
        inputs: Labelled validation rows, n of them.
        expected: The model's probabilities, shape `(n,)`.
        needs_reasoning: Shape `(n,)`.

    Raises:
        ArtifactError: If the float graph strays by more than `MAX_FLOAT_DIFFERENCE`, or the int8
            graph loses more than `MAX_AUROC_LOSS` where there are rows enough to tell.
    """
    graph = OnnxScorer(folder / GRAPHS["float32"], encoder).score(inputs)
    int8 = OnnxScorer(folder / GRAPHS["int8"], encoder).score(inputs)
    smaller = min(needs_reasoning.sum(), (~needs_reasoning).sum())
    check = ExportCheck(
        rows=len(inputs),
        float_difference=float(np.abs(graph - expected).max()),
        int8_difference=float(np.abs(int8 - expected).max()),
        auroc_float=float(roc_auc_score(needs_reasoning, expected)),
        auroc_int8=float(roc_auc_score(needs_reasoning, int8)),
        binding=bool(smaller >= MIN_ROWS_A_CLASS),
    )
    if check.float_difference > MAX_FLOAT_DIFFERENCE:
        raise ArtifactError(
            f"{GRAPHS['float32']}: p_reasoning strays by {check.float_difference:.4f} from the "
            f"model; expected at most {MAX_FLOAT_DIFFERENCE}. This encoder cannot be exported: "
            "choose another base."
        )
    if check.binding and check.auroc_float - check.auroc_int8 > MAX_AUROC_LOSS:
        raise ArtifactError(
            f"{GRAPHS['int8']}: AUROC {check.auroc_int8:.4f} against {check.auroc_float:.4f} in "
            f"float; expected a loss of at most {MAX_AUROC_LOSS}. This encoder does not stand "
            "quantisation: choose another base."
        )
    return check


def _write_graph(model: transformers.PreTrainedModel, path: Path) -> None:
    names = [
        n for n in ("input_ids", "attention_mask", "token_type_ids") if n in input_names(model)
    ]
    example: dict[str, object] = {name: torch.ones(2, 8, dtype=torch.long) for name in names}
    axes = {name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}}
    with _quiet():
        # The graph by tracing: smaller and six times quicker to write than the other exporter's,
        # and it needs no further package.
        torch.onnx.export(
            model,
            kwargs=example,
            f=str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
