"""What counts of a surface say of a need: which rows teach it, and across what."""

import numpy as np
import pytest

from turnout.records import ModelInput
from turnout.routing.surface import Surface
from turnout.samples import Samples
from turnout.training.surface_fit import LENGTH_LOGITS, fit_surface

NUMBERS, LINES, LENGTH = map(Surface._fields.index, ("log_numbers", "log_lines", "log_chars"))


def samples(targets, groups, labels):
    n = len(targets)
    return Samples(
        inputs=[ModelInput("")] * n,
        conversation_ids=[str(row) for row in range(n)],
        turn_indices=np.ones(n, np.int32),
        groups=groups,
        labels=np.asarray(labels, np.int8),
        targets=np.asarray(targets, np.float32),
        weights=np.ones(n, np.float32),
    )


def counts(n, **columns):
    table = np.zeros((n, len(Surface._fields)))
    for name, values in columns.items():
        table[:, Surface._fields.index(name)] = values
    return table


def test_a_count_that_goes_with_need_gets_a_slope_and_one_that_never_changes_does_not():
    needs = np.tile([0.0, 1.0], 100)
    fit = fit_surface(samples(needs, [None] * 200, 1 - needs), counts(200, log_numbers=needs))
    assert fit.slopes[NUMBERS] > 1
    assert fit.slopes[LINES] == 0
    assert fit.deviation[LINES] == 1


def test_length_adds_the_same_whatever_the_rows_say():
    needs = np.tile([0.0, 1.0], 100)
    fit = fit_surface(samples(needs, [None] * 200, 1 - needs), counts(200, log_numbers=needs))
    assert fit.slopes[LENGTH] == pytest.approx(LENGTH_LOGITS)


def test_groups_without_a_label_do_not_teach():
    needs = np.tile([0.0, 1.0], 100)
    groups = ["labelled"] * 100 + ["hard for weak models"] * 100
    labels = np.concatenate([1 - needs[:100], [-1] * 100])
    numbers = np.concatenate([needs[:100], 1 - needs[100:]])
    fit = fit_surface(samples(needs, groups, labels), counts(200, log_numbers=numbers))
    alone = fit_surface(
        samples(needs[:100], groups[:100], labels[:100]), counts(100, log_numbers=numbers[:100])
    )
    assert fit.slopes == pytest.approx(alone.slopes)


def test_what_tells_need_inside_groups_weighs_more_than_what_tells_groups_apart():
    inside = np.tile([0.0, 1.0], 100)
    groups = ["maths"] * 100 + ["code"] * 100
    between = np.repeat([0.0, 1.0], 100)
    needs = 0.5 * inside + 0.5 * between
    table = counts(200, log_numbers=inside, log_lines=between)
    grouped = fit_surface(samples(needs, groups, inside), table)
    ungrouped = fit_surface(samples(needs, [None] * 200, inside), table)
    assert ungrouped.slopes[NUMBERS] == pytest.approx(ungrouped.slopes[LINES])
    assert grouped.slopes[NUMBERS] > 2 * grouped.slopes[LINES]
