"""Turn indices in buckets."""

from turnout.buckets import buckets_from, turn_bucket


def test_a_bucket_ends_where_the_next_begins_and_is_named_by_its_ends():
    assert buckets_from(2, 3, 6, 11) == ((2, "2"), (3, "3–5"), (6, "6–10"), (11, "11+"))


def test_a_turn_is_in_the_last_bucket_that_begins_before_it():
    assert [turn_bucket(index) for index in (1, 2, 3, 5, 6, 10, 11, 500)] == [
        "1", "2", "3–5", "3–5", "6–10", "6–10", "11+", "11+",
    ]  # fmt: skip
