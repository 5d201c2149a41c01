"""What words tell of rows that a linear model on them has not seen; knows no encoder and no torch.

A label that somebody's choice left behind may be wrong. An encoder that aims at labels of which
many are wrong meets the errors of single rows before it finds what rows have in common; a linear
model on words averages over many rows and, of a row that it did not learn from, cannot repeat that
row's error. Where words explain labels well the encoder does better by itself.
"""

from __future__ import annotations

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

# Of fewer rows words explain little even where every label is right.
MIN_ROWS = 1_000
FOLDS = 5
# The one with the least loss on a fold is taken for all.
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# Targets of which words explain so much of the variance are aimed at as they are. In
# docs/experiments/027-tfidf-teacher.md: what words explain of right and of wrong labels.
ENOUGH_EXPLAINED = 0.1
# Of message and of context; more tell little and take memory.
MAX_WORDS = 200_000
_STEP = "words"


class Words(NamedTuple):
    """What words tell of n rows.

    Attributes:
        told: The target of every row by a model that did not see its conversation; in [0, 1],
            shape `(n,)`.
        share: How much rows aim at that, at first, in place of their own targets; in [0, 1]. The
            less words explain of the targets, the more: 0 from `ENOUGH_EXPLAINED` on.
    """

    told: Floats
    share: float

    def at(self, rows: NDArray[np.int64]) -> Words:
        """Some of the rows, in that order."""
        return self._replace(told=self.told[rows])


def words_of(samples: Samples, seed: int, on_progress: OnProgress) -> Words | None:
    """What `told_by_words` gives; None where there are fewer than `MIN_ROWS` rows."""
    return told_by_words(samples, seed, on_progress) if len(samples) >= MIN_ROWS else None


def told_by_words(samples: Samples, seed: int, on_progress: OnProgress) -> Words:
    """Ask ridges on the words of other conversations for the target of every row.

    Single words and pairs of message and context count.

    Args:
        samples: n rows; some weight above 0.
        seed: Decides who learns from whom.
        on_progress: Told every fit.

    Source:
        Stone (1974), "Cross-validatory choice and assessment of statistical predictions". Targets
        that are part label and part prediction: Reed et al. (2015), "Training deep neural networks
        on noisy labels with bootstrapping".
    """
    steps = len(PENALTIES) + FOLDS - 1
    on_progress(_STEP, 0, steps)
    words = _words(samples)
    fold = _folds(samples.conversation_ids, seed)
    tried = []
    for done, penalty in enumerate(PENALTIES, 1):
        tried.append(_told(samples, words, fold == 0, penalty))
        on_progress(_STEP, done, steps)
    losses = [_loss(samples, fold == 0, told) for told in tried]
    best = int(np.argmin(losses))
    told = np.zeros(len(samples), np.float32)
    told[fold == 0] = tried[best]
    for held in range(1, FOLDS):
        told[fold == held] = _told(samples, words, fold == held, PENALTIES[best])
        on_progress(_STEP, len(PENALTIES) + held, steps)
    explained = _explained(samples, told)
    return Words(told, float(np.clip(1 - explained / ENOUGH_EXPLAINED, 0, 1)))


def _words(samples: Samples) -> sparse.csr_matrix:
    """TF-IDF of message and context side by side, n rows."""
    fields = [[row.message for row in samples.inputs], [row.context for row in samples.inputs]]
    parts = []
    for texts in fields:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_WORDS)
        # A field without any word would have no vocabulary, and be refused.
        vectorizer.fit([*texts, "word"])
        parts.append(vectorizer.transform(texts))
    return sparse.hstack(parts).tocsr()


def _folds(conversation_ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold of every row, shape `(n,)`; a conversation lies in one."""
    names, of = np.unique(conversation_ids, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(len(names))[of] % FOLDS, np.int64)


def _told(samples: Samples, words: sparse.csr_matrix, held: Bools, penalty: float) -> Floats:
    """Of the held rows, by a ridge on all others."""
    weights = samples.weights[~held]
    if not held.any() or not weights.any():
        return samples.targets[held]
    ridge = Ridge(alpha=penalty, solver="sparse_cg")
    ridge.fit(words[~held], samples.targets[~held], weights)
    return np.asarray(ridge.predict(words[held]).clip(0, 1), np.float32)


def _loss(samples: Samples, rows: Bools, told: Floats | float) -> float:
    """Weighted squared error of some rows."""
    return float(((samples.targets[rows] - told) ** 2 * samples.weights[rows]).sum())


def _explained(samples: Samples, told: Floats) -> float:
    """Share of the targets' variance; below 0 where the mean itself tells more."""
    every = np.ones(len(samples), bool)
    mean = float(np.average(samples.targets, weights=samples.weights))
    spread = _loss(samples, every, mean)
    return 1 - _loss(samples, every, told) / spread if spread else 1.0
