"""Quantise a router's float graph to int8, as far as its scores stand it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from turnout.errors import StoppedError
from turnout.progress import OnProgress
from turnout.records import LABEL_REASONING
from turnout.routing.encoding import InputEncoder
from turnout.routing.folder import GRAPHS
from turnout.routing.onnx_runtime import onnx_runtime
from turnout.routing.scorer import reasoning_probability
from turnout.training.disk import disk_errors
from turnout.training.encoder import Classifier
from turnout.training.export import graph_scores, spaced
from turnout.training.quiet import quiet
from turnout.training.report import ExportCheck, Int8Check
from turnout.training.split import TokenisedSplit, predict

MAX_AUROC_LOSS = 0.005
MAX_MEAN_DIFFERENCE = 0.05
# One row that crosses the whole other class moves AUROC by 1/rows of its own class: with fewer
# than 200 rows, a single row can cost more than the loss allowed.
MIN_ROWS_A_CLASS = 200
# Shares of the matrix products that stay in float32, those with the largest outliers first.
FLOAT_SHARES = (0.0, 0.25, 0.5)
MAX_INT8_ROWS = 2000
_OUTLIER_ROWS = 16


def quantise(
    folder: Path,
    model: Classifier,
    reader: InputEncoder,
    validation: TokenisedSplit,
    float_check: tuple[int, float],
    on_progress: OnProgress,
) -> ExportCheck:
    """Write the int8 graph into `folder`; leave none where no attempt comes close to the model.

    Dynamic quantisation takes one scale for a whole activation, so a few outliers in it cost the
    precision of all other values. Matrix products with such inputs are left in float32, more of
    them from attempt to attempt.

    Args:
        folder: Holds the float graph.
        model: What the graphs should give.
        reader: Tokenises the rows.
        validation: Both labels present.
        float_check: What `check_float_graph` gave.
        on_progress: Called with the number of scored rows.

    Raises:
        OSError: If the graph cannot be written.

    Source:
        Bondarenko, Nagel and Blankevoort (2021), "Understanding and overcoming the challenges of
        efficient transformer quantization".
    """
    source, path = folder / GRAPHS["float32"], folder / GRAPHS["int8"]
    rows = spaced(np.flatnonzero(validation.samples.labelled), MAX_INT8_ROWS)
    exact = reasoning_probability(predict(model, validation, rows))
    needs_reasoning = validation.samples.labels[rows] == LABEL_REASONING
    judged = bool(np.bincount(needs_reasoning, minlength=2).min() >= MIN_ROWS_A_CLASS)
    auroc = float(roc_auc_score(needs_reasoning, exact))
    checks: list[Int8Check] = []
    for products, excluded in _attempts(source, reader, validation):
        if not _quantised(source, path, excluded):
            break
        scores = graph_scores(path, reader, validation, rows, on_progress)
        differences = np.abs(scores - exact)
        auroc_int8 = float(roc_auc_score(needs_reasoning, scores))
        accepted = differences.mean() <= MAX_MEAN_DIFFERENCE and (
            auroc - auroc_int8 <= MAX_AUROC_LOSS or not judged
        )
        checks.append(
            Int8Check(
                products=products,
                float_products=len(excluded),
                rows=len(rows),
                largest_difference=float(differences.max()),
                mean_difference=float(differences.mean()),
                auroc=auroc_int8,
                accepted=bool(accepted),
            )
        )
        if accepted:
            break
    else:
        path.unlink()
    served = path if path.is_file() else source
    return ExportCheck(*float_check, auroc, judged, tuple(checks), served.stat().st_size)


def _quantised(source: Path, path: Path, excluded: list[str]) -> bool:
    """Whether ONNX Runtime could write the int8 graph; else there is no file."""
    quantization = onnx_runtime("quantization")
    try:
        with disk_errors(path.parent), quiet():
            # Seven bits: on CPUs without VNNI eight would saturate in the 16-bit sums.
            quantization.quantize_dynamic(
                source,
                path,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                nodes_to_exclude=excluded,
            )
    except (OSError, StoppedError):
        raise
    except Exception:  # the errors of ONNX Runtime and onnx share no base class
        path.unlink(missing_ok=True)
        return False
    return True


def _attempts(
    source: Path, reader: InputEncoder, validation: TokenisedSplit
) -> Iterator[tuple[int, list[str]]]:
    """Number of matrix products, and the names of those to leave in float32."""
    graph = onnx.load(source)
    weights = {weight.name for weight in graph.graph.initializer}
    products = [
        node
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    by_outliers: list[str] = []
    for share in FLOAT_SHARES:
        if share and not by_outliers:
            outliers = _outliers(graph, [node.input[0] for node in products], reader, validation)
            by_outliers = [products[place].name for place in np.argsort(-outliers, kind="stable")]
        yield len(products), by_outliers[: round(share * len(products))]


def _outliers(
    graph: onnx.ModelProto, names: list[str], reader: InputEncoder, validation: TokenisedSplit
) -> NDArray[np.float64]:
    """Mean over rows of largest absolute value over root mean square, for every named tensor."""
    distinct = list(dict.fromkeys(names))
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in distinct)
    session = onnx_runtime().InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    taken = {node.name for node in session.get_inputs()}
    rows = spaced(np.arange(len(validation.samples)), _OUTLIER_ROWS)
    ratios = np.zeros(len(distinct))
    for row in rows:
        tokens = reader.encode(validation.samples.inputs[row])
        ids = np.asarray([tokens.ids], np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.asarray([tokens.type_ids], np.int64),
        }
        values = session.run(distinct, {name: feeds[name] for name in taken})
        ratios += [np.abs(v).max() / max(float(np.sqrt((v**2).mean())), 1e-12) for v in values]
    by_name = dict(zip(distinct, ratios / len(rows), strict=True))
    return np.asarray([by_name[name] for name in names])
