"""Trivial scorers that a router must beat, trained on the same rows.

Each gives the probability in [0, 1] that a row needs reasoning. With measured outcomes, the fitted
ones predict the gap, as the router does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from turnout.progress import OnProgress
from turnout.records import LABEL_REASONING, ModelInput
from turnout.samples import Samples

Floats = NDArray[np.float64]
Texts = Sequence[str]
_Predict = Callable[[Floats | sparse.csr_matrix], Floats]
NEIGHBOURS = 25
# The strength of the linear model's penalty is chosen on validation.
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
_MAX_FEATURES = 200_000
_CHUNK_ROWS = 1_000
# With fewer words in the mean message, by scikit-learn's count, n-grams of characters are used
# (Chinese, emoji).
_MIN_WORDS = 1.5
_COUNTED_TEXTS = 2_000


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows that baselines are trained on, and whether they predict the gap."""

    train: Samples
    validation: Samples
    predicts_gap: bool


def baselines(
    splits: Splits, test: Samples, *, with_context: bool, on_progress: OnProgress
) -> dict[str, Floats]:
    """Score the rows of `test` with every baseline.

    Args:
        splits: The rows to train on.
        test: The rows to score; their labels and targets are not used.
        with_context: Whether the rows have context; adds the baseline that reads it.
        on_progress: Called for every baseline.

    Returns:
        Name → scores, shape `(n,)`.
    """
    inputs = test.inputs
    last = " (last message)" if with_context else ""
    plan: list[tuple[str, Callable[[], Floats]]] = [
        ("random", lambda: np.random.default_rng(0).random(len(inputs))),
        (f"length{last}", lambda: _length(splits, inputs)),
        (f"nearest neighbours{last}", lambda: _neighbours(splits, inputs)),
        (f"TF-IDF + linear{last}", lambda: _linear(splits, inputs, with_context=False)),
    ]
    if with_context:
        plan.append(
            (
                "TF-IDF + linear, with context",
                lambda: _linear(splits, inputs, with_context=True),
            )
        )
    if any(group is not None for group in test.groups):
        plan.append(("group mean (knows the group)", lambda: _group_mean(splits, test)))
    scored = {}
    for number, (name, score) in enumerate(plan):
        on_progress("baselines", number, len(plan))
        scored[name] = score()
    on_progress("baselines", len(plan), len(plan))
    return scored


def _message(row: ModelInput) -> str:
    return row.message


def _context(row: ModelInput) -> str:
    return row.context


def _length(splits: Splits, inputs: Sequence[ModelInput]) -> Floats:
    """A model on the logarithm of the message's characters alone."""
    return _fit(splits, _log_length(splits.train.inputs), 1.0)(_log_length(inputs))


def _log_length(inputs: Sequence[ModelInput]) -> Floats:
    return np.log1p([[len(row.message)] for row in inputs])


def _neighbours(splits: Splits, inputs: Sequence[ModelInput]) -> Floats:
    """Mean target of the nearest training rows by the cosine of TF-IDF."""
    rows = _rows(splits.train, predicts_gap=splits.predicts_gap)
    messages = [splits.train.inputs[row].message for row in rows]
    vectorizer = _vectorizer(messages)
    vectors = vectorizer.transform(messages)
    index = NearestNeighbors(
        n_neighbors=min(NEIGHBOURS, len(rows)), metric="cosine", algorithm="brute"
    ).fit(vectors)
    targets = _targets(splits.train, rows, predicts_gap=splits.predicts_gap)
    scores = np.zeros(len(inputs))
    for start in range(0, len(inputs), _CHUNK_ROWS):
        chunk = [row.message for row in inputs[start : start + _CHUNK_ROWS]]
        near = index.kneighbors(vectorizer.transform(chunk), return_distance=False)
        scores[start : start + _CHUNK_ROWS] = targets[near].mean(axis=1)
    return scores


def _group_mean(splits: Splits, test: Samples) -> Floats:
    """The mean target of the row's group among the training rows."""
    rows = _rows(splits.train, predicts_gap=splits.predicts_gap)
    targets = _targets(splits.train, rows, predicts_gap=splits.predicts_gap)
    by_group: dict[str | None, list[float]] = {}
    for row, target in zip(rows, targets, strict=True):
        by_group.setdefault(splits.train.groups[row], []).append(target)
    means = {group: float(np.mean(values)) for group, values in by_group.items()}
    return np.asarray([means.get(group, float(targets.mean())) for group in test.groups])


def _linear(splits: Splits, inputs: Sequence[ModelInput], *, with_context: bool) -> Floats:
    return WordsModel(splits, with_context=with_context).score(inputs)


class WordsModel:
    """A linear model on TF-IDF of words and word pairs, as `baselines` uses it.

    Args:
        splits: The rows to train on; validation chooses the penalty.
        with_context: Whether it reads the context too, as separate features.
    """

    def __init__(self, splits: Splits, *, with_context: bool) -> None:
        self._fields = (_message, _context) if with_context else (_message,)
        rows = _rows(splits.train, predicts_gap=splits.predicts_gap)
        self._vectorizers = [
            _vectorizer([field(splits.train.inputs[row]) for row in rows]) for field in self._fields
        ]
        x = self._features(splits.train.inputs)
        validation = self._features(splits.validation.inputs)
        labelled = np.flatnonzero(splits.validation.labelled)
        needs = splits.validation.labels[labelled] == LABEL_REASONING
        fits = [_fit(splits, x, strength) for strength in _STRENGTHS]
        self._predict = max(fits, key=lambda fit: roc_auc_score(needs, fit(validation[labelled])))

    def score(self, inputs: Sequence[ModelInput]) -> Floats:
        """The probability in [0, 1] that each input needs reasoning, shape `(n,)`."""
        return self._predict(self._features(inputs)) if inputs else np.zeros(0)

    def _features(self, inputs: Sequence[ModelInput]) -> sparse.csr_matrix:
        parts = [
            vectorizer.transform([field(row) for row in inputs])
            for field, vectorizer in zip(self._fields, self._vectorizers, strict=True)
        ]
        return sparse.hstack(parts).tocsr()


def _fit(splits: Splits, x: Floats | sparse.csr_matrix, strength: float) -> _Predict:
    """Ridge on the gap, or logistic regression on labels; `x` has every training row."""
    rows = _rows(splits.train, predicts_gap=splits.predicts_gap)
    weights = splits.train.weights[rows]
    targets = _targets(splits.train, rows, predicts_gap=splits.predicts_gap)
    if splits.predicts_gap:
        ridge = Ridge(alpha=10 / strength, solver="sparse_cg" if sparse.issparse(x) else "auto")
        ridge.fit(x[rows], targets, sample_weight=weights)
        return lambda rows: np.clip(np.asarray(ridge.predict(rows), np.float64), 0.0, 1.0)
    logistic = LogisticRegression(C=strength, max_iter=1000)
    logistic.fit(x[rows], targets > 0.5, sample_weight=weights)
    return lambda rows: np.asarray(logistic.predict_proba(rows)[:, 1], np.float64)


def _rows(samples: Samples, *, predicts_gap: bool) -> NDArray[np.intp]:
    return np.arange(len(samples)) if predicts_gap else np.flatnonzero(samples.labelled)


def _targets(samples: Samples, rows: NDArray[np.intp], *, predicts_gap: bool) -> Floats:
    values = samples.targets if predicts_gap else samples.labels == LABEL_REASONING
    return np.asarray(values[rows], np.float64)


def _vectorizer(texts: Texts) -> TfidfVectorizer:
    """Fitted on words and word pairs, or on characters where texts have few words."""
    texts = [text for text in texts if text.strip()] or ["-"]
    split = TfidfVectorizer().build_analyzer()
    by_word = np.mean([len(split(text)) for text in texts[:_COUNTED_TEXTS]]) >= _MIN_WORDS
    vectorizer = TfidfVectorizer(
        analyzer="word" if by_word else "char",
        ngram_range=(1, 2) if by_word else (1, 3),
        sublinear_tf=True,
        max_features=_MAX_FEATURES,
    )
    return vectorizer.fit(texts)
