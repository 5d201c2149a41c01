"""Does `--max-miss` keep its promise? Results in docs/results/miss-bound.md.

Usage: python benchmarks/miss_bound.py [PROMPTS.parquet] [ROUTER DATA_FOLDER]

PROMPTS.parquet holds measured prompts (prompt, gap, label; see benchmarks/real_logs.sh), scored by
TF-IDF + ridge on the gap that is trained on half of them. ROUTER and DATA_FOLDER are a session
router and the data set it was trained on, of which the test rows are scored.

A threshold is chosen on 400 rows that need reasoning; the rest is held out. Over 200 such splits
the miss rate may exceed the bound in 5 %. The held-out rest is finite, so its own chance adds a
little; for simulated scores the true miss rate is known. Brackets are Clopper-Pearson intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from turnout.replay.threshold import threshold_for_miss
from turnout.routing import RouterFolder
from turnout.samples import DatasetFolder

Floats = NDArray[np.float64]
# Gives the chosen rows' scores, the miss rate of a threshold, and the share it sends to fast.
Split = tuple[Floats, Callable[[float], float], Callable[[float], float]]

BOUNDS = (0.01, 0.05, 0.1, 0.2)
CONFIDENCE = 0.95
SPLITS = 200
CHOSEN_ON = 400


def simulated(draw: np.random.Generator) -> Split:
    """Beta(3, 2) scores for rows that need reasoning, Beta(2, 3) for as many others."""

    def fast_share(threshold: float) -> float:
        return float((beta.cdf(threshold, 3, 2) + beta.cdf(threshold, 2, 3)) / 2)

    return draw.beta(3, 2, CHOSEN_ON), lambda t: float(beta.cdf(t, 3, 2)), fast_share


def split_of(scores: Floats, needs: NDArray[np.bool_], draw: np.random.Generator) -> Split:
    """400 of the rows that need reasoning, and the rest."""
    order = draw.permutation(np.flatnonzero(needs))
    rest = scores[order[CHOSEN_ON:]]
    return (
        scores[order[:CHOSEN_ON]],
        lambda t: float((rest < t).mean()),
        lambda t: float((scores < t).mean()),
    )


def table(name: str, rows: str, split: Callable[[np.random.Generator], Split]) -> None:
    """One line a bound."""
    draw = np.random.default_rng(0)
    for bound in BOUNDS:
        missed, fast = [], []
        for _ in range(SPLITS):
            chosen_on, miss_rate, fast_share = split(draw)
            threshold = threshold_for_miss(chosen_on, bound, CONFIDENCE, where=name)
            missed.append(miss_rate(threshold))
            fast.append(fast_share(threshold))
        over = int((np.asarray(missed) > bound).sum())
        low, high = (
            beta.ppf(0.025, over, SPLITS - over + 1) if over else 0.0,
            beta.ppf(0.975, over + 1, SPLITS - over),
        )
        print(
            f"| {name} | {rows} | {bound:g} | {over / SPLITS:.1%} ({low:.1%} to {high:.1%}) "
            f"| {np.mean(missed):.4f} | {np.mean(fast):.1%} |"
        )


def measured_prompts(path: Path) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and needs of the labelled prompts that the linear model was not trained on."""
    prompts = pq.read_table(path, columns=["prompt", "gap", "label"]).to_pandas()
    trained = np.random.default_rng(1).random(len(prompts)) < 0.5
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=100_000)
    known = vectorizer.fit_transform(prompts["prompt"][trained])
    ridge = Ridge(alpha=3.0, solver="sparse_cg").fit(known, prompts["gap"][trained])
    held = prompts[~trained & prompts["label"].notna()]
    return ridge.predict(vectorizer.transform(held["prompt"])), (held["label"] == 0).to_numpy()


def main() -> None:
    """Print the table."""
    print("| scores | held-out rows that need reasoning | bound | over the bound | mean miss rate "
          "| sent to fast |\n|---|---|---|---|---|---|")  # fmt: skip
    table("simulated, Beta", "all", simulated)
    arguments = [Path(name) for name in sys.argv[1:]]
    if arguments and arguments[0].suffix == ".parquet":
        held = measured_prompts(arguments.pop(0))
        table("measured prompts, TF-IDF + ridge", _rest(held[1]), lambda d: split_of(*held, d))
    if len(arguments) == 2:
        test = DatasetFolder.read(arguments[1]).split("test")
        scores = RouterFolder.read(arguments[0]).scorer().score(test.inputs).astype(float)
        needs = test.labels == 0
        table("simulated log, session router", _rest(needs), lambda d: split_of(scores, needs, d))


def _rest(needs: NDArray[np.bool_]) -> str:
    return f"{needs.sum() - CHOSEN_ON:,}"


if __name__ == "__main__":
    main()
