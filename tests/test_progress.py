"""The steps of a stage as they are told."""

import pytest

from turnout.progress import Steps, watched


def told_of(*names):
    """What was told, and steps that tell it."""
    told = []
    return told, Steps(lambda *what: told.append(what), *names)


def test_a_step_of_unknown_length_has_its_number_and_is_one_unit_when_it_is_over():
    told, steps = told_of("count", "draw")
    with steps.step("draw"):
        assert told == [("2 of 2: draw", 0, None)]
    assert told[1:] == [("2 of 2: draw", 1, 1)]


def test_a_step_of_known_length_tells_its_units_to_the_last():
    told, steps = told_of("draw")
    with steps.step("draw", 9) as tell:
        tell(4)
    assert told == [("1 of 1: draw", done, 9) for done in (0, 4, 9)]


def test_a_step_that_fails_is_not_told_as_done():
    told, steps = told_of("draw")
    with pytest.raises(KeyError), steps.step("draw"):
        raise KeyError
    assert told == [("1 of 1: draw", 0, None)]


def test_a_step_taken_again_is_told_apart():
    told, steps = told_of("draw")
    with steps.step("draw", attempt=2):
        pass
    assert {name for name, _, _ in told} == {"1 of 1: draw, attempt 2"}


def test_watched_items_come_unchanged_and_are_told_when_a_thousand_units_are_through():
    told = []
    assert list(watched([400] * 6, told.append, lambda item: item)) == [400] * 6
    assert told == [1200, 2400]
