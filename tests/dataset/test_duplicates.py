"""Rows that are one input to the encoder: exact duplicates become one row, near ones go."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.sets import dataset, dataset_from_outcomes, rows_of
from tests.tables import turn
from turnout.dataset.candidates import candidate
from turnout.dataset.card import card
from turnout.dataset.cells import Cell
from turnout.dataset.duplicates import (
    EMPTY,
    EXACT,
    NEAR,
    deduplicated,
    near_groups,
    without_near,
)
from turnout.records import Turn
from turnout.routing import Formatter

MODELS = ("o3", "gpt-4o")


def candidates(*texts, **columns):
    """One candidate a text, in this order; (conversation, text, *previous texts) or text alone."""
    values = {
        "label": 0,
        "target": 1.0,
        "weight": 1.0,
        "evidence": [],
        "stratum": "",
        "position": "",
    }
    made = []
    for number, text in enumerate(texts):
        group, message, *previous = (f"c{number}", text) if isinstance(text, str) else text
        turns = [Turn(previous_text) for previous_text in [*previous[::-1], message]]
        own = {name: column[number] for name, column in columns.items()}
        made.append(
            candidate(
                Formatter("conversation"), turns, len(turns), f"{number:03}",
                values | own | {"conversation_id": group}, Cell(0, "", ""),
            )
        )  # fmt: skip
    return made


LONG = "please move the orders table to the new cluster before the weekend starts and tell me"


def test_of_two_equal_texts_the_first_in_order_stays():
    dropped = Counter()
    two = candidates(LONG, LONG)
    assert deduplicated(two[::-1], dropped).rows == two[:1]
    assert dropped == {EXACT: 1}


def test_of_two_nearly_equal_texts_the_first_in_order_stays():
    dropped = Counter()
    stayed = without_near(
        candidates(LONG, LONG + " once", LONG.upper() + "!", "another thing"), dropped
    )
    assert [c.values["message"] for c in stayed.rows] == [LONG, "another thing"]
    assert dropped == {NEAR: 2}


def test_short_messages_and_turns_of_one_conversation_may_be_alike():
    rows = candidates("yes do it now", "yes, do it now", ("same", LONG), ("same", LONG + " once"))
    assert len(without_near(rows, Counter()).rows) == 4


def test_different_requests_with_some_words_in_common_stay():
    other = LONG.replace("orders table", "billing service").replace("cluster", "region")
    assert len(without_near(candidates(LONG, other), Counter()).rows) == 2


HISTORY = "the first three stages of the import pass and the fourth one stops at the second table"
OTHER_HISTORY = (
    "we drive to the coast on Friday and I would like to see two castles on the way there"
)


def test_the_same_follow_up_after_another_conversation_is_no_duplicate():
    rows = candidates(("a", LONG, HISTORY), ("b", LONG, OTHER_HISTORY), ("c", LONG))
    assert without_near(deduplicated(rows, Counter()).rows, Counter()).rows == rows


def test_the_same_follow_up_after_nearly_the_same_conversation_is_a_near_duplicate():
    rows = candidates(("a", LONG, HISTORY), ("b", LONG + " once", HISTORY + " again"))
    assert without_near(rows, Counter()).rows == rows[:1]


def test_another_message_after_the_same_conversation_stays():
    other = "now explain why the index is not used when the second column alone is asked for"
    history = " ".join([HISTORY, OTHER_HISTORY] * 3)
    rows = candidates(("a", LONG, history), ("b", other, history))
    assert without_near(rows, Counter()).rows == rows


@pytest.mark.parametrize(
    ("text", "more"),
    [
        pytest.param("帮我把这个函数改写成异步的，并且解释为什么要这样做", "吧", id="Han"),
        pytest.param("このコードをテストしやすいようにリファクタリングして", "ね", id="kana"),
        pytest.param("ช่วยอธิบายโค้ดนี้ให้หน่อยว่ามันทำงานอย่างไร", "นะ", id="Thai"),
        pytest.param("🚀🔥🎉💡🧪📦🔧🪄🧭🗺🧵🪜🧱🧲🛠⚙🔩", "🪚", id="emoji"),
        pytest.param("a b c d e f g h i j k l m n", " o", id="letters"),
    ],
)
def test_texts_without_words_as_english_has_them_are_compared_by_characters(text, more):
    rows = candidates(text, text + more, text[::-1])
    assert without_near(rows, Counter()).rows == [rows[0], rows[2]]


@pytest.mark.parametrize("texts", ["你好，继续吧|你好，继续做", "👍|👍👍", "?|!|…", "а|б|в", "ok"])
def test_short_texts_of_any_script_are_no_near_duplicates(texts):
    rows = candidates(*texts.split("|"))
    assert without_near(rows, Counter()).rows == rows


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("Say it LOUD", "say it loud", id="case"),
        pytest.param("caf\u00e9 na\u00efve", "cafe\u0301 nai\u0308ve", id="NFC and NFD"),
        pytest.param("ＡＢＣ　１２", "ABC 12", id="full width"),
        pytest.param("zero\u200bwidth\ufeff text", "zerowidth text", id="zero width"),
        pytest.param("one ,two", "one, two", id="space around punctuation"),
        pytest.param("a  b\n\tc", "a b c", id="white space"),
    ],
)
def test_texts_that_an_uncased_encoder_reads_alike_are_one(first, second):
    dropped = Counter()
    assert len(deduplicated(candidates(first, second), dropped).rows) == 1
    assert dropped == {EXACT: 1}


@pytest.mark.parametrize("message", ["\u200b\u200d", "\u0301", "\x07 \x1b"])
def test_a_message_of_which_the_encoder_reads_nothing_is_empty(message):
    dropped = Counter()
    assert deduplicated(candidates(message), dropped).rows == []
    assert dropped == {EMPTY: 1}


def test_duplicates_are_one_row_with_their_mean_weight_and_weighted_mean_target():
    rows = candidates(
        "hello", "Hello", "hello!", target=[1.0, 0.2, 0.5], label=[0, 1, 0], weight=[1.0, 3.0, 1.0],
        evidence=[["upgrade"], ["-effort", "upgrade"], []],
    )  # fmt: skip
    merged, other = deduplicated(rows, Counter()).rows
    assert merged.values["target"] == pytest.approx(0.4)
    assert merged.values["weight"] == 2
    assert merged.values["label"] == merged.cell.label == 1
    assert merged.values["evidence"] == ["upgrade", "-effort"]
    assert merged.both_labels
    assert other == rows[2]


@given(st.permutations(range(4)), st.lists(st.floats(0, 9), min_size=4, max_size=4))
def test_what_duplicates_become_does_not_depend_on_their_order(order, weights):
    rows = candidates(
        *["hello"] * 4, target=[0.1, 0.3, 0.7, 1.0], label=[1, 1, 0, 0], weight=weights
    )
    expected = deduplicated(rows, Counter())
    assert deduplicated([rows[number] for number in order], Counter()) == expected
    assert 0.1 <= expected.rows[0].values["target"] <= 1


def test_a_text_with_both_labels_is_one_row_and_the_card_counts_it(tmp_path):
    rows = [turn(f"c{n}", 1, f"message {n}", MODELS[n % 2]) for n in range(200)]
    rows += [turn(f"same{n}", 1, "the same words", MODELS[n > 0]) for n in range(4)]
    data = dataset(tmp_path, rows, architecture="session")
    rows = [row for row in rows_of(data) if row["message"] == "the same words"]
    assert [(row["target"], row["label"]) for row in rows] == [(0.25, 1)]
    assert data.description["both_labels"] == 1
    assert "Texts with both labels: 1." in card(data.description)


def test_outcomes_of_one_prompt_are_averaged(tmp_path):
    rows = [
        {"prompt": f"question {n}", "reasoning_score": 0.9, "fast_score": 0.9 if n % 4 else 0.1}
        for n in range(200)
    ]
    rows += [
        {"prompt": "Both?", "reasoning_score": 1.0, "fast_score": 0.5},
        {"prompt": "both ?", "reasoning_score": 0.6, "fast_score": 0.9},
        {"prompt": "neither", "reasoning_score": 0.1, "fast_score": 0.1},
        {"prompt": "NEITHER", "reasoning_score": 0.1, "fast_score": 0.1},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    data = dataset_from_outcomes(tmp_path / "p.parquet")
    by_message = {row["message"].lower(): row for row in rows_of(data)}
    both = next(row for text, row in by_message.items() if text.startswith("both"))
    # A mean gap of 0.1 reaches the margin.
    assert (both["target"], both["label"]) == (pytest.approx(0.55), 0)
    assert by_message["neither"]["label"] is None
    assert data.description["both_labels"] == 1


def test_no_text_that_differs_in_form_alone_stands_in_two_splits(tmp_path):
    forms = [
        str,
        str.upper,
        lambda text: text.replace("e", "e\u0301"),
        lambda text: text + "\u200b",
    ]
    rows = [
        turn(f"c{n}-{form}", 1, change(f"message number {n}"), MODELS[n % 2])
        for n in range(300)
        for form, change in enumerate(forms)
    ]
    data = dataset(tmp_path, rows, architecture="session")
    assert data.description["rows"] == 300
    assert data.description["leaks"]["texts"] == 0


def test_rows_too_expensive_to_leave_out_pair_their_groups():
    rows = candidates("x", LONG, "y", LONG + " once", LONG + " once more")
    assert near_groups(rows) == [("c1", "c3"), ("c1", "c4"), ("c3", "c4")]


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=8, max_size=14), max_size=12
    )
)
def test_none_is_dropped_without_a_near_one_before_it(word_lists):
    rows = candidates(*(" ".join(words) for words in word_lists))
    stayed = without_near(rows, Counter()).rows

    def similarity(row, other):
        row, other = (
            {tuple(words[position : position + 3]) for position in range(len(words) - 2)}
            for words in (row.values["message"].split(), other.values["message"].split())
        )
        return len(row & other) / len(row | other)

    for position, row in enumerate(rows):
        before = [similarity(row, other) for other in rows[:position]]
        assert row in stayed or max(before) >= 0.8
        assert row not in stayed or 1 not in [
            similarity(row, other) for other in stayed if other != row
        ]


def test_thousands_of_messages_from_one_template_are_not_all_compared():
    words = "please look at ticket {} in queue {} of the team for customer {} and close it {}"
    rows = candidates(*(words.format(n, n * 7, n * 13, n * 31) for n in range(20_000)))
    assert len(without_near(rows, Counter()).rows) == 20_000
