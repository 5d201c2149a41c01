"""What another policy would have been worth, from outcomes of the choices that were made.

A log holds only the outcome of the model that was used. Where each choice has a known probability,
its propensity, outcomes can be weighted so that they stand for those of another policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecordError
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import Kind, all_or_none, inside, ratio

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Fewer effective turns give intervals that hold the truth too rarely.
MIN_EFFECTIVE_TURNS = 50.0


@dataclass(frozen=True, slots=True)
class Logged:
    """n turns with a known outcome, of independent conversations.

    Attributes:
        reasoning: Whether the reasoning class served, shape `(n,)`.
        propensity: Probability in (0, 1] with which the class that served was chosen, shape `(n,)`.
        outcome: What the turn was worth, such as 1 for a success, shape `(n,)`.
        conversation: Number of the turn's conversation, from 0, shape `(n,)`.
    """

    reasoning: Bools
    propensity: Floats
    outcome: Floats
    conversation: NDArray[np.int64]

    def __post_init__(self) -> None:
        wrong = ~((self.propensity > 0) & (self.propensity <= 1))
        if wrong.any():
            example = self.propensity[np.flatnonzero(wrong)[0]]
            raise RecordError(
                f"propensity: found {example:g} in {int(wrong.sum()):,} of {len(wrong):,} turns; "
                "expected more than 0 and at most 1. Take turns whose class the router chose, from "
                "a gateway with an exploration share."
            )
        if not np.isfinite(self.outcome).all():
            raise RecordError("outcome: found turns without one; expected a number in each.")


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """The mean outcome of a turn under another policy.

    Attributes:
        ips: Inverse propensity scores; wide, and unbiased but for the cut at the ends of a share.
        snips: The same, weights brought to a mean of 1; narrower, nearly unbiased.
        doubly_robust: A model of outcomes, mended by weighted residuals.
        effective_turns: How many unweighted turns the weighted ones are worth.
        matching: Share of the turns on which both policies chose alike.
    """

    ips: Estimate
    snips: Estimate
    doubly_robust: Estimate
    effective_turns: float
    matching: float


def off_policy(
    logged: Logged,
    reasoning: Bools,
    *,
    kind: Kind = "difference",
    expected_reasoning: Floats | None = None,
    expected_fast: Floats | None = None,
    where: str = "journal",
) -> OffPolicy:
    """Estimate what a policy that chooses `reasoning` would have been worth.

    Args:
        logged: Turns with their outcomes and propensities.
        reasoning: Whether the other policy sends each turn to reasoning, shape `(n,)`.
        kind: What outcomes are: `amount` (at least 0), `share` (0 or 1), or `difference` (any
            number). Estimates of a share are in [0, 1], and those of an amount at least 0.
        expected_reasoning: A model's guess of each turn's outcome on reasoning, made without that
            turn; by default the mean outcome of the reasoning class.
        expected_fast: The same on fast.
        where: Names the turns in messages.

    Raises:
        RecordError: If the weighted turns are worth fewer than 50.

    Source:
        Horvitz and Thompson (1952); Swaminathan and Joachims (2015), "The self-normalized estimator
        for counterfactual learning"; Dudík, Langford and Li (2011), "Doubly robust policy
        evaluation and learning". Effective turns: Kish (1965).
    """
    same = logged.reasoning == reasoning
    weights = np.where(same, 1.0 / logged.propensity, 0.0)  # (n,)
    squares = float(np.square(weights).sum())
    effective = float(weights.sum()) ** 2 / squares if squares else 0.0
    if effective < MIN_EFFECTIVE_TURNS:
        raise RecordError(
            f"{where}: the turns on which both policies chose alike are worth {effective:.0f} "
            f"turns; expected at least {MIN_EFFECTIVE_TURNS:.0f}. Serve longer, or with a larger "
            "exploration share."
        )
    on_reasoning, on_fast = (
        _expected(logged, given, served)
        for given, served in ((expected_reasoning, True), (expected_fast, False))
    )
    guess = np.where(logged.reasoning, on_reasoning, on_fast)
    wanted = np.where(reasoning, on_reasoning, on_fast)
    turns, weighted = _summed(logged, np.ones(len(weights))), _summed(logged, weights)
    ips = ratio(
        _summed(logged, weights * logged.outcome),
        turns,
        # The scale of logits gives wide intervals that miss the truth, as weights add up to more.
        "amount" if kind == "amount" else "difference",
    )
    matched = logged.outcome[same]
    if kind == "share" and matched.min() == matched.max():
        conversations = float(weighted.sum()) ** 2 / float(np.square(weighted).sum())
        snips = robust = all_or_none(float(matched[0]), conversations)
    else:
        snips = ratio(_summed(logged, weights * logged.outcome), weighted, kind)
        robust = ratio(_summed(logged, wanted + weights * (logged.outcome - guess)), turns, kind)
    return OffPolicy(
        ips=inside(ips, kind),
        snips=inside(snips, kind),
        doubly_robust=inside(robust, kind),
        effective_turns=effective,
        matching=float(same.mean()),
    )


def _expected(logged: Logged, given: Floats | None, served: bool) -> Floats:
    if given is not None:
        return given
    rows = logged.reasoning == served
    mean = float(logged.outcome[rows].mean()) if rows.any() else 0.0
    return np.full(len(rows), mean)


def _summed(logged: Logged, values: Floats) -> Floats:
    return np.asarray(np.bincount(logged.conversation, values), np.float64)
