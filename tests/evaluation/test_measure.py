"""Measurements of test rows that have their labels' ratio by weights alone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from turnout.evaluation.findings import Leak, findings
from turnout.evaluation.folds import FoldScores, pooled
from turnout.evaluation.measure import Reference, Scored, compare_methods
from turnout.evaluation.truncation import Truncation
from turnout.records import ModelInput
from turnout.routing import Formatter, Priors
from turnout.samples import DatasetFolder, Samples

pytestmark = pytest.mark.slow


def rows_of_a_log():
    """600 rows of which about one in five needs reasoning, and a score right for balanced rows."""
    rng = np.random.default_rng(0)
    of_log = rng.beta(0.6, 2.4, 600)
    positive = rng.random(600) < of_log
    odds = of_log / (1 - of_log) * (1 - positive.mean()) / positive.mean()
    test = Samples(
        inputs=[ModelInput("m")] * 600,
        conversation_ids=[f"c{n}" for n in range(600)],
        turn_indices=np.ones(600, np.int32),
        groups=[None] * 600,
        cv_groups=[None] * 600,
        labels=np.where(positive, 0, 1).astype(np.int8),
        targets=positive.astype(np.float32),
        weights=np.ones(600, np.float32),
    )
    methods = {"this router": "router", "length": "baseline", "TF-IDF + linear": "baseline"}
    balanced = odds / (1 + odds)
    return test, [Scored(name, kind, balanced) for name, kind in methods.items()], positive


def measured(factors=None, groups=None):
    test, scored, positive = rows_of_a_log()
    if groups is not None:
        test = replace(test, cv_groups=[f"g{n % groups}" for n in range(600)])
    weights = None if factors is None else np.where(positive, factors[0], factors[1])
    reference = Reference("labels", positive, np.ones(600, bool))
    sent = scored[0].scores >= 0.5
    return compare_methods(reference, scored, test, sent, 0, None, weights), positive.mean()


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


def test_folds_of_such_rows_are_measured_as_balanced_rows_too(tmp_path):
    test, scored, positive = rows_of_a_log()
    share = positive.mean()
    factors = {"reasoning": 0.5 / share, "fast": 0.5 / (1 - share)}
    description = {"source": "labels", "weighting": {"label_factors": {"test": factors}}}
    data = DatasetFolder(tmp_path, description, Formatter("session"), Priors())
    fold = FoldScores(
        test, scored, scored[0].scores >= 0.5, Leak(0, 0), Truncation(128, 0.0, 0.0, 0.0),
        {"median": 1.0, "p95": 1.0, "rows": 1}, "a base", None, {"train": 1, "validation": 1}, 1,
    )  # fmt: skip
    result = pooled(data, [fold], name="folds", truths=None, examples=0, seed=0)
    assert result["results"][0]["calibration"]["ece"]["value"] < 0.07


@pytest.mark.parametrize(
    ("groups", "outcome", "said"),
    [
        pytest.param(4, "issue", "conversations in 4 groups .* fewer than 10 groups", id="few"),
        pytest.param(60, "pass", "600 conversations in 60 groups give an interval 0", id="many"),
    ],
)
def test_an_interval_of_few_groups_is_found_too_narrow_to_trust(groups, outcome, said):
    result, _ = measured(groups=groups)
    checks = findings(
        [result],
        Leak(0, 0),
        trained_on_it=None,
        truncation=Truncation(128, 0.0, 0.0, 0.0),
        probed=None,
    )
    warning = next(check for check in checks if check.code == "E004")
    assert (warning.outcome, bool(re.search(said, warning.sentence))) == (outcome, True), warning
