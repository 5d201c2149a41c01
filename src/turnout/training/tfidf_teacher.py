"""An out-of-fold TF-IDF teacher: what a linear model predicts of rows that it was not fitted on.

Labels taken from people's choices are often wrong. An encoder that is fine-tuned on them memorises
the errors of single rows before it learns what rows have in common. A linear model on TF-IDF
averages over many rows, and its prediction of a row that it has not seen cannot repeat that row's
error. Where TF-IDF explains the labels well, the encoder does better without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from turnout.progress import OnProgress
from turnout.samples import Samples

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float32]

# Below, there is no teacher: TF-IDF explains little there even where every label is right.
MIN_ROWS = 1_000
FOLDS = 5
# The penalty with the least loss on the first fold is used for all folds.
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# From this share of explained variance on, rows aim at their own targets alone
# (docs/experiments/027-tfidf-teacher.md).
ENOUGH_EXPLAINED = 0.1
# Of message and of context each; more cost memory and gain little.
MAX_FEATURES = 200_000
STEP = "TF-IDF teacher"

_WORD = re.compile(r"\b\w\w+\b")
# Scripts written without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_word_ngrams = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
_character_ngrams = TfidfVectorizer(analyzer="char", ngram_range=(1, 3)).build_analyzer()


class TeacherTargets(NamedTuple):
    """What the teacher predicts of n rows, and how much the rows aim at it.

    Attributes:
        predictions: Target of every row in [0, 1], by a model that was not fitted on its
            conversation; shape `(n,)`.
        weight: Share of these in what rows aim at when training begins, in [0, 1]. It is 1 where
            TF-IDF explains nothing of the targets' variance, and 0 from `ENOUGH_EXPLAINED` on.
    """

    predictions: Floats
    weight: float

    def of_rows(self, rows: NDArray[np.int64]) -> TeacherTargets:
        """Some of the rows, in that order."""
        return self._replace(predictions=self.predictions[rows])


def out_of_fold_targets(samples: Samples, seed: int, on_progress: OnProgress) -> TeacherTargets:
    """Predict every row by ridge regression on the rows of other conversations.

    Features are TF-IDF of message and context: single words and pairs, and characters where a text
    has few words.

    Args:
        samples: n rows; some weight above 0.
        seed: Decides the folds.
        on_progress: Called at every fit.

    Source:
        Stone (1974), "Cross-validatory choice and assessment of statistical predictions". Targets
        that are part label and part prediction: Reed et al. (2015), "Training deep neural networks
        on noisy labels with bootstrapping".
    """
    steps = len(PENALTIES) + FOLDS - 1
    on_progress(STEP, 0, steps)
    features = _features(samples)
    fold = _folds(samples.conversation_ids, seed)
    first_fold = fold == 0
    candidates = []
    for done, penalty in enumerate(PENALTIES, 1):
        candidates.append(_predicted(samples, features, first_fold, penalty))
        on_progress(STEP, done, steps)
    losses = [_loss(samples, first_fold, predictions) for predictions in candidates]
    best = int(np.argmin(losses))
    predictions = np.zeros(len(samples), np.float32)
    predictions[first_fold] = candidates[best]
    for held in range(1, FOLDS):
        predictions[fold == held] = _predicted(samples, features, fold == held, PENALTIES[best])
        on_progress(STEP, len(PENALTIES) + held, steps)
    explained = _explained_variance(samples, predictions)
    return TeacherTargets(predictions, float(np.clip(1 - explained / ENOUGH_EXPLAINED, 0, 1)))


def _features(samples: Samples) -> sparse.csr_matrix:
    """TF-IDF of message and context side by side, n rows."""
    fields = [[row.message for row in samples.inputs], [row.context for row in samples.inputs]]
    parts = []
    for texts in fields:
        vectorizer = TfidfVectorizer(analyzer=_ngrams, sublinear_tf=True, max_features=MAX_FEATURES)
        # scikit-learn refuses a field without any token.
        vectorizer.fit([*texts, "word"])
        parts.append(vectorizer.transform(texts))
    return sparse.hstack(parts).tocsr()


def _ngrams(text: str) -> list[str]:
    """Words and pairs of words; characters too where words make up less than half of a text."""
    ngrams: list[str] = _word_ngrams(text)
    in_words = sum(map(len, _WORD.findall(text))) - len(_WITHOUT_SPACES.findall(text))
    if 2 * in_words < len("".join(text.split())):
        ngrams += _character_ngrams(text)
    return ngrams


def _folds(conversation_ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold of every row, shape `(n,)`; a conversation lies in one."""
    names, of = np.unique(conversation_ids, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(len(names))[of] % FOLDS, np.int64)


def _predicted(
    samples: Samples, features: sparse.csr_matrix, held: Bools, penalty: float
) -> Floats:
    """Targets of the held rows, by a ridge on all others."""
    weights = samples.weights[~held]
    if not held.any() or not weights.any():
        return samples.targets[held]
    ridge = Ridge(alpha=penalty, solver="sparse_cg")
    ridge.fit(features[~held], samples.targets[~held], weights)
    return np.asarray(ridge.predict(features[held]).clip(0, 1), np.float32)


def _loss(samples: Samples, rows: Bools, predictions: Floats | float) -> float:
    """Weighted squared error of some rows."""
    return float(((samples.targets[rows] - predictions) ** 2 * samples.weights[rows]).sum())


def _explained_variance(samples: Samples, predictions: Floats) -> float:
    """Share of the targets' variance; below 0 where the mean predicts better."""
    every = np.ones(len(samples), bool)
    mean = float(np.average(samples.targets, weights=samples.weights))
    spread = _loss(samples, every, mean)
    return 1 - _loss(samples, every, predictions) / spread if spread else 1.0
