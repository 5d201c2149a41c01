"""Trees on the counts of a message's surface, as plain arrays; knows no encoder and no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from turnout.samples import Samples
from turnout.training.surface_fit import LOGITS_A_TARGET, in_labelled_groups

Floats = NDArray[np.float64]

TREES = 200
DEPTH = 6
RATE = 0.05
# A leaf holds at least so many rows; every tree looks at so large a share of the rows, every split
# at so large a share of the counts.
ROWS_A_LEAF = 20
SHARE_OF_ROWS = 0.7
SHARE_OF_COUNTS = 0.5
# More tell little and take minutes.
MAX_ROWS = 20_000


class SurfaceTrees(NamedTuple):
    """A sum of complete binary trees.

    Node i leads to node 2i + 1 where its count is at most its threshold, else to 2i + 2.

    Attributes:
        counts: Which count a node looks at, shape `(t, 2^d − 1)`.
        thresholds: Infinite below a leaf, shape `(t, 2^d − 1)`.
        values: Logits at the ends, left to right, shape `(t, 2^d)`.
        bias: Logits before any tree.
    """

    counts: NDArray[np.int64]
    thresholds: Floats
    values: Floats
    bias: float


def fit_trees(samples: Samples, counts: Floats, seed: int) -> SurfaceTrees:
    """Boost trees on the targets of groups that carry labels.

    They rank kinds of messages that they have seen better than words do, and others worse than a
    line does: see `surface_fit` for those.

    Args:
        samples: Targets, weights, labels and groups, n rows; at least one label.
        counts: As `surface_of` gives them, shape `(n, 18)`.
        seed: Decides which rows and counts a tree looks at.

    Source:
        Friedman (2002), "Stochastic gradient boosting".
    """
    rows = np.flatnonzero(in_labelled_groups(samples))
    rows = np.random.default_rng(seed).permutation(rows)[:MAX_ROWS]
    boosted = GradientBoostingRegressor(
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        min_samples_leaf=ROWS_A_LEAF,
        subsample=SHARE_OF_ROWS,
        max_features=SHARE_OF_COUNTS,
        random_state=seed,
    ).fit(counts[rows], samples.targets[rows], samples.weights[rows])
    trees = [_complete(tree) for tree in boosted.estimators_[:, 0]]
    looked_at, thresholds, values = (np.stack(part) for part in zip(*trees, strict=True))
    mean = np.average(samples.targets[rows], weights=samples.weights[rows])
    scale = LOGITS_A_TARGET
    return SurfaceTrees(looked_at, thresholds, scale * RATE * values, scale * float(mean - 0.5))


def _complete(tree: DecisionTreeRegressor) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The tree with every leaf carried down to `DEPTH`."""
    nodes = 2**DEPTH - 1
    counts, thresholds = np.zeros(nodes, np.int64), np.full(nodes, np.inf)
    values = np.zeros(nodes + 1)
    found = tree.tree_

    def carry(node: int, place: int) -> None:
        if place >= nodes:
            values[place - nodes] = found.value[node, 0, 0]
            return
        left, right = found.children_left[node], found.children_right[node]
        if left != right:
            counts[place], thresholds[place] = found.feature[node], found.threshold[node]
        else:
            left = right = node
        carry(left, 2 * place + 1)
        carry(right, 2 * place + 2)

    carry(0, 0)
    return counts, thresholds, values
