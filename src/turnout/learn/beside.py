"""What routers are compared with on the same turns."""

from __future__ import annotations

from pathlib import Path

from turnout.evaluation.baselines import Splits, WordsModel
from turnout.replay.scored import OtherScorer, Score
from turnout.samples import DatasetFolder

TFIDF = "TF-IDF"


def tfidf(dataset: Path) -> OtherScorer:
    """TF-IDF and a linear model, fitted to the rows that a router was trained on.

    Args:
        dataset: Where they lie; with context for a conversation router.
    """

    def fit() -> Score:
        data = DatasetFolder.read(dataset)
        splits = Splits(data.split("train"), data.split("validation"), data.measures_outcomes)
        with_context = data.formatter.architecture == "conversation"
        return WordsModel(splits, with_context=with_context).score

    return OtherScorer(TFIDF, dataset, fit)
