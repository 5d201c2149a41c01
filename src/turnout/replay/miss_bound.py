"""The greatest threshold at which the share of missed messages stays under a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from turnout.errors import RecordError

Floats = NDArray[np.float64]

# Of the unseen conversation, in lengths of the longest seen: at 1 heavy tails exceed the bound in
# 7 to 8 % of draws, at 1.5 in 4 to 5 %.
_UNSEEN_LENGTH = 1.5


def threshold_for_miss(
    scores: Floats,
    conversation_ids: Sequence[str],
    max_miss: float,
    confidence: float,
    *,
    where: Path | str,
) -> float:
    """The greatest threshold whose miss rate on new messages is bounded.

    The rate is that of messages: a long conversation counts for as many as it has. A threshold is
    allowed if the upper confidence limit of its rate, and of every lower threshold's, is at most
    the bound.

    Args:
        scores: Of messages that need reasoning, shape `(n,)`.
        conversation_ids: Whose messages they are, n of them; conversations are independent.
        max_miss: The bound, in (0, 1).
        confidence: How sure it must be, in (0, 1).
        where: Names the data in messages.

    Raises:
        RecordError: If not even a threshold that misses none of these messages is allowed.

    Source:
        Bates, Angelopoulos, Lei, Malik and Jordan (2021), "Distribution-free, risk-controlling
        prediction sets": the search from the lowest threshold upwards.
    """
    limits = _limits(scores, conversation_ids, confidence)
    allowed = np.minimum.accumulate(limits.miss_rate <= max_miss)
    if not len(allowed) or not allowed[0]:
        raise RecordError(_too_few(limits, max_miss, confidence, where))
    return float(limits.thresholds[allowed][-1])


@dataclass(frozen=True, slots=True)
class _Limits:
    """Upper confidence limits, of thresholds in rising order: the distinct scores.

    Attributes:
        thresholds: Shape `(k,)`.
        miss_rate: Shape `(k,)`.
        rows: How many messages.
        conversations: Of how many conversations.
        effective: How many messages of as many conversations they are worth.
    """

    thresholds: Floats
    miss_rate: Floats
    rows: int
    conversations: int
    effective: float


def _limits(scores: Floats, conversation_ids: Sequence[str], confidence: float) -> _Limits:
    """The limit of Clopper and Pearson (1934), with the messages' effective number.

    The number is `n² / Σ mᵢ²` for conversations of mᵢ messages, as if messages of one conversation
    went the same way (Kish 1965), or less where the misses seen lie closer together (Korn and
    Graubard 1998). Clopper and Pearson add one unseen miss to those seen; here it is an unseen
    conversation half as long again as the longest one, since of heavy-tailed lengths the longest
    are rarely seen. Where every conversation has one message the limit is exact.
    """
    n = len(scores)
    if not n:
        return _Limits(scores, scores, 0, 0, 0.0)
    names, cluster = np.unique(np.asarray(conversation_ids, dtype=object), return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)  # (c,)
    order = np.argsort(scores, kind="stable")
    thresholds, missed = np.unique(scores[order], return_index=True)
    # Σ missedᵢ² and Σ missedᵢ·mᵢ after the first 0, 1, … n messages are missed.
    rank = _rank_in_cluster(cluster[order])
    squares = np.append(0.0, np.cumsum(2 * rank + 1))[missed]
    products = np.append(0.0, np.cumsum(sizes[cluster[order]]))[missed]
    rate = missed / n
    kish = n**2 / (sizes**2).sum()
    spread = squares - 2 * rate * products + rate**2 * (sizes**2).sum()
    variance = np.maximum(spread, 0.0) / n**2 * len(names) / max(len(names) - 1, 1)
    seen = np.full(len(rate), np.inf)
    np.divide(rate * (1 - rate), variance, out=seen, where=variance > 0)
    effective = np.minimum(kish, np.where(missed > 0, seen, kish))
    unseen = (1 + _UNSEEN_LENGTH * (sizes.max() - 1)) * kish / n
    limit = beta.ppf(confidence, rate * effective + unseen, (1 - rate) * effective)
    return _Limits(thresholds, limit, n, len(names), float(kish))


def _rank_in_cluster(cluster: NDArray[np.intp]) -> Floats:
    """How many earlier rows are of the same cluster, shape `(n,)`."""
    order = np.argsort(cluster, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(cluster)))[:-1]
    rank = np.empty(len(cluster))
    rank[order] = np.arange(len(cluster)) - starts[cluster[order]]
    return rank


def _too_few(limits: _Limits, max_miss: float, confidence: float, where: Path | str) -> str:
    needed = int(np.ceil(np.log(1 - confidence) / np.log(1 - max_miss)))
    counted = (
        f"{limits.rows:,} messages that need reasoning, of {limits.conversations:,} conversations"
    )
    least = float(limits.miss_rate[0]) if limits.rows else 1.0
    remedy = (
        f"Allow at least {np.ceil(least * 1000) / 1000:g}, or build a larger data set."
        if least < 1
        else "Build a larger data set."
    )
    return (
        f"{where}: {counted}, worth {limits.effective:,.0f} independent ones; expected at least "
        f"{needed}, and more where some conversations are much longer than others, to promise a "
        f"miss rate of {max_miss:g} with {confidence:.0%} confidence. {remedy}"
    )
