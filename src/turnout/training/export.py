"""Write a fine-tuned encoder as safetensors, a tokenizer and a float ONNX graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from turnout.errors import ArtifactError, StoppedError
from turnout.progress import OnProgress, silent
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS, TOKENIZER_NAME, WEIGHTS_NAME
from turnout.routing.scorer import OnnxScorer, reasoning_probability
from turnout.training.encoder import (
    TOKENIZER_CONFIG_NAME,
    BaseEncoder,
    Classifier,
    input_names,
)
from turnout.training.quiet import quiet
from turnout.training.split import TokenisedSplit, predict

MAX_FLOAT_DIFFERENCE = 1e-3
# Rows are scored one by one; more than these would take minutes and show nothing new.
MAX_FLOAT_ROWS = 64
# Architectures whose export is known to be right; others are tried before they are fine-tuned.
KNOWN_TO_EXPORT = ("bert",)
_OPSET = 17


def write_model(encoder: BaseEncoder, folder: Path, max_tokens: int) -> None:
    """Write weights and tokenizer into `folder`, for plain `transformers`.

    The tokenizer's own truncation length becomes `max_tokens`, so that plain `transformers` reads
    no more of a text than Turnout does.
    """
    with quiet():
        encoder.model.save_pretrained(folder)
    # safetensors makes its file readable for the owner alone; a router is served by others.
    (folder / WEIGHTS_NAME).chmod((folder / "config.json").stat().st_mode)
    encoder.tokenizer.save(str(folder / TOKENIZER_NAME), pretty=False)
    settings = {**encoder.tokenizer_settings, "model_max_length": max_tokens}
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / TOKENIZER_CONFIG_NAME).write_text(text, encoding="utf-8")


def write_float_graph(model: Classifier, path: Path) -> None:
    """Write the float ONNX graph of a model.

    Raises:
        ArtifactError: If the model cannot be exported.
        OSError: If the file cannot be written.
    """
    names = input_names(model)
    example: dict[str, object] = {name: torch.ones(2, 8, dtype=torch.long) for name in names}
    axes = {name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}}
    try:
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
    except (OSError, StoppedError):
        raise
    except Exception as error:  # torch's exporter raises its own, and whatever tracing meets
        raise ArtifactError(
            f"{path.name}: torch cannot export {type(model).__name__} to ONNX "
            f"({str(error).strip().splitlines()[0]}). Choose another base."
        ) from error


def check_float_graph(
    path: Path, model: Classifier, reader: InputEncoder, validation: TokenisedSplit
) -> tuple[int, float]:
    """Compare the float graph with the model on validation rows, evenly spaced.

    Returns:
        Rows compared, and the largest |Δ p_reasoning|.

    Raises:
        ArtifactError: If it differs by more than `MAX_FLOAT_DIFFERENCE`.
    """
    rows = spaced(np.arange(len(validation.tokens)), MAX_FLOAT_ROWS)
    exact = reasoning_probability(predict(model, validation, rows))
    difference = float(np.abs(graph_scores(path, reader, validation, rows) - exact).max())
    if difference > MAX_FLOAT_DIFFERENCE:
        raise ArtifactError(
            f"{path.name}: p_reasoning differs by {difference:.4f} from the model's; expected at "
            f"most {MAX_FLOAT_DIFFERENCE}. This encoder cannot be exported: choose another base."
        )
    return len(rows), difference


def check_exportable(
    encoder: BaseEncoder, reader: InputEncoder, validation: TokenisedSplit, folder: Path
) -> None:
    """Export the encoder before it is fine-tuned, so that hours are not spent in vain.

    Raises:
        ArtifactError: If the encoder cannot be exported.
    """
    path = folder / GRAPHS["float32"]
    write_float_graph(encoder.model, path)
    check_float_graph(path, encoder.model, reader, validation)


def graph_scores(
    path: Path,
    reader: InputEncoder,
    validation: TokenisedSplit,
    rows: NDArray[np.int64],
    on_progress: OnProgress = silent,
) -> NDArray[np.float32]:
    """A graph's probabilities of some rows, shape `(len(rows),)`."""
    inputs = [validation.samples.inputs[row] for row in rows]
    return OnnxScorer(path, reader).score(inputs, on_progress)


def spaced(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
