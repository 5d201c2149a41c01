"""Trees on counts of a surface: what they learn, and that the arrays say what was fitted."""

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from tests.training.test_surface_fit import NUMBERS, counts, samples
from turnout.training.surface_fit import LOGITS_A_TARGET
from turnout.training.surface_trees import DEPTH, fit_trees


def read(trees, table):
    """Walk every tree, one row after another."""
    found = []
    for row in table.astype(np.float32):
        total = trees.bias
        for looked_at, thresholds, values in zip(
            trees.counts, trees.thresholds, trees.values, strict=True
        ):
            at = 0
            for _ in range(DEPTH):
                at = 2 * at + 1 + int(row[looked_at[at]] > thresholds[at])
            total += values[at - len(thresholds)]
        found.append(total)
    return np.asarray(found)


@pytest.fixture(scope="module")
def drawn():
    """Need rises and falls again with the numbers, which no line can say."""
    draw = np.random.default_rng(0)
    table = counts(400, log_numbers=draw.uniform(0, 3, 400), log_lines=draw.uniform(0, 3, 400))
    return table, (np.abs(table[:, NUMBERS] - 1.5) < 0.75).astype(float)


def test_trees_tell_what_no_line_can(drawn):
    table, needs = drawn
    trees = fit_trees(samples(needs, [None] * 400, 1 - needs), table, seed=0)
    low, middle, high = read(trees, counts(3, log_numbers=np.asarray([0.3, 1.5, 2.7])))
    assert middle > 1 > -1 > max(low, high)


def test_the_arrays_say_what_was_fitted(drawn, monkeypatch):
    kept = []
    fit = GradientBoostingRegressor.fit
    monkeypatch.setattr(
        GradientBoostingRegressor, "fit", lambda *given: kept.append(fit(*given)) or kept[0]
    )
    table, needs = drawn
    trees = fit_trees(samples(needs, [None] * 400, 1 - needs), table, seed=0)
    expected = LOGITS_A_TARGET * (kept[0].predict(table[:50]) - 0.5)
    assert read(trees, table[:50]) == pytest.approx(expected, abs=1e-6)


def test_groups_without_labels_teach_the_trees_nothing(drawn):
    table, needs = drawn
    groups = ["labelled"] * 200 + ["not"] * 200
    labels = np.r_[1 - needs[:200], np.full(200, -1)]
    other = np.r_[needs[:200], 1 - needs[200:]]
    one, two = (fit_trees(samples(y, groups, labels), table, seed=0) for y in (needs, other))
    assert read(one, table[:20]).tolist() == read(two, table[:20]).tolist()
