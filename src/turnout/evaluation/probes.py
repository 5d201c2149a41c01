"""Probes of how a conversation router reads conversations, made from its own log.

Three properties should hold whatever the labels: a bare follow-up is as hard as the request before
it; the first turn is read as a session router reads it; an unrelated conversation before a
self-contained message does not change its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from turnout.records import ModelInput, Turn
from turnout.routing import Formatter
from turnout.routing.scorer import OnnxScorer
from turnout.stats.bootstrap import Estimate, Resampling

MIN_PROBES = 20
MAX_PROBES = 300
FOLLOW_UPS = ("yes, go on", "yes", "continue", "do it", "ok, go ahead", "sounds good, carry on")
_GREETING = "hi, "

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, and an unrelated conversation.

    Attributes:
        conversation_id: The conversation that the request begins.
        request: The message.
        unrelated: Turns of another conversation, oldest first; at least one.
    """

    conversation_id: str
    request: str
    unrelated: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The results of the probes.

    Attributes:
        probes: How many.
        first_turns_alike: Those whose input at turn 1 is that of a session router.
        following: Rank correlation between the score of a request and the score of a follow-up
            after it, in [−1, 1].
        moved_by_history: Mean |change of p_reasoning| of a request after an unrelated conversation.
        moved_by_greeting: The same after a mere greeting before it, as a baseline.
        excess: `moved_by_history` − `moved_by_greeting`, paired.
    """

    probes: int
    first_turns_alike: int
    following: Estimate
    moved_by_history: Estimate
    moved_by_greeting: Estimate
    excess: Estimate


def probes_of(
    first_messages: Sequence[tuple[str, str]],
    conversations: Sequence[tuple[str, tuple[Turn, ...]]],
    seed: int,
) -> list[Probe]:
    """Pair first messages with other conversations; none if fewer than `MIN_PROBES`.

    Args:
        first_messages: Conversation id and its first message, one each.
        conversations: Conversation id and turns, oldest first.
        seed: Decides the pairs.
    """
    draw = np.random.default_rng(seed)
    sample = [first_messages[row] for row in draw.permutation(len(first_messages))[:MAX_PROBES]]
    probes = []
    for conversation_id, request in sample:
        rest = [turns for name, turns in conversations if name != conversation_id and turns]
        if rest and request.strip():
            unrelated = rest[int(draw.integers(len(rest)))]
            probes.append(Probe(conversation_id, request, unrelated))
    return probes if len(probes) >= MIN_PROBES else []


def probe(
    scorer: OnnxScorer, formatter: Formatter, probes: Sequence[Probe], seed: int
) -> ProbeResult:
    """Score every request alone, with a follow-up, after a greeting, and after other turns.

    Args:
        scorer: The router's scorer.
        formatter: The router's formatter, of the conversation architecture.
        probes: At least one.
        seed: Decides the resampling.
    """
    alone = [formatter.format([Turn(probe.request)]) for probe in probes]
    session = Formatter("session")
    alike = sum(
        model_input == session.format([Turn(probe.request)])
        for model_input, probe in zip(alone, probes, strict=True)
    )
    request = _scores(scorer, alone)
    follow_up = _scores(
        scorer,
        [
            formatter.format([Turn(probe.request), Turn(FOLLOW_UPS[number % len(FOLLOW_UPS)])])
            for number, probe in enumerate(probes)
        ],
    )
    after = [formatter.format([*probe.unrelated, Turn(probe.request)]) for probe in probes]
    greeted = [formatter.format([Turn(_GREETING + probe.request)]) for probe in probes]
    by_history = np.abs(_scores(scorer, after) - request)
    by_greeting = np.abs(_scores(scorer, greeted) - request)
    resampling = Resampling([probe.conversation_id for probe in probes], seed)
    return ProbeResult(
        probes=len(probes),
        first_turns_alike=alike,
        following=resampling.estimate(lambda w: _correlation(request, follow_up, w)),
        moved_by_history=_mean(by_history, resampling),
        moved_by_greeting=_mean(by_greeting, resampling),
        excess=_mean(by_history - by_greeting, resampling),
    )


def _scores(scorer: OnnxScorer, inputs: Sequence[ModelInput]) -> Floats:
    return scorer.score(inputs).astype(np.float64)


def _mean(values: Floats, resampling: Resampling) -> Estimate:
    return resampling.estimate(lambda weights: weights @ values / weights.sum(1))


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Rank correlation (Spearman 1904) for every row of weights; ranks are over all rows."""
    total = weights.sum(1)
    centred = []
    for values in (x, y):
        ranks = rankdata(values)
        centred.append(ranks - (weights @ ranks / total)[:, None])  # (b, n)
    a, b = centred
    spread = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    correlation = np.full(len(weights), np.nan)
    np.divide((weights * a * b).sum(1), spread, out=correlation, where=spread > 0)
    return correlation
