"""Routers of several folds, each evaluated on its own test rows, as one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.evaluation.baselines import Splits
from turnout.evaluation.findings import Leak, findings
from turnout.evaluation.measure import MAIN_METRICS, Scored, compare_methods
from turnout.evaluation.stage import (
    example_rows,
    latency_ms,
    references_of,
    scored_methods,
    sent_to_reasoning,
    with_oracle,
)
from turnout.evaluation.truncation import Truncation, truncation_of
from turnout.progress import OnProgress
from turnout.routing import RouterFolder
from turnout.samples import DatasetFolder, Samples, few_labels


@dataclass(frozen=True, slots=True)
class FoldScores:
    """A fold's test rows, scored by its router and by the other methods.

    Attributes:
        test: The rows.
        scored: The router first.
        sent: Rows that the router sends to reasoning, shape `(n,)`.
        leak: What the rows share with the fold's training rows.
        truncation: What the router's token budget removes from them.
        latency_ms: Latency of the router: `median`, `p95` and `rows`.
        base: The router's base encoder.
        choice: How the encoder or the linear model was chosen, in words; None where only one was
            fitted.
        rows: Split → rows in it.
        labelled: Training rows that carry a label.
    """

    test: Samples
    scored: list[Scored]
    sent: NDArray[np.bool_]
    leak: Leak
    truncation: Truncation
    latency_ms: dict[str, float]
    base: str
    choice: str | None
    rows: dict[str, int]
    labelled: int


def score_fold(router: Path, dataset: Path, on_progress: OnProgress) -> FoldScores:
    """Score the test rows of a fold's data set.

    Raises:
        ArtifactError: If router or data set cannot be used.
    """
    folder, data = RouterFolder.read(router), DatasetFolder.read(dataset)
    formatter = folder.spec.formatter
    splits = {name: data.split(name, formatter) for name in ("train", "validation", "test")}
    train, test = splits["train"], splits["test"]
    scorer = folder.scorer()
    baseline_rows = Splits(train, splits["validation"], data.measures_outcomes)
    scored = scored_methods(scorer, baseline_rows, test, on_progress)
    return FoldScores(
        test=test,
        scored=scored,
        sent=sent_to_reasoning(folder, scored[0].scores, test.inputs, on_progress),
        leak=Leak.of(train, test),
        truncation=truncation_of(scorer, test.inputs, folder.spec.max_tokens),
        latency_ms=latency_ms(scorer, test.inputs),
        base=str(folder.spec.trained_on.get("base")),
        choice=folder.spec.trained_on.get("choice"),
        rows={name: len(split) for name, split in splits.items()},
        labelled=int(train.labelled.sum()),
    )


def pooled(
    data: DatasetFolder,
    folds: Sequence[FoldScores],
    *,
    name: str,
    truths: dict[tuple[str, int], int] | None,
    examples: int,
    seed: int,
) -> dict[str, Any]:
    """The rows of all folds as one result, in the form of a router in `report.json`.

    The scores of all routers are calibrated, so they can be ranked together.

    Args:
        data: The data set of the folds.
        folds: At least one; every row is in one of them.
        name: For tables.
        truths: Conversation and turn index → label of a simulated log; None without.
        examples: Most confident mistakes of each kind to quote.
        seed: Decides the resampling.

    Raises:
        RecordError: If the truth does not fit.
    """
    test = reduce(Samples.followed_by, (fold.test for fold in folds))
    scored = [
        Scored(method.name, method.kind, np.concatenate([_scores(f, method.name) for f in folds]))
        for method in folds[0].scored
        if all(method.name in {m.name for m in fold.scored} for fold in folds)
    ]
    sent = np.concatenate([fold.sent for fold in folds])
    references = references_of(data, test, truths, data.path)
    factors = data.label_factors("test", test.labels)
    results = [
        compare_methods(each, with_oracle(scored, each), test, sent, seed, factors=factors)
        for each in references
    ]
    truncation = _truncation(folds)
    leak = Leak(
        sum(fold.leak.conversations for fold in folds), sum(fold.leak.texts for fold in folds)
    )
    checks = findings(results, leak, trained_on_it=True, truncation=truncation, probed=None)
    bases = sorted({fold.base for fold in folds})
    return {
        "name": name,
        "architecture": data.formatter.architecture,
        "digest": None,
        "choice": None,
        "few_labels": few_labels(min(fold.labelled for fold in folds)),
        "base": ", ".join(f"{sum(f.base == b for f in folds)} × {b}" for b in bases),
        "priors": data.priors.to_json(),
        "threshold": {"value": 0.5, "origin": "default", "population": "balanced"},
        "rows": {
            "train": round(float(np.mean([fold.rows["train"] for fold in folds]))),
            "validation": round(float(np.mean([fold.rows["validation"] for fold in folds]))),
            "test": len(test),
        },
        "folds": [{"base": fold.base, "choice": fold.choice, "rows": fold.rows} for fold in folds],
        "findings": [asdict(finding) for finding in checks],
        "results": [asdict(result) for result in results],
        "main_metric_names": MAIN_METRICS,
        "truncation": asdict(truncation),
        "context": None,
        "probes": None,
        "latency_ms": folds[0].latency_ms,
        "examples": example_rows(references[0], scored[0].scores, sent, test, examples),
    }


def _scores(fold: FoldScores, name: str) -> NDArray[np.float64]:
    return next(method.scores for method in fold.scored if method.name == name)


def _truncation(folds: Sequence[FoldScores]) -> Truncation:
    """The mean over rows, and the least budget of the routers."""
    weights = [len(fold.test) for fold in folds]

    def mean(name: str) -> float:
        return float(np.average([getattr(f.truncation, name) for f in folds], weights=weights))

    return Truncation(
        min(fold.truncation.max_tokens for fold in folds),
        mean("rows_share"),
        mean("messages_share"),
        mean("tokens_share"),
    )
