"""What is counted of a text's surface, and that any text can be counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.routing.surface import surface_of


def test_a_text_is_counted_as_the_names_say():
    counted = surface_of("Add 3.5 + 120?\nA. yes\nB. $x$ \\no. Done.")
    assert counted.log_numbers == pytest.approx(math.log(3))
    assert counted.log_lines == pytest.approx(math.log(3))
    assert (counted.questions, counted.has_options, counted.has_large_number) == (1, 1, 1)
    assert counted.log_largest == pytest.approx(math.log(121))
    assert counted.operators * 39 == pytest.approx(1)
    assert counted.dollars * 39 == pytest.approx(2)
    assert counted.backslashes * 39 == pytest.approx(1)
    assert counted.capitals * 39 == pytest.approx(4)
    assert counted.sentences == 5


def test_a_longer_text_counts_as_longer():
    assert surface_of("why " * 50).log_chars > surface_of("why " * 5).log_chars


def test_a_long_run_of_digits_is_no_large_number():
    assert surface_of("order 123456789012").has_large_number == 0
    assert surface_of("order 12345").has_large_number == 1


@given(st.text())
def test_any_text_has_finite_counts_that_are_not_negative(text):
    assert all(math.isfinite(count) and count >= 0 for count in surface_of(text))
