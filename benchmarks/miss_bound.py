"""Does `--max-miss` keep its promise? Results in docs/results/miss-bound.md.

Usage: python benchmarks/miss_bound.py [PROMPTS.parquet] [ROUTER DATA_FOLDER] …

PROMPTS.parquet holds measured prompts (prompt, gap, label; see benchmarks/real_logs.sh), scored by
TF-IDF + ridge on the gap that is trained on half of them. Of each ROUTER the test rows of the data
set it was trained on are scored, whatever its architecture.

A threshold is chosen on the messages that need reasoning of 400 conversations, 200 times. Simulated
conversations are drawn anew; those of a file are drawn from it with replacement. So the true miss
rate of messages is known, and may exceed the bound in 5 % of the draws. Brackets are
Clopper-Pearson intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from turnout.errors import RecordError
from turnout.replay.miss_bound import threshold_for_miss
from turnout.routing import RouterFolder
from turnout.samples import DatasetFolder

Floats = NDArray[np.float64]
Lengths = Callable[[np.random.Generator, int], Floats]

BOUNDS = (0.05, 0.1, 0.2)
CONFIDENCE = 0.95
DRAWS = 200
CONVERSATIONS = 400
_POPULATION = 300_000
_MOST_TURNS = 200


@dataclass(frozen=True)
class Split:
    """What a threshold is chosen on, and the scores of the whole population, sorted."""

    scores: Floats
    conversations: NDArray[np.intp]
    everything: Floats


Draw = Callable[[np.random.Generator], Split]

LENGTHS: dict[str, Lengths] = {
    "one message": lambda draw, n: np.ones(n),
    "geometric, mean 4": lambda draw, n: draw.geometric(0.25, n),
    "log-normal, σ = 1": lambda draw, n: draw.lognormal(0.7, 1.0, n),
    "log-normal, σ = 1.5": lambda draw, n: draw.lognormal(0.7, 1.5, n),
    "Pareto, exponent 1.5": lambda draw, n: draw.pareto(1.5, n),
    "Pareto, exponent 1.2": lambda draw, n: draw.pareto(1.2, n),
}


def simulated(lengths: Lengths, n: int, slope: float, alike: float) -> Draw:
    """Scores of conversations: normal, alike inside one, and moved by its length's logarithm.

    Args:
        lengths: Draws them.
        n: Conversations that a threshold is chosen on.
        slope: How much higher a conversation scores for each unit of log length.
        alike: The share of the variance that messages of one conversation have in common.
    """

    def scored(draw: np.random.Generator, size: int) -> tuple[Floats, NDArray[np.intp]]:
        counts = np.clip(np.ceil(lengths(draw, size)), 1, _MOST_TURNS).astype(int)
        owner = np.repeat(np.arange(size), counts)
        common = draw.normal(0, np.sqrt(alike), size)[owner]
        own = draw.normal(0, np.sqrt(1 - alike), len(owner))
        return common + own + slope * np.log(counts)[owner], owner

    everything = np.sort(scored(np.random.default_rng(99), _POPULATION)[0])
    return lambda draw: Split(*scored(draw, n), everything)


def split_of(scores: Floats, conversation_ids: list[str]) -> Draw:
    """400 conversations drawn with replacement from a population that is known whole."""
    owner = np.unique(np.asarray(conversation_ids), return_inverse=True)[1]
    members = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    everything = np.sort(scores)

    def drawn(draw: np.random.Generator) -> Split:
        chosen = [members[n] for n in draw.integers(len(members), size=CONVERSATIONS)]
        lengths = [len(rows) for rows in chosen]
        rows = np.concatenate(chosen)
        return Split(scores[rows], np.repeat(np.arange(CONVERSATIONS), lengths), everything)

    return drawn


def table(name: str, split: Draw) -> None:
    """One line a bound."""
    draw = np.random.default_rng(0)
    splits = [split(draw) for _ in range(DRAWS)]
    alone = [_one_message_each(drawn, draw) for drawn in splits]
    for bound in BOUNDS:
        missed = [_miss_rate(drawn, bound, name) for drawn in splits]
        promised = [rate for rate in missed if rate is not None]
        naive = [_miss_rate(drawn, bound, name) or 0.0 for drawn in alone]
        mean = f"{np.mean(promised):.3f}" if promised else ""
        print(
            f"| {name} | {bound:g} | {_over(promised, bound)} | {mean} "
            f"| {1 - len(promised) / DRAWS:.0%} | {_over(naive, bound)} |",
            flush=True,
        )


def _over(rates: list[float], bound: float) -> str:
    over = sum(rate > bound for rate in rates)
    low, high = binomtest(over, DRAWS).proportion_ci()
    return f"{over / DRAWS:.1%} ({low:.1%} to {high:.1%})"


def _one_message_each(split: Split, draw: np.random.Generator) -> Split:
    """What bounds the messages of a random conversation, and no more."""
    order = draw.permutation(len(split.scores))
    first = order[np.unique(split.conversations[order], return_index=True)[1]]
    return Split(split.scores[first], split.conversations[first], split.everything)


def _miss_rate(split: Split, bound: float, name: str) -> float | None:
    """The true miss rate of the threshold; None where the bound could not be promised."""
    try:
        threshold = threshold_for_miss(
            split.scores, split.conversations, bound, CONFIDENCE, where=name
        )
    except RecordError:
        return None
    return float(np.searchsorted(split.everything, threshold) / len(split.everything))


def measured_prompts(path: Path) -> Floats:
    """Scores of the prompts that need reasoning and that the linear model was not trained on."""
    prompts = pq.read_table(path, columns=["prompt", "gap", "label"]).to_pandas()
    trained = np.random.default_rng(1).random(len(prompts)) < 0.5
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=100_000)
    known = vectorizer.fit_transform(prompts["prompt"][trained])
    ridge = Ridge(alpha=3.0, solver="sparse_cg").fit(known, prompts["gap"][trained])
    held = prompts[~trained & (prompts["label"] == 0)]
    return ridge.predict(vectorizer.transform(held["prompt"]))


def main() -> None:
    """Print the table."""
    print(
        "| scores | bound | over | mean miss rate | refused | over, one message of each |\n"
        "|---|---|---|---|---|---|"
    )
    for lengths, draw in LENGTHS.items():
        for slope in (0.0,) if lengths == "one message" else (0.0, -0.5):
            moved = ", long ones missed more" if slope else ""
            table(f"{lengths}{moved}", simulated(draw, CONVERSATIONS, slope, alike=0.9))
    for n in (50, 100):
        name = f"log-normal, σ = 1, long ones missed more, {n} conversations"
        table(name, simulated(LENGTHS["log-normal, σ = 1"], n, -0.5, alike=0.9))
    arguments = [Path(name) for name in sys.argv[1:]]
    if arguments and arguments[0].suffix == ".parquet":
        scores = measured_prompts(arguments.pop(0))
        table("measured prompts", split_of(scores, [str(row) for row in range(len(scores))]))
    for router, folder in zip(arguments[::2], arguments[1::2], strict=True):
        test = DatasetFolder.read(folder).split("test")
        needs = test.take(np.flatnonzero(test.labels == 0))
        scores = RouterFolder.read(router).scorer().score(needs.inputs).astype(float)
        table(f"{router.name}", split_of(scores, needs.conversation_ids))


if __name__ == "__main__":
    main()
