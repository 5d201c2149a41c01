"""What counts of a surface say of a need: which rows teach it, and across what."""

import numpy as np
import pytest

from turnout.records import ModelInput
from turnout.routing.surface import Surface
from turnout.samples import Samples
from turnout.training.surface_fit import LENGTH_LOGITS, fit_surface

NUMBERS, LINES, LENGTH, OPTIONS = map(
    Surface._fields.index, ("log_numbers", "log_lines", "log_chars", "has_options")
)


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
    assert (fit.slopes[:, NUMBERS] > 1).all()
    assert (fit.slopes[:, LINES] == 0).all()
    assert fit.deviation[LINES] == 1


def test_length_adds_the_same_whatever_the_rows_say():
    needs = np.tile([0.0, 1.0], 100)
    fit = fit_surface(samples(needs, [None] * 200, 1 - needs), counts(200, log_numbers=needs))
    assert fit.slopes[:, LENGTH] == pytest.approx(LENGTH_LOGITS)


def hard_and_labelled(options):
    """Numbers go with need in the labelled half, lines with hardness in the other, optioned."""
    needs = np.tile([0.0, 1.0], 100)
    half = np.repeat([True, False], 100)
    groups = ["labelled"] * 100 + ["hard for weak models"] * 100
    labels = np.where(half, 1 - needs, -1)
    table = counts(200, log_numbers=needs * half, log_lines=needs * ~half)
    table[:100, LINES] = np.repeat([0.0, 1.0], 50)  # they vary, and tell nothing
    table[100:, OPTIONS] = options
    return needs, groups, labels, table


def test_groups_without_a_label_teach_little_and_no_level():
    needs, groups, labels, table = hard_and_labelled(options=0)
    fit = fit_surface(samples(needs, groups, labels), table)
    high = fit_surface(samples(np.where(labels < 0, 1.0, needs), groups, labels), table)
    assert 0 < fit.slopes[0, LINES] < 0.2 * fit.slopes[0, NUMBERS]
    assert fit.slopes[1, LINES] == pytest.approx(0, abs=1e-9)
    assert high.bias[1] == pytest.approx(fit.bias[1])


def test_rows_without_a_group_teach_nothing_where_others_have_one():
    needs, groups, labels, table = hard_and_labelled(options=0)
    groups = groups[:100] + [None] * 100
    fit = fit_surface(samples(needs, groups, labels), table)
    assert fit.slopes[0] == pytest.approx(fit.slopes[1])


def test_questions_with_options_learn_from_every_group_of_such_questions():
    needs, groups, labels, table = hard_and_labelled(options=1)
    fit = fit_surface(samples(needs, groups, labels), table)
    assert fit.slopes[0, LINES] == pytest.approx(0, abs=1e-9)
    assert fit.slopes[1, LINES] > fit.slopes[0, NUMBERS] / 2
    # What is added ranks such questions; their mean margin is what the labelled rows say.
    margins = (np.clip((table - fit.mean) / fit.deviation, -4, 4)[100:]) @ fit.slopes.T + fit.bias
    assert margins[:, 0].mean() == pytest.approx(margins[:, 1].mean())


def test_what_tells_need_inside_groups_weighs_more_than_what_tells_groups_apart():
    inside = np.tile([0.0, 1.0], 100)
    groups = ["maths"] * 100 + ["code"] * 100
    between = np.repeat([0.0, 1.0], 100)
    needs = 0.5 * inside + 0.5 * between
    table = counts(200, log_numbers=inside, log_lines=between)
    grouped = fit_surface(samples(needs, groups, inside), table)
    ungrouped = fit_surface(samples(needs, [None] * 200, inside), table)
    assert ungrouped.slopes[0, NUMBERS] == pytest.approx(ungrouped.slopes[0, LINES])
    assert grouped.slopes[0, NUMBERS] > 2 * grouped.slopes[0, LINES]
