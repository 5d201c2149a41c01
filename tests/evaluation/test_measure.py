"""Measurements of test rows that have their labels' ratio by weights alone."""

import numpy as np
import pytest

from turnout.evaluation.measure import Reference, Scored, compare_methods
from turnout.records import ModelInput
from turnout.samples import Samples


def measured(factors=None):
    """A score right for balanced rows, on rows of which one in five needs reasoning."""
    rng = np.random.default_rng(0)
    of_log = rng.beta(0.6, 2.4, 600)
    positive = rng.random(600) < of_log
    odds = of_log / (1 - of_log) * (1 - positive.mean()) / positive.mean()
    labels = np.where(positive, 0, 1).astype(np.int8)
    test = Samples(
        inputs=[ModelInput("m")] * 600,
        conversation_ids=[f"c{n}" for n in range(600)],
        turn_indices=np.ones(600, np.int32),
        groups=[None] * 600,
        cv_groups=[None] * 600,
        labels=labels,
        targets=positive.astype(np.float32),
        weights=np.ones(600, np.float32),
    )
    balanced = odds / (1 + odds)
    weights = None if factors is None else np.where(positive, factors[0], factors[1])
    scored = [
        Scored(name, kind, balanced)
        for name, kind in (("this router", "router"), ("TF-IDF", "baseline"))
    ]
    reference = Reference("labels", positive, np.ones(600, bool))
    share = positive.mean()
    return compare_methods(reference, scored, test, balanced >= 0.5, 0, None, weights), share


def test_rows_that_weights_balance_are_measured_as_balanced_rows():
    plain, share = measured()
    weighted, _ = measured((0.5 / share, 0.5 / (1 - share)))
    assert plain.calibration.ece.value > 0.1, "one in five is no half"
    assert weighted.calibration.ece.value < 0.07
    assert weighted.methods[0].metrics["ece"].value < 0.07
    for part in weighted.reliability:
        assert part.mean_score == pytest.approx(part.observed.value, abs=0.25)
    auroc = [result.methods[0].metrics["auroc"].value for result in (plain, weighted)]
    assert auroc[0] == pytest.approx(auroc[1]), "ranks do not depend on the ratio"
