"""The steps of a stage as they are told."""

import pytest

from turnout.progress import Steps, watched


def told_of(*names):
    """What was told, and steps that tell it."""
    calls = []
    return calls, Steps(lambda *what: calls.append(what), *names)


def test_a_step_of_unknown_length_has_its_number_and_is_one_unit_when_it_is_over():
    calls, steps = told_of("count", "draw")
    with steps.step("draw"):
        assert calls == [("2 of 2: draw", 0, None)]
    assert calls[1:] == [("2 of 2: draw", 1, 1)]


def test_a_step_of_known_length_tells_its_units_to_the_last():
    calls, steps = told_of("draw")
    with steps.step("draw", 9) as tell:
        tell(4)
    assert calls == [("1 of 1: draw", done, 9) for done in (0, 4, 9)]


def test_a_step_that_fails_is_not_told_as_done():
    calls, steps = told_of("draw")
    with pytest.raises(KeyError), steps.step("draw"):
        raise KeyError
    assert calls == [("1 of 1: draw", 0, None)]


def test_a_step_taken_again_is_told_apart():
    calls, steps = told_of("draw")
    with steps.step("draw", attempt=2):
        pass
    assert {name for name, _, _ in calls} == {"1 of 1: draw, attempt 2"}


def test_watched_items_come_unchanged_and_are_told_when_a_thousand_units_are_through():
    calls = []
    assert list(watched([400] * 6, calls.append, lambda item: item)) == [400] * 6
    assert calls == [1200, 2400]
