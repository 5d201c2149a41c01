"""Scores encoder inputs with ONNX Runtime: calibrated probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnout.errors import ArtifactError
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING, ModelInput
from turnout.routing.encoding import InputEncoder, TokenIds
from turnout.routing.onnx_runtime import onnx_runtime

_PROGRESS_EVERY_ROWS = 64
_GRAPH_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


class OnnxScorer:
    """Scores inputs one at a time, several in parallel.

    Rows are never padded into one batch: dynamic quantisation takes its scale from the whole
    batch, so a score would depend on the other rows. One at a time, the same input always gets the
    same score.

    Args:
        path: An ONNX graph from token ids to two logits, calibration folded in.
        encoder: Tokenises the inputs.
        threads: Rows scored at the same time; by default one a core.
        shift: Added to the log-odds, so that scores are for another population; see `Priors`.
    """

    def __init__(
        self, path: Path, encoder: InputEncoder, threads: int | None = None, shift: float = 0.0
    ) -> None:
        runtime = onnx_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ArtifactError(
                f"{path}: ONNX Runtime cannot load it ({error}); expected the graph that "
                "`turnout train` exported. Train or copy the folder again."
            ) from error
        self._inputs = {node.name for node in self._session.get_inputs()}
        if unknown := sorted(self._inputs - _GRAPH_INPUTS):
            raise ArtifactError(
                f"{path}: the graph has the input {unknown[0]!r}; expected only "
                f"{', '.join(sorted(_GRAPH_INPUTS))}. An earlier version made it: train the router "
                "again."
            )
        self._encoder = encoder
        self._threads = threads or os.cpu_count() or 1
        self._shift = shift

    def score(
        self, inputs: Sequence[ModelInput], on_progress: OnProgress = silent
    ) -> NDArray[np.float32]:
        """Probability that each message needs reasoning.

        Returns:
            Shape `(n,)`, in (0, 1), in input order; empty for no inputs.
        """
        scores = np.zeros(len(inputs), np.float32)  # (n,)
        with ThreadPoolExecutor(self._threads) as pool:
            for row, score in enumerate(pool.map(self.score_one, inputs)):
                scores[row] = score
                if row % _PROGRESS_EVERY_ROWS == 0:
                    on_progress("score", row, len(inputs))
        on_progress("score", len(inputs), len(inputs))
        return scores

    def score_one(self, model_input: ModelInput) -> float:
        """Probability that one message needs reasoning; the same number as `score` gives."""
        return float(probabilities(self.log_odds(self.encode(model_input)) + self._shift))

    def log_odds(self, tokens: TokenIds) -> float:
        """Calibrated log-odds of reasoning, for the balanced population, of a tokenised input."""
        ids = np.asarray([tokens.ids], np.int64)  # (1, t)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.asarray([tokens.type_ids], np.int64),
        }
        (logits,) = self._session.run(
            ["logits"], {name: value for name, value in feeds.items() if name in self._inputs}
        )
        return float(reasoning_log_odds(logits[0]))

    def encode(self, model_input: ModelInput) -> TokenIds:
        """The token ids for `log_odds`, with the number of truncated tokens."""
        return self._encoder.encode(model_input)


def reasoning_log_odds(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-odds of the reasoning class; logits of shape `(…, 2)` give `(…)`."""
    exact = np.asarray(logits, np.float64)
    return np.asarray(exact[..., LABEL_REASONING] - exact[..., 1 - LABEL_REASONING])


def probabilities(log_odds: NDArray[np.float64] | float) -> NDArray[np.float32]:
    """Log-odds → probabilities, rounded to float32 only here.

    So a batch, a single decision and a threshold all compare the same numbers.

    Returns:
        The same shape, in (0, 1): a threshold of 1 is above every score.
    """
    exact = 1.0 / (1.0 + np.exp(np.clip(-np.asarray(log_odds, np.float64), -60.0, 60.0)))
    return np.minimum(np.asarray(exact, np.float32), _BELOW_ONE)


def reasoning_probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of the reasoning class; logits of shape `(…, 2)` give `(…)`."""
    return probabilities(reasoning_log_odds(logits))
