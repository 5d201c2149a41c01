"""The router folder of a linear model on words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from sklearn.metrics import roc_auc_score
from tokenizers import Encoding, Tokenizer
from tokenizers.processors import TemplateProcessing

from turnout.errors import ArtifactError
from turnout.progress import OnProgress
from turnout.records import LABEL_REASONING
from turnout.routing.encoding import InputEncoder, TokenIds
from turnout.routing.folder import GRAPHS, TOKENIZER_NAME
from turnout.routing.formatter import SEPARATOR
from turnout.routing.scorer import OnnxScorer, probabilities
from turnout.samples import Samples
from turnout.training.calibration import fit_calibration
from turnout.training.disk import disk_errors
from turnout.training.linear import MAX_TOKENS, Floats, LinearModel, fit_linear
from turnout.training.linear_graph import linear_graph
from turnout.training.report import Calibration, ExportCheck
from turnout.training.samples import Dataset

# Largest |Δ p_reasoning| between the graph and scikit-learn.
MAX_DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True)
class FittedWords:
    """A linear model on words, calibrated, and what it read.

    Attributes:
        dataset: Its rows, as it reads them.
        tokenizer: Its token types tell message and context apart.
        model: Not yet calibrated.
        train: Tokens of the training rows.
        validation: Tokens of the validation rows.
        calibration: Of its margins, by rows that the model of each margin was not fitted on.
        cut_rows: Training rows of more than `MAX_TOKENS` tokens.
    """

    dataset: Dataset
    tokenizer: Tokenizer
    model: LinearModel
    train: list[TokenIds]
    validation: list[TokenIds]
    calibration: Calibration
    cut_rows: int

    def validation_scores(self) -> Floats:
        """Calibrated probabilities of the validation rows, shape `(n,)`."""
        margins = self.model.margins(self.validation)
        return probabilities(self.calibration.scale * margins + self.calibration.bias).astype(
            np.float64
        )


def fit_words(
    dataset: Dataset, tokenizer: Tokenizer, seed: int, on_progress: OnProgress
) -> FittedWords:
    """Fit a linear model on words on the training rows and calibrate it.

    Validation rows alone may come from a single cluster, whose share of reasoning is not that of
    others; so training rows calibrate too, with the margins of models that did not see them.

    Args:
        dataset: Its rows; those with shuffled context are not used, and all stored turns are read.
        tokenizer: An encoder's; it stays as it is.
        seed: Decides the folds that choose penalty and scales.
        on_progress: Called at every fit.
    """
    dataset = dataset.shown_to_words()
    own = _telling_segments_apart(tokenizer)
    reader = InputEncoder(own, MAX_TOKENS)
    train = [reader.encode(row) for row in dataset.train.inputs]
    validation = [reader.encode(row) for row in dataset.validation.inputs]
    model = fit_linear(train, _separator(own), dataset.train, seed, on_progress)
    margins = np.concatenate([model.held_out_margins, model.margins(validation)])
    calibration = _calibrated(margins, dataset.train.followed_by(dataset.validation))
    cut_rows = sum(row.truncated_tokens > 0 for row in train)
    return FittedWords(dataset, own, model, train, validation, calibration, cut_rows)


def refit_words(fitted: FittedWords, seed: int, on_progress: OnProgress) -> FittedWords:
    """Fit on training and validation rows, with penalty and scales chosen on training rows.

    Called once nothing is left to choose on validation rows. All rows calibrate, each with the
    margin of a model that was not fitted on its cluster.

    Args:
        fitted: See `fit_words`.
        seed: Decides the folds.
        on_progress: Called at every fit.
    """
    rows = fitted.dataset.train.followed_by(fitted.dataset.validation)
    tokens = fitted.train + fitted.validation
    before = fitted.model
    model = fit_linear(
        tokens,
        before.features.separator,
        rows,
        seed,
        on_progress,
        penalties=(before.penalty,),
        scales=(before.scales,),
    )
    return replace(fitted, model=model, calibration=_calibrated(model.held_out_margins, rows))


def write_words_graph(fitted: FittedWords, folder: Path) -> ExportCheck:
    """Write graph and tokenizer into `folder`, and compare the graph with scikit-learn.

    Raises:
        ArtifactError: If their scores differ by more than `MAX_DIFFERENCE`.
        OSError: If a file cannot be written.
    """
    path = folder / GRAPHS["float32"]
    with disk_errors(folder):
        fitted.tokenizer.save(str(folder / TOKENIZER_NAME), pretty=False)
        onnx.save(linear_graph(fitted.model, fitted.calibration), path)
    exact = fitted.validation_scores()
    scorer = OnnxScorer(path, InputEncoder(fitted.tokenizer, MAX_TOKENS))
    scores = probabilities(np.asarray([scorer.log_odds(row) for row in fitted.validation]))
    difference = float(np.abs(scores - exact).max())
    if difference > MAX_DIFFERENCE:
        raise ArtifactError(
            f"{path.name}: p_reasoning differs by {difference:.6f} from scikit-learn's; expected "
            f"at most {MAX_DIFFERENCE}. Train with --model encoder."
        )
    validation = fitted.dataset.validation
    rows = np.flatnonzero(validation.labelled)
    auroc = float(roc_auc_score(validation.labels[rows] == LABEL_REASONING, exact[rows]))
    size = path.stat().st_size
    return ExportCheck(len(scores), difference, auroc, False, (), size)


def _calibrated(margins: Floats, samples: Samples) -> Calibration:
    rows = np.flatnonzero(samples.labelled & (samples.weights > 0) & np.isfinite(margins))
    return fit_calibration(
        margins[rows],
        samples.labels[rows] == LABEL_REASONING,
        samples.weights[rows].astype(np.float64),
    )


def _separator(tokenizer: Tokenizer) -> int | None:
    """The token between the context's header and its turns; None where it is not one token."""
    encoded = tokenizer.encode(SEPARATOR.rstrip(), add_special_tokens=False).ids
    return int(encoded[0]) if len(encoded) == 1 else None


def _telling_segments_apart(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that marks the context's tokens with type 1; some encoders' mark none."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_truncation()
    own.no_padding()
    single, pair = own.encode("a"), own.encode("a", "a")
    if 1 not in pair.type_ids:
        special = {
            token: own.token_to_id(token)
            for token, is_special in zip(pair.tokens, pair.special_tokens_mask, strict=True)
            if is_special
        }
        own.post_processor = TemplateProcessing(
            single=_template(single, ("$A",)),
            pair=_template(pair, ("$A", "$B")),
            special_tokens=list(special.items()),
        )
    return own


def _template(encoded: Encoding, segments: Sequence[str]) -> list[str]:
    """Where special tokens stand around the segments, with the context's part of type 1."""
    pieces: list[str] = []
    shown = 0
    of_token = list(
        zip(encoded.tokens, encoded.special_tokens_mask, encoded.sequence_ids, strict=True)
    )
    for place, (token, is_special, sequence) in enumerate(of_token):
        if is_special:
            pieces.append(f"{token}:{max(shown - 1, 0)}")
        elif place == 0 or of_token[place - 1][2] != sequence:
            pieces.append(f"{segments[shown]}:{shown}")
            shown += 1
    return pieces
