"""The share of reasoning in the rows and in the log, so that scores can be had for either."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.sets import CATALOG, dataset, dataset_from_outcomes
from tests.tables import turn
from turnout.dataset.assembly import dataset_from_turns
from turnout.dataset.selection import DatasetSpec
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.schema import LABELS
from turnout.simulation import simulate


def write_labels(path, rows):
    labels = [
        {"conversation_id": c, "turn_index": n, "p_reasoning": p, "confidence": w, "evidence": []}
        for c, n, p, w in rows
    ]
    pq.write_table(pa.Table.from_pylist(labels, LABELS), path)
    return path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A simulated log with one row a turn, and its labels."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder / "log", n_conversations=400)
    ingest([folder / "log" / "turns.parquet"], folder / "turns.parquet")
    label_turns(folder / "turns.parquet", folder / "labels.parquet", CATALOG)
    return folder / "turns.parquet", folder / "labels.parquet"


@pytest.mark.parametrize("architecture", ["session", "conversation"])
def test_the_log_s_prior_is_the_weighted_share_of_all_its_labelled_turns(simulated, architecture):
    turns, labels = simulated
    spec = DatasetSpec(100, (1, 1), (0.8, 0.1, 0.1), 0)
    data = dataset_from_turns(
        turns, spec, architecture=architecture, catalog=CATALOG, labels=labels
    )
    weights = {True: 0.0, False: 0.0}
    for row in pq.read_table(labels).to_pylist():
        if architecture == "conversation" or row["turn_index"] == 1:
            weights[row["p_reasoning"] >= 0.5] += max(0.05, row["confidence"])
    priors = data.description["priors"]
    assert priors["log"] == pytest.approx(weights[True] / sum(weights.values()), abs=1e-6)
    train = data.tables["train"].to_pylist()
    reasoning = sum(row["weight"] for row in train if row["label"] == 0)
    assert priors["balanced"] == pytest.approx(reasoning / sum(row["weight"] for row in train))


def test_a_log_of_which_22_percent_needs_reasoning_says_so_though_its_rows_are_balanced(tmp_path):
    rows = [turn(f"c{n}", 1, f"message {n}", "o3") for n in range(500)]
    sure = [(f"c{n}", 1, 1.0 if n < 110 else 0.0, 1.0) for n in range(500)]
    labels = write_labels(tmp_path / "labels.parquet", sure)
    data = dataset(tmp_path, rows, architecture="session", labels=labels)
    assert data.description["priors"] == {"balanced": pytest.approx(0.5), "log": 0.22}


def test_without_labels_every_turn_of_a_known_class_counts_once(tmp_path):
    models = ["o3", "gpt-4o", "gpt-4o", "gpt-4o", "mystery-9"] * 40
    rows = [turn(f"c{n}", 1, f"message {n}", model) for n, model in enumerate(models)]
    data = dataset(tmp_path, rows, architecture="session")
    assert data.description["priors"] == {"balanced": pytest.approx(0.5), "log": 0.25}


def test_a_label_whose_numbers_are_none_is_no_label(tmp_path):
    turns = [turn(f"c{n}", 1, f"message {n}", "o3") for n in range(120)]
    rows = [(f"c{n}", 1, float(n % 2), 1.0) for n in range(100)]
    rows += [(f"c{n}", 1, float("nan"), 1.0) for n in range(100, 110)]
    rows += [(f"c{n}", 1, 1.0, 7.0) for n in range(110, 120)]
    labels = write_labels(tmp_path / "labels.parquet", rows)
    data = dataset(tmp_path, turns, architecture="session", labels=labels, size=60)
    assert data.description["priors"] == {"balanced": 0.5, "log": 0.5}
    assert data.description["dropped"]["no evidence in the labels"] == 20


def test_measured_outcomes_have_no_log(tmp_path):
    rows = [
        {"prompt": f"p{n}", "reasoning_score": 0.9, "fast_score": (n % 4 > 0) * 0.9,
         "weight": 3.0 if n % 4 == 0 else 1.0}
        for n in range(400)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    priors = dataset_from_outcomes(tmp_path / "p.parquet").description["priors"]
    assert priors["log"] is None
    assert priors["balanced"] == pytest.approx(0.5, abs=0.05)
