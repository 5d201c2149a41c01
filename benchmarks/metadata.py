"""Does metadata of turn 1 help a session router? See docs/experiments/013-metadata-at-turn-1.md.

Usage: python benchmarks/metadata.py FOLDER …

Every FOLDER holds `turns.parquet`, `data/` (a session data set built from it) and, for simulated
logs, `log/truth.parquet`. Logistic regression on TF-IDF, with and without mode, hour and weekday,
learns the data set's labels; judged on its test rows by them and by the truth. Intervals are over
the folders (Student's t).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import t as student
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from turnout.samples import DatasetFolder
from turnout.tables import read_known_labels

STRENGTHS = (0.3, 1.0, 3.0)
SPLITS = ("train", "validation", "test")


def leads(folder: Path) -> dict[str, tuple[float, float]]:
    """Judge → AUROC of text alone, and what metadata adds."""
    data = DatasetFolder.read(folder / "data")
    samples = {name: data.split(name) for name in SPLITS}
    columns = ["conversation_id", "mode", "timestamp"]
    first = pq.read_table(folder / "turns.parquet", filters=[("turn_index", "=", 1)])
    metadata = {
        row["conversation_id"]: [
            row["mode"] or "",
            str(row["timestamp"].hour) if row["timestamp"] else "",
            str(row["timestamp"].weekday()) if row["timestamp"] else "",
        ]
        for row in first.select(columns).to_pylist()
    }
    facts = {n: [metadata[c] for c in split.conversation_ids] for n, split in samples.items()}
    texts = {n: [row.message for row in split.inputs] for n, split in samples.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts["train"])
    encoder = OneHotEncoder(handle_unknown="ignore").fit(facts["train"])
    text = {n: vectorizer.transform(texts[n]) for n in SPLITS}
    both = {n: sparse.hstack([text[n], encoder.transform(facts[n])]).tocsr() for n in SPLITS}
    needs = {n: split.labels == 0 for n, split in samples.items()}
    judges = {"the log's labels": needs["test"]}
    if (folder / "log" / "truth.parquet").is_file():
        truth = read_known_labels(folder / "log" / "truth.parquet")
        ids = samples["test"].conversation_ids
        judges["simulated truth"] = np.asarray([truth[(c, 1)] == 0 for c in ids])
    alone, added = (best(features, needs) for features in (text, both))
    return {
        name: (
            float(roc_auc_score(judge, alone)),
            float(roc_auc_score(judge, added) - roc_auc_score(judge, alone)),
        )
        for name, judge in judges.items()
    }


def best(
    features: dict[str, sparse.csr_matrix], needs: dict[str, NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Test margins of the model whose penalty does best on validation."""
    models = [
        LogisticRegression(C=strength, max_iter=300).fit(features["train"], needs["train"])
        for strength in STRENGTHS
    ]
    best_model = max(
        models,
        key=lambda m: roc_auc_score(
            needs["validation"], m.decision_function(features["validation"])
        ),
    )
    return np.asarray(best_model.decision_function(features["test"]))


def main() -> None:
    """Print one line a judge."""
    by_folder = [leads(Path(name)) for name in sys.argv[1:]]
    for judge in by_folder[0]:
        alone, added = np.asarray([judged[judge] for judged in by_folder]).T
        half = student.ppf(0.975, len(added) - 1) * added.std(ddof=1) / np.sqrt(len(added))
        print(
            f"{judge}: text alone {alone.mean():.3f}; metadata adds {added.mean():+.4f} "
            f"({added.mean() - half:+.4f} to {added.mean() + half:+.4f})"
        )


if __name__ == "__main__":
    main()
