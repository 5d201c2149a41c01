"""Write what a router's traffic looks like into its folder, for `turnout drift`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

from turnout.progress import OnProgress
from turnout.records import Population
from turnout.routing.encoding import InputEncoder, read_tokenizer
from turnout.routing.folder import GRAPHS, TOKENIZER_NAME, RouterSpec
from turnout.routing.message_facts import (
    WordGroups,
    bucket_counts,
    message_facts,
    projections,
    surprises,
)
from turnout.routing.reference import (
    NAMED,
    QUANTITIES,
    SCORE,
    Bins,
    Quantity,
    Reference,
    write_reference,
)
from turnout.routing.scorer import OnnxScorer
from turnout.routing.traffic_rows import TrafficRows
from turnout.samples import Samples, Traffic

Floats = NDArray[np.float64]

MOST_BINS = 10
SCORE_BINS = 20
KINDS = 12
# Fewer conversations in a bin make its share too rough to compare.
MIN_CONVERSATIONS_A_BIN = 15
_MOST_TRAINING_ROWS = 5_000
_MIN_ROWS_A_KIND = 20


def write_traffic_reference(
    folder: Path,
    spec: RouterSpec,
    precision: str,
    traffic: Traffic,
    train: Samples,
    on_progress: OnProgress,
) -> None:
    """Score traffic that did not train the router, and count how it lies.

    Args:
        folder: A router folder that has its graph and its tokenizer.
        spec: Its description.
        precision: The graph that serves.
        traffic: What is counted.
        train: The training rows; they say which words are usual.
        on_progress: Called every few rows.
    """
    population = spec.priors.default
    encoder = InputEncoder.from_file(folder / TOKENIZER_NAME, spec.max_tokens)
    scorer = OnnxScorer(folder / GRAPHS[precision], encoder, None, spec.priors.shift(population))
    scores = scorer.score(
        traffic.inputs, lambda _, done, total: on_progress("reference", done, total)
    )
    tokenizer = read_tokenizer(folder / TOKENIZER_NAME)
    words = _word_groups([row.message for row in train.inputs], tokenizer)
    _, conversations = np.unique(traffic.conversation_ids, return_inverse=True)
    rows = TrafficRows(
        conversations=conversations.astype(np.int64),
        turn_counts=traffic.turn_counts,
        scores=scores.astype(np.float64),
        facts=message_facts([row.message for row in traffic.inputs], tokenizer, words),
        weights=traffic.weights,
        prior=spec.priors.default_share,
    )
    threshold = spec.threshold_for(population)
    write_reference(folder, reference_of(rows, words, population, threshold, traffic.source))


def reference_of(
    rows: TrafficRows,
    words: WordGroups,
    population: Population,
    threshold: float,
    source: Literal["traffic", "validation"],
) -> Reference:
    """Choose bins for every quantity, and count the rows.

    Args:
        rows: What is counted.
        words: That the facts of the rows were made with.
        population: Of the scores.
        threshold: That stands; the bins of scores have an edge there.
        source: Where the rows come from.
    """
    return Reference(
        source=source,
        rows=len(rows.scores),
        conversations=len(np.unique(rows.conversations)),
        population=population,
        words=words,
        quantities={
            name: _quantity(rows, name, threshold, len(words.centres)) for name in QUANTITIES
        },
    )


def _quantity(rows: TrafficRows, name: str, threshold: float, kinds: int) -> Quantity:
    bins = _bins(rows, name, threshold, kinds)
    counted = rows.counted(name, bins)
    if counted is None:
        raise ValueError(f"the data set knows no {name}")
    return Quantity(bins, counted, rows.median(name))


def _bins(rows: TrafficRows, name: str, threshold: float, kinds: int) -> Bins:
    """Bins with about as many conversations in each."""
    values = rows.values(name)
    if values is None:
        raise ValueError(f"the data set knows no {name}")
    fit = len(np.unique(rows.conversations)) // MIN_CONVERSATIONS_A_BIN
    if name == "kind":
        return Bins(names=tuple(map(str, range(kinds))))
    if name in NAMED:
        return Bins(names=_frequent_names([str(v) for v in values], rows.conversations))
    numbers = np.asarray(values, np.float64)
    most = SCORE_BINS if name == SCORE else MOST_BINS
    edges = _quantiles(numbers, rows.weights_of(name), max(2, min(most, fit)))
    if name == SCORE:
        # So that the share of decisions is exact at the threshold that stands.
        edges = np.unique(np.append(edges, threshold))
    return Bins(tuple(edges.tolist()))


def _quantiles(values: Floats, weights: Floats, bins: int) -> Floats:
    order = np.argsort(values, kind="stable")
    places = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    positions = np.searchsorted(places, np.arange(1, bins) / bins)
    ends = np.unique(values[order][np.minimum(positions, len(values) - 1)])
    distinct = np.unique(values)
    # Between two values: one that is computed anew with other last digits stays in its bin.
    before = np.searchsorted(distinct, ends) - 1
    inside = before >= 0
    return np.asarray((distinct[before[inside]] + ends[inside]) / 2)


def _frequent_names(names: Sequence[str], conversations: NDArray[np.int64]) -> tuple[str, ...]:
    having = {
        name: len({c for n, c in zip(names, conversations.tolist(), strict=True) if n == name})
        for name in set(names)
    }
    frequent = [n for n, count in having.items() if count >= MIN_CONVERSATIONS_A_BIN]
    return tuple(sorted(frequent, key=lambda n: (-having[n], n)))


def _word_groups(messages: Sequence[str], tokenizer: Tokenizer) -> WordGroups:
    taken = np.linspace(0, len(messages) - 1, min(_MOST_TRAINING_ROWS, len(messages)))
    counts = bucket_counts([messages[int(number)] for number in taken], tokenizer)
    surprise = surprises(counts)
    projected = projections(counts, surprise)
    different = len(np.unique(projected, axis=0))
    kinds = max(1, min(KINDS, different, len(counts) // _MIN_ROWS_A_KIND))
    # More threads would sum in another order, and give other middles.
    with threadpool_limits(1):
        centres = KMeans(kinds, n_init=2, random_state=0).fit(projected).cluster_centers_
    return WordGroups(surprise, np.asarray(centres, np.float64)).rounded()
