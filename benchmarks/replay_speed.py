"""How long the walk over scored turns takes, and how much memory: one policy after another.

python benchmarks/replay_speed.py 10_000_000
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from turnout.catalog import Price
from turnout.replay.columns import TurnColumns
from turnout.replay.spend import spend_usd
from turnout.replay.walk import walk
from turnout.routing.policies import POLICY_NAMES, Target, policy_of

TARGETS = {
    "reasoning": Target("deep", Price(5.0, 25.0, 0.5, 6.25), 1500),
    "fast": Target("quick", Price(1.0, 5.0, 0.1, 1.25), 400),
}


def drawn(n: int, seed: int = 0) -> tuple[TurnColumns, np.ndarray]:
    """At least n turns of conversations with heavy-tailed lengths, of up to 400 turns."""
    draw = np.random.default_rng(seed)
    lengths = np.minimum(1 + draw.pareto(1.3, size=n).astype(np.int64) * 2, 400)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), n)) + 1]
    starts = np.r_[0, np.cumsum(lengths)]
    n = int(starts[-1])
    index = (np.arange(n) - np.repeat(starts[:-1], lengths) + 1).astype(np.int32)
    constant = {"reasoning": np.full(n, 1500, np.float32), "fast": np.full(n, 400, np.float32)}
    turns = TurnColumns(
        starts, index, 1e9 + np.cumsum(draw.exponential(120, n)),
        (800 + 700 * np.minimum(index, 80)).astype(np.float32), constant,
        {"reasoning": constant["fast"], "fast": np.zeros(n, np.float32)},
    )  # fmt: skip
    return turns, draw.beta(1, 3, n).astype(np.float32)


def main() -> None:
    """Time every policy."""
    turns, scores = drawn(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    longest = int(np.diff(turns.starts).max())
    print(f"{len(turns):,} turns of {turns.conversations:,} conversations, at most {longest} turns")
    for name in POLICY_NAMES:
        began = time.perf_counter()
        walked = walk(turns, scores, 0.3, policy_of(name), TARGETS)
        took = time.perf_counter() - began
        usd = sum(part.sum() for part in spend_usd(turns, walked, TARGETS).values())
        both = time.perf_counter() - began
        print(f"{name:12} walk {took:6.1f} s, with its costs {both:6.1f} s, {usd:14,.0f} USD")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB, of it {_held_gb(turns):.1f} GB the turns themselves")


def _held_gb(turns: TurnColumns) -> float:
    arrays = [turns.starts, turns.turn_index, turns.at_s, turns.prompt_tokens]
    arrays += [*turns.output_tokens.values(), turns.reasoning_tokens["fast"]]
    return sum(array.nbytes for array in arrays) / 1e9


if __name__ == "__main__":
    main()
