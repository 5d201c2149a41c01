"""What the prompt cache is worth in one long conversation, under three policies.

    python benchmarks/prompt_cache.py

Sixty turns, a minute apart; the prompt begins at 10,000 tokens and grows by 2,000 a turn. List
prices of Claude Opus 4.5 and Haiku 4.5; without a cache every prompt is plain input.
"""

from __future__ import annotations

import numpy as np

from turnout.catalog import Price
from turnout.replay.columns import TurnColumns
from turnout.replay.spend import spend_usd
from turnout.replay.walk import walk
from turnout.routing.policies import POLICY_NAMES, Target, policy_of

TURNS = 60


def targets(*, cached: bool) -> dict[str, Target]:
    """Both models, with or without the discount of a cache."""
    reasoning = Price(5.0, 25.0, 0.5, 6.25) if cached else Price(5.0, 25.0)
    fast = Price(1.0, 5.0, 0.1, 1.25) if cached else Price(1.0, 5.0)
    return {"reasoning": Target("opus", reasoning, 1500), "fast": Target("haiku", fast, 400)}


def main() -> None:
    """Print USD with the cache and without it."""
    index = np.arange(1, TURNS + 1, dtype=np.int32)
    output = {
        name: np.full(TURNS, t.output_tokens, np.float32)
        for name, t in targets(cached=True).items()
    }
    turns = TurnColumns(
        np.array([0, TURNS]),
        index,
        60.0 * index,
        (10_000 + 2_000 * (index - 1)).astype(np.float32),
        output,
        {name: np.zeros(TURNS, np.float32) for name in output},
    )
    scores = np.random.default_rng(0).beta(1, 3, TURNS).astype(np.float32)
    for name in POLICY_NAMES:
        usd = {}
        for cached in (True, False):
            prices = targets(cached=cached)
            walked = walk(turns, scores, 0.35, policy_of(name), prices)
            usd[cached] = sum(part.sum() for part in spend_usd(turns, walked, prices).values())
        print(
            f"{name:12} {walked.switched.sum():3} switches, {walked.on_reasoning.mean():4.0%} on "
            f"reasoning: {usd[True]:6.2f} USD, without a cache {usd[False]:6.2f}, "
            f"{usd[False] / usd[True]:.1f} times"
        )


if __name__ == "__main__":
    main()
