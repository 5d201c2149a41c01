"""Groups of conversations that are about the same things, by their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

MAX_TOPICS = 10
_DIMENSIONS = 50


def topics_of(columns: sparse.csr_matrix, clusters: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The topic of each row; rows of one cluster have one topic.

    Clusters are grouped by k-means on latent semantic coordinates of their mean row.

    Args:
        columns: TF-IDF of n rows, shape `(n, k)`.
        clusters: The cluster of each row, as `Samples.clusters_of` gives it.
        seed: Decides where k-means begins.

    Returns:
        At most `MAX_TOPICS` numbers, from 0 in the order of their first rows, shape `(n,)`.

    Source:
        Deerwester et al. (1990), "Indexing by latent semantic analysis".
    """
    names, cluster_of = np.unique(np.asarray(clusters, object), return_inverse=True)
    if len(names) <= MAX_TOPICS:
        return _numbered(cluster_of)
    rows = np.arange(len(cluster_of))
    members = sparse.csr_matrix((np.ones(len(rows)), (cluster_of, rows)))
    means = normalize(members @ columns)  # (clusters, k)
    left, singular, _ = randomized_svd(means, min(_DIMENSIONS, *means.shape), random_state=seed)
    points = normalize(left * singular)
    distinct = len(np.unique(points.round(6), axis=0))
    model = KMeans(min(MAX_TOPICS, distinct), n_init=3, random_state=seed)
    return _numbered(model.fit_predict(points)[cluster_of])


def _numbered(topics: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same topics, numbered in the order of their first rows."""
    _, first, topic_of = np.unique(topics, return_index=True, return_inverse=True)
    number_of = np.empty(len(first), np.int64)
    number_of[np.argsort(first)] = np.arange(len(first))
    return np.asarray(number_of[topic_of])
