"""A log with fewer rows than are wanted: none is left out, and weights balance them."""

from collections import Counter, defaultdict
from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.sets import build_folder, dataset, rows_of, splits_of
from tests.tables import turn
from turnout.dataset.candidates import Candidate
from turnout.dataset.card import card
from turnout.dataset.cells import Cell
from turnout.dataset.weighting import MOST_FOR_LABEL, MOST_FOR_PLACE, weighted
from turnout.samples import DatasetFolder

# One conversation in four has a reasoning model; long conversations are rare.
LENGTHS = (1, 1, 1, 3, 3, 6)


def short_log(conversations=240, reasoning_every=4):
    return [
        turn(f"c{n}", index, f"message {index} of {n}", "gpt-4o" if n % reasoning_every else "o3")
        for n in range(conversations)
        for index in range(1, LENGTHS[n % len(LENGTHS)] + 1)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    return dataset(folder, short_log(), architecture="conversation", size=10_000)


def weights_by(rows, name):
    sums = defaultdict(list)
    for row in rows:
        sums[row[name]].append(row["weight"])
    return {value: fsum(weights) for value, weights in sums.items()}


def test_every_labelled_turn_of_a_short_log_is_used_once(data):
    log = short_log()
    used = {(row["conversation_id"], row["turn_index"]) for row in rows_of(data)}
    assert used == {(row["conversation_id"], row["turn_index"]) for row in log}
    assert data.description["rows"] == len(log)
    assert data.description["dropped"] == {}


def test_weights_reach_the_ratio_in_every_split(data):
    for name, rows in splits_of(data).items():
        by_label = weights_by(rows, "label")
        assert by_label[0] == pytest.approx(by_label[1], rel=1e-5), name
        assert sum(by_label.values()) == pytest.approx(len(rows), rel=1e-5), name
    assert data.description["priors"]["balanced"] == pytest.approx(0.5)
    assert data.description["weighting"]["share"] == pytest.approx(0.5)


def test_buckets_and_positions_of_training_rows_weigh_alike(data):
    rows = splits_of(data)["train"]
    by_bucket = weights_by(rows, "stratum")
    assert len(by_bucket) == 3
    assert max(by_bucket.values()) == pytest.approx(min(by_bucket.values()), rel=0.01)
    for stratum in by_bucket:
        by_position = weights_by([r for r in rows if r["stratum"] == stratum], "position")
        assert max(by_position.values()) == pytest.approx(min(by_position.values()), rel=0.01)
    assert data.description["weighting"]["capped_places"] == 0


def test_rows_of_one_label_and_place_keep_what_their_evidence_weighs(tmp_path, data):
    weights = {
        (row["label"], row["stratum"], row["position"]): row["weight"]
        for row in splits_of(data)["train"]
    }
    for row in splits_of(data)["train"]:
        assert row["weight"] == weights[row["label"], row["stratum"], row["position"]]


def test_another_ratio_is_reached_by_weights_too(tmp_path):
    short = dataset(tmp_path, short_log(), architecture="session", size=10_000, ratio=(1, 3))
    for rows in splits_of(short).values():
        by_label = weights_by(rows, "label")
        assert by_label[0] / sum(by_label.values()) == pytest.approx(0.25, abs=1e-5)


def test_a_ratio_that_weights_cannot_reach_is_approached_and_said(tmp_path):
    rare = dataset(
        tmp_path, short_log(900, reasoning_every=60), architecture="session", size=10_000
    )
    weights = {row["label"]: row["weight"] for row in splits_of(rare)["train"]}
    assert weights[0] / weights[1] == pytest.approx(MOST_FOR_LABEL)
    share = rare.description["weighting"]["share"]
    assert 0.1 < share < 0.2
    for rows in splits_of(rare).values():
        assert weights_by(rows, "label")[0] / len(rows) == pytest.approx(share, abs=1e-5)
    said = f"Weights give reasoning {share:.3f} of the training rows' weight where the ratio asks"
    assert said in rare.description["account"]
    assert "at most 10 times one of the other" in card(rare.description)


def test_a_bucket_that_weights_cannot_even_out_is_said(tmp_path):
    rows = [
        turn(f"l{n}", index, f"long {index} of {n}", ("o3", "gpt-4o")[index % 2])
        for n in range(3)
        for index in range(1, 13)
    ]
    data = dataset(tmp_path, [*short_log(600), *rows], architecture="conversation", size=10_000)
    assert data.description["weighting"]["capped_places"] > 0
    assert "a row's place makes it weigh at most 2 times as much" in data.description["account"]


def test_a_log_with_as_many_rows_as_are_wanted_is_drawn_from_and_not_weighted(tmp_path):
    log = short_log()
    more = dataset(tmp_path, log, architecture="conversation", size=len(log))
    assert more.description["weighting"] is None
    assert {row["weight"] for row in rows_of(more)} == {1.0}
    for name, rows in splits_of(more).items():
        labels = Counter(row["label"] for row in rows)
        assert labels[0] == labels[1], name


@pytest.mark.slow
def test_a_long_log_of_few_distinct_texts_is_taken_whole(tmp_path):
    rows = [turn(f"c{n}", 1, f"text {n % 700}", ("o3", "gpt-4o")[n % 2]) for n in range(11_000)]
    data = dataset(tmp_path, rows, architecture="session", size=1400)
    assert data.description["rows"] == 700
    assert data.description["weighting"] is not None


def candidates(sums):
    made = []
    for number, ((label, stratum), weight) in enumerate(sorted(sums.items())):
        values = {"label": label, "weight": weight}
        made.append(Candidate(values, f"{number}", "", "", Cell(label, stratum, "")))
    return made


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from("abc")),
        st.floats(0.05, 500),
        min_size=1,
    ),
    st.sampled_from([(1, 1), (1, 4), (9, 1)]),
    st.booleans(),
)
def test_weights_stay_within_their_caps_and_sum_to_what_they_did(sums, ratio, places):
    rows = candidates(sums)
    rows_weighted, weighting = weighted({"train": rows}, ratio, places=places)
    total = fsum(sums.values())
    assert fsum(row.values["weight"] for row in rows_weighted["train"]) == pytest.approx(total)
    factors = weighting.label_factors["train"]
    assert factors[0] / factors[1] >= 1 / MOST_FOR_LABEL * (1 - 1e-9)
    assert factors[0] / factors[1] <= MOST_FOR_LABEL * (1 + 1e-9)
    for row, before in zip(rows_weighted["train"], rows, strict=True):
        of_place = row.values["weight"] / before.values["weight"] / factors[row.cell.label]
        assert 1 / MOST_FOR_PLACE <= of_place * (1 + 1e-9) <= MOST_FOR_PLACE * (1 + 1e-8)
    if {label for label, _ in sums} == {0, 1}:
        reached = 1 / MOST_FOR_LABEL * 1.001 < factors[0] / factors[1] < MOST_FOR_LABEL * 0.999
        assert not reached or weighting.share == pytest.approx(weighting.target_share)


def test_the_samples_of_a_split_know_what_their_labels_count(tmp_path):
    build_folder(tmp_path, short_log(), size=10_000)
    folder = DatasetFolder.read(tmp_path / "data")
    test = folder.split("test")
    factors = folder.label_factors("test", test.labels)
    assert factors == pytest.approx(test.weights)
    assert factors[test.labels == 0].sum() == pytest.approx(factors[test.labels == 1].sum())


LONG = "please explain why the following query is slow on the second replica but not the first"


def test_nearly_equal_rows_of_a_short_log_stay_and_share_a_split(tmp_path):
    rows = short_log()
    rows += [turn(f"near{n}", 1, f"{LONG} {'again ' * n}", "o3") for n in range(3)]
    rows += [turn(f"near{n}", 2, f"and what of number {n}", "gpt-4o") for n in range(3)]
    data = dataset(tmp_path, rows, architecture="conversation", size=10_000)
    assert data.description["rows"] == len(rows)
    ids_by_split = {
        name: {row["conversation_id"] for row in split if row["conversation_id"].startswith("near")}
        for name, split in splits_of(data).items()
    }
    assert sorted(map(len, ids_by_split.values())) == [0, 0, 3]


def test_no_user_and_no_conversation_of_a_short_log_stands_in_two_splits(tmp_path):
    rows = [row | {"user_id": f"u{int(row['conversation_id'][1:]) % 40}"} for row in short_log()]
    data = dataset(tmp_path, rows, architecture="conversation", size=10_000)
    assert data.description["users_apart"] is True
    assert data.description["leaks"] == {"conversations": 0, "texts": 0, "users": 0}
    places = defaultdict(set)
    for name, split in splits_of(data).items():
        for row in split:
            places[row["user_id"]].add(name)
            places[row["conversation_id"]].add(name)
    assert {len(names) for names in places.values()} == {1}
