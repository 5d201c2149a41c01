"""What the log itself paid and missed, beside what policies would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.catalog import Catalog
from turnout.records import LABEL_FAST, LABEL_REASONING, Architecture
from turnout.replay.log import NO_LABEL, read_scored
from turnout.replay.measures import COST_TURNS
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import ratio


@dataclass(frozen=True, slots=True)
class Today:
    """What people and product chose.

    Attributes:
        usd: USD for 1,000 turns, of those whose model has a price.
        share_reasoning: Share of the turns on reasoning models, where the class is known.
        missed: Of the messages that need reasoning, by the scores, the share that fast models
            served.
    """

    usd: Estimate
    share_reasoning: Estimate
    missed: Estimate


def today_of(scores: Mapping[Architecture, Path], catalog: Catalog) -> Today:
    """Measure the log as it is.

    Args:
        scores: Architecture → the scored table that the replay left.
        catalog: Prices of the models that served.

    Raises:
        RecordError: If a table cannot be read.
    """
    log = read_scored(scores, catalog=catalog)
    turns, known = log.turns, log.logged_class != NO_LABEL
    best: Architecture = "conversation" if "conversation" in log.scores else "session"
    need = np.where(known, np.nan_to_num(log.scores[best].astype(np.float64)), 0.0)
    on_fast, on_reasoning = (log.logged_class == label for label in (LABEL_FAST, LABEL_REASONING))
    priced = np.isfinite(log.logged_usd)
    return Today(
        usd=ratio(COST_TURNS * turns.sums(np.nan_to_num(log.logged_usd)), turns.sums(priced)),
        share_reasoning=ratio(turns.sums(on_reasoning), turns.sums(known)),
        missed=ratio(turns.sums(need * on_fast), turns.sums(need)),
    )
