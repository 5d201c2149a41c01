"""A fine-tuned model → the files of a router folder, checked against it; knows no data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from turnout.errors import ArtifactError
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS, TOKENIZER_NAME, WEIGHTS_NAME
from turnout.routing.onnx_runtime import onnx_runtime
from turnout.routing.scorer import OnnxScorer, reasoning_probability
from turnout.training.encoder import (
    TOKENIZER_CONFIG_NAME,
    BaseEncoder,
    Classifier,
    input_names,
)
from turnout.training.quiet import quiet
from turnout.training.report import ExportCheck
from turnout.training.split import TokenisedSplit, predict

MAX_FLOAT_DIFFERENCE = 1e-3
MAX_AUROC_LOSS = 0.005
# One row that crosses the whole other class moves AUROC by 1/rows of its own class: with fewer
# than 200 rows, a single row can cost more than the loss allowed.
MIN_ROWS_A_CLASS = 200
# Rows are scored one by one; more than these would take minutes and tell nothing new.
MAX_FLOAT_ROWS = 64
MAX_INT8_ROWS = 2000
_OPSET = 17


def write_model(
    encoder: BaseEncoder,
    folder: Path,
    max_tokens: int,
    on_progress: OnProgress = silent,
) -> None:
    """Write weights, tokenizer, and both graphs into `folder`.

    The tokenizer's own truncation length becomes `max_tokens`, so that
    plain `transformers` reads no more of a text than Turnout does.
    """
    on_progress("export", 0, 3)
    with quiet():
        encoder.model.save_pretrained(folder)
    # safetensors makes its file readable for the owner alone; a router is served by others.
    (folder / WEIGHTS_NAME).chmod((folder / "config.json").stat().st_mode)
    encoder.tokenizer.save(str(folder / TOKENIZER_NAME), pretty=False)
    settings = {**encoder.tokenizer_settings, "model_max_length": max_tokens}
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / TOKENIZER_CONFIG_NAME).write_text(text, encoding="utf-8")
    on_progress("export", 1, 3)
    _write_graph(encoder.model, folder / GRAPHS["float32"])
    on_progress("export", 2, 3)
    quantization = onnx_runtime("quantization")
    with quiet():
        # Seven bits: on CPUs without VNNI eight would saturate in the 16-bit sums.
        quantization.quantize_dynamic(
            folder / GRAPHS["float32"],
            folder / GRAPHS["int8"],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    on_progress("export", 3, 3)


def check_export(
    folder: Path,
    model: Classifier,
    reader: InputEncoder,
    validation: TokenisedSplit,
    on_progress: OnProgress = silent,
) -> ExportCheck:
    """Compare both graphs in `folder` with the model on validation rows, evenly spaced.

    Raises:
        ArtifactError: If the float graph strays by more than `MAX_FLOAT_DIFFERENCE`, or the int8
            graph loses more than `MAX_AUROC_LOSS` where there are `MIN_ROWS_A_CLASS` to tell.
    """
    rows = _spaced(np.arange(len(validation.tokens)), MAX_FLOAT_ROWS)
    exact, graph = _scores(folder, "float32", model, reader, validation, rows, silent)
    float_difference = float(np.abs(graph - exact).max())
    if float_difference > MAX_FLOAT_DIFFERENCE:
        raise ArtifactError(
            f"{GRAPHS['float32']}: p_reasoning strays by {float_difference:.4f} from the model; "
            f"expected at most {MAX_FLOAT_DIFFERENCE}. This encoder cannot be exported: choose "
            "another base."
        )
    labelled = _spaced(np.flatnonzero(validation.samples.labelled), MAX_INT8_ROWS)
    exact, int8 = _scores(folder, "int8", model, reader, validation, labelled, on_progress)
    needs_reasoning = validation.samples.labels[labelled] == LABEL_REASONING
    check = ExportCheck(
        float_rows=len(rows),
        float_difference=float_difference,
        int8_rows=len(labelled),
        int8_difference=float(np.abs(int8 - exact).max()),
        auroc_float=float(roc_auc_score(needs_reasoning, exact)),
        auroc_int8=float(roc_auc_score(needs_reasoning, int8)),
        binding=bool(np.bincount(needs_reasoning, minlength=2).min() >= MIN_ROWS_A_CLASS),
        int8_bytes=(folder / GRAPHS["int8"]).stat().st_size,
    )
    _refuse_lossy(check)
    return check


def _refuse_lossy(check: ExportCheck) -> None:
    if check.binding and check.auroc_float - check.auroc_int8 > MAX_AUROC_LOSS:
        raise ArtifactError(
            f"{GRAPHS['int8']}: AUROC {check.auroc_int8:.4f} strays from the model's "
            f"{check.auroc_float:.4f}; expected a loss of at most {MAX_AUROC_LOSS}. This encoder "
            "does not stand quantisation: choose another base."
        )


def _scores(
    folder: Path,
    precision: str,
    model: Classifier,
    reader: InputEncoder,
    validation: TokenisedSplit,
    rows: NDArray[np.int64],
    on_progress: OnProgress,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The model's probabilities and a graph's, each of shape `(len(rows),)`."""
    logits = predict(model, validation, rows)
    scorer = OnnxScorer(folder / GRAPHS[precision], reader)
    scores = scorer.score([validation.samples.inputs[row] for row in rows], on_progress)
    return reasoning_probability(logits).astype(np.float64), scores.astype(np.float64)


def _spaced(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def _write_graph(model: Classifier, path: Path) -> None:
    names = input_names(model)
    example: dict[str, object] = {name: torch.ones(2, 8, dtype=torch.long) for name in names}
    axes = {name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}}
    with quiet():
        # By tracing: a smaller graph, written six times quicker than by the other exporter.
        torch.onnx.export(
            cast(torch.nn.Module, model),
            kwargs=example,
            f=str(path),
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
