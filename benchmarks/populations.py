"""Are scores for the log calibrated on the log? Results in docs/results/calibration.md.

Usage: python benchmarks/populations.py LOG

LOG is what `turnout simulate` wrote. TF-IDF + logistic regression is trained and calibrated on
balanced rows of half of the conversations, by the truth. The other half is thinned until 22 % of
its messages need reasoning, and scored for balanced rows and for the log (Saerens et al. 2002). Its
share of reasoning is also estimated without labels. Brackets are 95 % intervals over conversations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.calibration import calibration_error, expected_calibration_error
from turnout.stats.prior import log_ratios, prior_shares

SHARE = 0.22
_KEYS = ["conversation_id", "turn_index"]


def balanced(
    rows: NDArray[np.intp], needs: NDArray[np.bool_], draw: np.random.Generator
) -> NDArray[np.intp]:
    """As many rows that need reasoning as others, in random order."""
    sides = [draw.permutation(rows[needs[rows] == side]) for side in (True, False)]
    return draw.permutation(np.concatenate([side[: min(map(len, sides))] for side in sides]))


def thinned(
    rows: NDArray[np.intp], needs: NDArray[np.bool_], draw: np.random.Generator
) -> NDArray[np.intp]:
    """Rows of which `SHARE` need reasoning."""
    positive, negative = rows[needs[rows]], rows[~needs[rows]]
    wanted = int(SHARE / (1 - SHARE) * len(negative))
    return np.concatenate([draw.permutation(positive)[:wanted], negative])


def shown(estimate: Estimate) -> str:
    """A number and its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def main() -> None:
    """Print a line for first messages and one for all."""
    log = Path(sys.argv[1])
    turns = pq.read_table(log / "turns.parquet", columns=[*_KEYS, "user_message"]).to_pandas()
    truth = pq.read_table(log / "truth.parquet", columns=[*_KEYS, "label"]).to_pandas()
    table = turns.merge(truth, on=_KEYS)
    for name, rows in (("first messages", table[table["turn_index"] == 1]), ("all", table)):
        draw = np.random.default_rng(0)
        needs, texts = (rows["label"] == 0).to_numpy(), rows["user_message"].to_numpy()
        ids = rows["conversation_id"].to_numpy()
        names = np.unique(ids)
        is_train = np.isin(ids, draw.permutation(names)[: len(names) // 2])
        known = balanced(np.flatnonzero(is_train), needs, draw)
        fit, held = np.split(known, [2 * len(known) // 3])
        linear = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=3, max_iter=500),
        ).fit(texts[fit], needs[fit])
        margins = linear.decision_function(texts)[:, None]
        platt = LogisticRegression(C=1e6).fit(margins[held], needs[held])
        asked = thinned(np.flatnonzero(~is_train), needs, draw)
        even = balanced(np.flatnonzero(~is_train), needs, draw)
        scores = platt.predict_proba(margins[asked])[:, 1]
        for_log = expit(logit(scores) + logit(SHARE))
        resampling = Resampling(list(ids[asked]), 0)
        errors = [
            resampling.estimate(lambda w, p=p, y=needs[asked]: expected_calibration_error(p, y, w))
            for p in (scores, for_log)
        ]
        prior = resampling.estimate(lambda w, p=scores: prior_shares(log_ratios(p, 0.5), w))
        on_even = calibration_error(platt.predict_proba(margins[even])[:, 1], needs[even])
        print(
            f"{name}: {len(asked):,} messages; scores for balanced rows: mean {scores.mean():.2f}, "
            f"error {shown(errors[0])}; for the log: mean {for_log.mean():.2f}, error "
            f"{shown(errors[1])}; on balanced rows {on_even:.3f}; estimated share {shown(prior)}"
        )


if __name__ == "__main__":
    main()
