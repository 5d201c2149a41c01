"""A linear model on words: logistic regression on the TF-IDF of token n-grams.

It reads what an encoder reads, in the same token ids, and needs neither torch nor many rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from turnout.progress import OnProgress
from turnout.records import LABEL_REASONING
from turnout.routing.encoding import TokenIds
from turnout.samples import Samples
from turnout.training.topics import topics_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# It is cheap to read: a message as long as the formatter shows it, and its context.
MAX_TOKENS = 4096
# Of every field, the most frequent ones.
MAX_NGRAMS = 50_000
# What stands in a single row tells nothing of others, and need not leave the data set.
MIN_ROWS_A_NGRAM = 2
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 5


class FieldScales(NamedTuple):
    """How much the fields of the context count beside the message, whose scale is 1.

    Every column of a field is multiplied by its scale, so that the penalty holds it back more.
    """

    previous_turns: float = 1.0
    header: float = 1.0


# Where the message alone decides, the words of its context are only noise.
SCALES = (FieldScales(), FieldScales(1.0, 0.3), FieldScales(0.5, 0.3))
# With more rows than these, one fold tells which penalty to take.
MAX_ROWS_FOR_ALL_FOLDS = 20_000
# With more rows than these, one drawing of topics tells which penalty to take.
MAX_ROWS_FOR_ALL_DRAWINGS = 5_000
TOPIC_DRAWINGS = 3
# N-grams of so many rows are in memory at a time.
_ROWS_A_BLOCK = 2_000
STEP = "linear model on words"
MESSAGE, PREVIOUS_TURNS, HEADER = 0, 1, 2
FIELDS = {MESSAGE: "message", PREVIOUS_TURNS: "previous turns", HEADER: "header"}
_MAX_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class FieldNgrams:
    """The token n-grams of a field that the model knows.

    Attributes:
        field: One of `FIELDS`.
        unigrams: Token ids, shape `(u,)`, rising.
        bigrams: Pairs of token ids, shape `(b, 2)`, rising.
        idf: Inverse document frequencies, shape `(u + b,)`, unigrams first.
    """

    field: int
    unigrams: Integers
    bigrams: Integers
    idf: Floats


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A fitted linear model on words; its margin is log-odds of reasoning, not yet calibrated.

    Attributes:
        features: How token ids become columns.
        coefficients: Shape `(k,)`, as `LinearFeatures.fields` goes on.
        intercept: In nats.
        penalty: Inverse strength of the L2 penalty, as scikit-learn's `C`.
        scales: Of the context's columns when it was fitted; the coefficients are of columns
            without them.
        rows: Training rows with a weight above 0.
        held_out_margins: Margins of the n training rows by models that were not fitted on their
            cluster, shape `(n,)`; NaN where there was none.
    """

    features: LinearFeatures
    coefficients: Floats
    intercept: float
    penalty: float
    scales: FieldScales
    rows: int
    held_out_margins: Floats

    def margins(self, tokens: Sequence[TokenIds]) -> Floats:
        """Log-odds of reasoning, shape `(n,)`."""
        return np.asarray(self.features.columns(tokens) @ self.coefficients + self.intercept)


class _Block(NamedTuple):
    """The tokens of some rows, one after another.

    Attributes:
        ids: Token ids, shape `(t,)`.
        fields: The field of every token, shape `(t,)`.
        rows: The row of every token in this block, shape `(t,)`.
        n_rows: Rows, those without a token too.
    """

    ids: Integers
    fields: NDArray[np.int8]
    rows: Integers
    n_rows: int


class LinearFeatures:
    """Token ids → columns: TF-IDF of the n-grams of every field, each scaled by itself.

    The fields are the message, and of the context the header up to the first separator, which says
    how far the conversation is, and the previous turns after it. Among the words of previous turns
    the header would count for little (docs/experiments/034-header-apart.md).

    Args:
        tokens: The rows to learn n-grams and frequencies from.
        separator: Token id; with None the whole context is header.
    """

    def __init__(self, tokens: Sequence[TokenIds], separator: int | None) -> None:
        self.separator = separator
        self._vocabulary_size = 1 + max(max(row.ids, default=0) for row in tokens)
        self._parts: list[tuple[int, Integers, TfidfTransformer]] = []
        blocks = list(self._blocks(tokens))
        for field in FIELDS:
            known = _most_frequent([_rows_of_codes(*self._coded(block, field)) for block in blocks])
            if len(known):
                counts = [self._counts(block, field, known) for block in blocks]
                tfidf = TfidfTransformer(sublinear_tf=True).fit(sparse.vstack(counts, "csr"))
                self._parts.append((field, known, tfidf))

    @property
    def fields(self) -> list[FieldNgrams]:
        """The n-grams of every field that some row has."""
        size = self._vocabulary_size
        parts = []
        for field, codes, tfidf in self._parts:
            bigrams = codes[codes >= size] - size
            pairs = np.stack([bigrams // size, bigrams % size], axis=1)
            parts.append(FieldNgrams(field, codes[codes < size], pairs, tfidf.idf_))
        return parts

    def column_scales(self, scales: FieldScales) -> Floats:
        """The scale of every column, shape `(k,)`."""
        of_field = {MESSAGE: 1.0, PREVIOUS_TURNS: scales.previous_turns, HEADER: scales.header}
        return np.repeat(
            [of_field[field] for field, _, _ in self._parts],
            [len(known) for _, known, _ in self._parts],
        )

    def columns(self, tokens: Sequence[TokenIds]) -> sparse.csr_matrix:
        """Shape `(n, k)`."""
        blocks = [
            sparse.hstack(
                [
                    tfidf.transform(self._counts(block, field, known))
                    for field, known, tfidf in self._parts
                ],
                "csr",
            )
            for block in self._blocks(tokens)
        ]
        return sparse.vstack(blocks, "csr")

    def _counts(self, block: _Block, field: int, known: Integers) -> sparse.csr_matrix:
        """How often every known n-gram of a field stands in every row, shape `(n, k)`."""
        codes, rows = self._coded(block, field)
        columns = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        hit = known[columns] == codes
        ones = np.ones(int(hit.sum()))
        shape = (block.n_rows, len(known))
        return sparse.csr_matrix((ones, (rows[hit], columns[hit])), shape=shape)

    def _coded(self, block: _Block, field: int) -> tuple[Integers, Integers]:
        """Every n-gram of a field as one number, and its row; unigrams have the lower numbers."""
        ids, fields, rows, _ = block
        inside = (fields == field) & (ids < self._vocabulary_size)
        both = inside[:-1] & inside[1:] & (rows[:-1] == rows[1:])
        pairs = self._vocabulary_size * (1 + ids[:-1]) + ids[1:]
        return (
            np.concatenate([ids[inside], pairs[both]]),
            np.concatenate([rows[inside], rows[:-1][both]]),
        )

    def _blocks(self, tokens: Sequence[TokenIds]) -> Iterator[_Block]:
        for start in range(0, max(len(tokens), 1), _ROWS_A_BLOCK):
            part = tokens[start : start + _ROWS_A_BLOCK]
            lengths = [len(row.ids) for row in part]
            ids = np.fromiter((i for row in part for i in row.ids), np.int64, sum(lengths))
            fields = np.fromiter(
                (i for row in part for i in self._fields_of(row)), np.int8, len(ids)
            )
            yield _Block(ids, fields, np.repeat(np.arange(len(part)), lengths), len(part))

    def _fields_of(self, row: TokenIds) -> list[int]:
        """The field of every token: the first separator of the context ends the header."""
        fields, ended = [], False
        for token, segment in zip(row.ids, row.type_ids, strict=True):
            ended = ended or (segment == 1 and token == self.separator)
            fields.append(PREVIOUS_TURNS if ended else HEADER if segment else MESSAGE)
        return fields


def fit_linear(
    tokens: Sequence[TokenIds],
    separator: int | None,
    samples: Samples,
    seed: int,
    on_progress: OnProgress,
    penalties: Sequence[float] = PENALTIES,
    scales: Sequence[FieldScales] = SCALES,
) -> LinearModel:
    """Fit on targets, rows counted by their weights.

    Penalty and scales are those that rank best on topics that they were not fitted on: future
    messages are about other things, and what is chosen on held-out conversations alone learns the
    words of the topics that it knows (docs/experiments/044-penalty-for-other-topics.md).

    Args:
        tokens: What the rows show, in at most `MAX_TOKENS` tokens each.
        separator: The token after the context's header; None where it is not one token.
        samples: n rows; weights above 0 for both outcomes.
        seed: Decides the topics and the folds.
        on_progress: Called at every fit.
        penalties: To choose from.
        scales: To choose from, where rows have a context.

    Source:
        Joachims (1998), "Text categorization with support vector machines"; Wang and Manning
        (2012), "Baselines and bigrams".
    """
    held_out = np.full(len(samples), np.nan)
    used = np.flatnonzero(samples.weights > 0)
    samples, tokens = samples.take(used), [tokens[int(row)] for row in used]
    features = LinearFeatures(tokens, separator)
    columns = features.columns(tokens)
    clusters = samples.clusters_of(range(len(samples)))
    if {part.field for part in features.fields} == {MESSAGE}:
        scales = scales[:1]
    n_steps = 2 * len(penalties) + len(scales) + 1
    # Sums over sparse rows are too short to share, and one thread adds in the same order anywhere.
    with threadpool_limits(1):
        penalty, chosen = penalties[0], scales[0]
        if len(penalties) > 1:
            search = _Search(features, columns, samples, _topic_folds(columns, clusters, seed))
            penalty, chosen = search.best(penalties, scales, on_progress, n_steps)
        of_column = features.column_scales(chosen)
        columns = _scaled(columns, of_column)
        on_progress(STEP, n_steps - 2, n_steps)
        held_out[used] = _held_out_margins(columns, samples, _folds(clusters, seed), penalty)
        on_progress(STEP, n_steps - 1, n_steps)
        model = _fitted(columns, samples, np.arange(len(samples)), penalty)
    on_progress(STEP, n_steps, n_steps)
    return LinearModel(
        features=features,
        coefficients=model.coef_[0] * of_column,
        intercept=float(model.intercept_[0]),
        penalty=penalty,
        scales=chosen,
        rows=len(samples),
        held_out_margins=held_out,
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """Penalties and scales by how well they rank rows of other topics.

    Attributes:
        features: Of the columns.
        columns: Of n rows, not scaled.
        samples: The rows.
        drawings: Folds of topics, drawn several times.
    """

    features: LinearFeatures
    columns: sparse.csr_matrix
    samples: Samples
    drawings: list[list[tuple[Integers, Integers]]]

    def best(
        self,
        penalties: Sequence[float],
        scales: Sequence[FieldScales],
        on_progress: OnProgress,
        n_steps: int,
    ) -> tuple[float, FieldScales]:
        """The best penalty, the best scales with it, and with other scales the penalty again."""
        ranks: dict[tuple[float, FieldScales], float] = {}

        def better(candidates: Sequence[tuple[float, FieldScales]]) -> tuple[float, FieldScales]:
            for candidate in candidates:
                if candidate not in ranks:
                    on_progress(STEP, len(ranks), n_steps)
                    ranks[candidate] = self._rank(*candidate)
            return max(ranks, key=ranks.__getitem__)

        penalty, _ = better([(each, scales[0]) for each in penalties])
        penalty, chosen = better([(penalty, each) for each in scales])
        if chosen == scales[0]:
            return penalty, chosen
        return better([(each, chosen) for each in penalties])

    def _rank(self, penalty: float, scales: FieldScales) -> float:
        columns = _scaled(self.columns, self.features.column_scales(scales))
        return float(
            np.mean([_ranking(columns, self.samples, each, penalty) for each in self.drawings])
        )


def _scaled(columns: sparse.csr_matrix, of_column: Floats) -> sparse.csr_matrix:
    return (columns @ sparse.diags_array(of_column)).tocsr()


def _topic_folds(
    columns: sparse.csr_matrix, clusters: Sequence[str], seed: int
) -> list[list[tuple[Integers, Integers]]]:
    """Folds of whole topics, several times: few rows have topics that another seed draws anew."""
    count = TOPIC_DRAWINGS if len(clusters) <= MAX_ROWS_FOR_ALL_DRAWINGS else 1
    seeds = range(seed, seed + count)
    return [_folds(topics_of(columns, clusters, each), each) for each in seeds]


def _folds(groups: Sequence[str] | Integers, seed: int) -> list[tuple[Integers, Integers]]:
    """Rows to fit on and rows held out, of other groups; none where there is one group."""
    count = min(FOLDS, len(set(groups)))
    if count == 1:
        return []
    splitter = GroupKFold(count, shuffle=True, random_state=seed)
    folds = list(splitter.split(np.zeros(len(groups)), groups=groups))
    return folds if len(groups) <= MAX_ROWS_FOR_ALL_FOLDS else folds[:1]


def _held_out_margins(
    columns: sparse.csr_matrix,
    samples: Samples,
    folds: Sequence[tuple[Integers, Integers]],
    penalty: float,
) -> Floats:
    """Margins of the rows held out in the folds, shape `(n,)`; NaN elsewhere."""
    margins = np.full(len(samples), np.nan)
    for fitted, held in folds:
        if _has_both_outcomes(samples.targets[fitted]):
            model = _fitted(columns, samples, fitted, penalty)
            margins[held] = model.decision_function(columns[held])
    return margins


def _ranking(
    columns: sparse.csr_matrix,
    samples: Samples,
    folds: Sequence[tuple[Integers, Integers]],
    penalty: float,
) -> float:
    """How well fits rank rows of other topics: the mean of AUROC over all rows and inside folds.

    A fit without a topic of much reasoning expects less of it everywhere, so that all its margins
    lie lower: over all rows each fit's own share of reasoning is taken out.

    Source:
        Parker, Günter and Bedo (2007), "Stratification bias in low signal microarray studies".
    """
    margins = _held_out_margins(columns, samples, folds, penalty)
    inside, pairs = [], []
    for fitted, held in folds:
        share = np.average(samples.targets[fitted], weights=samples.weights[fitted])
        margins[held] -= np.log(share / (1 - share)) if 0 < share < 1 else 0.0
        value, count = _auroc(samples, margins, held)
        inside.append(value)
        pairs.append(count)
    everywhere, _ = _auroc(samples, margins, np.arange(len(samples)))
    return (everywhere + float(np.average(inside, weights=pairs) if any(pairs) else 0.5)) / 2


def _auroc(samples: Samples, margins: Floats, rows: Integers) -> tuple[float, int]:
    """Weighted AUROC of the labelled rows that have a margin, and of how many pairs."""
    rows = rows[np.isfinite(margins[rows]) & samples.labelled[rows]]
    needs_reasoning = samples.labels[rows] == LABEL_REASONING
    count = int(needs_reasoning.sum()) * int((~needs_reasoning).sum())
    if not count:
        return 0.5, 0
    weights = samples.weights[rows]
    return float(roc_auc_score(needs_reasoning, margins[rows], sample_weight=weights)), count


def _fitted(
    columns: sparse.csr_matrix, samples: Samples, rows: Integers, penalty: float
) -> LogisticRegression:
    """Fit some rows; a target between 0 and 1 is a row of each outcome, which share its weight."""
    targets = samples.targets[rows].astype(np.float64)
    weights = samples.weights[rows].astype(np.float64)
    needs, does_not = np.flatnonzero(targets > 0), np.flatnonzero(targets < 1)
    model = LogisticRegression(C=penalty, max_iter=_MAX_ITERATIONS)
    return model.fit(
        columns[rows[np.concatenate([needs, does_not])]],
        np.repeat([1, 0], [len(needs), len(does_not)]),
        np.concatenate([(weights * targets)[needs], (weights * (1 - targets))[does_not]]),
    )


def _has_both_outcomes(targets: NDArray[np.float32]) -> bool:
    return bool((targets > 0).any() and (targets < 1).any())


def _rows_of_codes(codes: Integers, rows: Integers) -> tuple[Integers, Integers]:
    """The distinct n-grams, rising, and in how many rows each stands."""
    known, places = np.unique(codes, return_inverse=True)
    n_rows = int(rows.max(initial=0)) + 1
    once_a_row = np.unique(places.astype(np.int64) * n_rows + rows)
    return known, np.bincount(once_a_row // n_rows, minlength=len(known))


def _most_frequent(blocks: Sequence[tuple[Integers, Integers]]) -> Integers:
    """The n-grams of the most rows, rising; at most `MAX_NGRAMS`.

    Args:
        blocks: N-grams and their numbers of rows, as `_rows_of_codes` gives them for some rows.
    """
    codes, in_block = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    known, places = np.unique(codes, return_inverse=True)
    counts = np.zeros(len(known), np.int64)
    np.add.at(counts, places, in_block)
    most = np.argsort(-counts, kind="stable")[:MAX_NGRAMS]
    repeated = most[counts[most] >= MIN_ROWS_A_NGRAM]
    return np.sort(known[repeated if len(repeated) else most])
