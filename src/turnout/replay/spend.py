"""What a walked log costs, split by what is billed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from turnout.records import ModelClass
from turnout.replay.columns import Floats, TurnColumns
from turnout.replay.walk import Walked
from turnout.routing.policies import Target

PARTS = ("input", "cache_read", "cache_write", "output", "reasoning")
_CHUNK_TURNS = 1_000_000


def spend_usd(
    turns: TurnColumns, walked: Walked, targets: Mapping[ModelClass, Target]
) -> dict[str, Floats]:
    """USD of every conversation, by part, shape `(c,)` each.

    Input that no cache holds is a cache write where writing has a price of its own.
    """
    spent = {part: np.zeros(turns.conversations) for part in PARTS}
    of_turn = np.repeat(np.arange(turns.conversations), np.diff(turns.starts))
    for start in range(0, len(turns), _CHUNK_TURNS):
        rows = slice(start, start + _CHUNK_TURNS)
        for name, target in targets.items():
            serves = walked.on_reasoning[rows] == (name == "reasoning")
            for part, usd in _turn_parts(turns, walked, rows, name, target).items():
                spent[part] += np.bincount(
                    of_turn[rows], np.where(serves, usd, 0.0), turns.conversations
                )
    return spent


def _turn_parts(
    turns: TurnColumns, walked: Walked, rows: slice, name: ModelClass, target: Target
) -> dict[str, NDArray[np.floating]]:
    prices = target.prices
    cached = walked.cached_tokens[rows].astype(np.float64)
    fresh = turns.prompt_tokens[rows] - cached
    reasoning = turns.reasoning_tokens[name][rows].astype(np.float64)
    output = turns.output_tokens[name][rows] - reasoning
    written = prices.cache_write_usd_per_mtok is not None
    return {
        "cache_write" if written else "input": fresh * prices.fresh_usd_per_mtok / 1e6,
        "cache_read": cached * prices.read_usd_per_mtok / 1e6,
        "output": output * prices.output_usd_per_mtok / 1e6,
        "reasoning": reasoning * prices.output_usd_per_mtok / 1e6,
    }
