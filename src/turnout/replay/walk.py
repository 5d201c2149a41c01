"""Every conversation of a log under a policy: all conversations one turn at a time, in columns.

The same choices as `Policy.choose` gives turn by turn, for whole columns of conversations at once.
Reads no log and no router.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from turnout.records import ModelClass
from turnout.replay.columns import Bools, Floats, TurnColumns
from turnout.routing.policies import (
    BoundaryPolicy,
    FixedPolicy,
    Policy,
    PricedPolicy,
    SessionPolicy,
    Target,
)
from turnout.routing.policies.choice import ChoiceCode
from turnout.routing.policies.priced import WELL_ABOVE

CLASSES: tuple[ModelClass, ModelClass] = ("fast", "reasoning")
CODES: tuple[ChoiceCode, ...] = get_args(ChoiceCode)
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a policy chose, turn by turn; costs in USD, as in `Choice`, shape `(n,)` each.

    Attributes:
        codes: Positions in `CODES`.
        usd: What the turn is billed with on the class that was chosen.
        stay_usd: What it is expected to cost on the class of the turn before; on fast at a first
            turn.
        switch_usd: What it is expected to cost on the other one.
        switching_usd: Of `switch_usd`, what is paid only since the other class does not hold the
            conversation in its prompt cache.
        miss_usd: The price of a miss that was weighed; NaN where none was.
    """

    codes: NDArray[np.int8]
    usd: NDArray[np.float32]
    stay_usd: NDArray[np.float32]
    switch_usd: NDArray[np.float32]
    switching_usd: NDArray[np.float32]
    miss_usd: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Walked:
    """What a policy did, turn by turn.

    Attributes:
        on_reasoning: Whether the turn is served by the reasoning class, shape `(n,)`.
        cached_tokens: Prompt tokens that its class reads from the prompt cache, shape `(n,)`.
        switched: Whether the turn leaves the class of the turn before, shape `(n,)`.
        left_warm: Whether it then leaves a prompt cache that still holds the conversation.
        reasons: Why; None where they were not asked for.
    """

    on_reasoning: Bools
    cached_tokens: NDArray[np.float32]
    switched: Bools
    left_warm: Bools
    reasons: Reasons | None = None


@dataclass(slots=True)
class _Step:
    """The k-th turns of all conversations that have one, m of them; state before the choice.

    Rows of two-row arrays are fast and reasoning.
    """

    turn_index: NDArray[np.int32]
    at_s: Floats
    idle_s: Floats
    score: Floats
    prompt: Floats
    output: Floats  # (2, m): as the turn is billed; a policy knows only `Target.output_tokens`
    warm: Floats  # (2, m): tokens of this prompt that each class has in its cache
    on_reasoning: Bools
    spent_usd: Floats
    switching_usd: Floats


Chooser = Callable[[_Step], Bools]


def walk(
    turns: TurnColumns,
    scores: NDArray[np.float32],
    threshold: float,
    policy: Policy,
    targets: Mapping[ModelClass, Target],
    *,
    with_reasons: bool = False,
) -> Walked:
    """Replay every conversation.

    A turn without a time is taken to follow within the cache's lifetime.

    Args:
        turns: What was said.
        scores: p_reasoning of every turn, shape `(n,)`; of a session's later turns it is not read.
        threshold: The least score that sends a message to reasoning.
        policy: What chooses.
        targets: What each class costs, how long its answers are expected to be, and how long its
            prompt cache lasts.
        with_reasons: Say for every turn why, and what staying and switching cost.
    """
    n = len(turns)
    reasons = None
    if with_reasons:
        usd = [np.full(n, np.nan, np.float32) for _ in range(5)]
        reasons = Reasons(np.zeros(n, np.int8), *usd)
    walked = Walked(
        np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool), reasons
    )
    first, later = _choosers(policy, threshold, targets)
    counts_costs = isinstance(policy, PricedPolicy) and (
        policy.max_switching_share is not None or policy.max_switching_usd is not None
    )
    state = _State(turns, targets)
    for position, rows in _positions(turns):
        step = state.step(rows, turns, scores)
        reasoning = (later if position else first)(step)
        walked.on_reasoning[rows] = reasoning
        walked.cached_tokens[rows] = np.where(reasoning, step.warm[1], step.warm[0])
        if position:
            switched = reasoning != step.on_reasoning
            walked.switched[rows] = switched
            held = np.where(step.on_reasoning, step.warm[1], step.warm[0])
            walked.left_warm[rows] = switched & (held > 0)
        if reasons is not None:
            explained = _Explained(step, threshold, policy, targets, first_turn=position == 0)
            explained.write(reasons, rows, reasoning)
        if counts_costs:
            state.spend(step, reasoning, targets, first_turn=position == 0)
        state.serve(step, reasoning)
    return walked


def _positions(turns: TurnColumns) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """0, 1, … with the rows of the conversations that reach so far, the longest first."""
    lengths = np.diff(turns.starts)
    order = np.argsort(-lengths, kind="stable")
    begins, lengths = turns.starts[:-1][order], lengths[order]
    reaching = len(order)
    for position in range(int(lengths[0]) if len(lengths) else 0):
        while reaching and lengths[reaching - 1] <= position:
            reaching = int(np.searchsorted(-lengths, -position, side="left"))
        yield position, begins[:reaching] + position


class _State:
    """What is known of every conversation before its next turn, the longest first."""

    def __init__(self, turns: TurnColumns, targets: Mapping[ModelClass, Target]) -> None:
        c = turns.conversations
        self._on_reasoning = np.zeros(c, bool)
        self._before_s = np.full(c, np.nan)
        self._held = np.zeros((2, c))
        self._used_s = np.full((2, c), np.nan)
        self._spent = np.zeros((2, c))
        self._lifetime_s = np.array([[targets[name].cache_lifetime_s] for name in CLASSES])

    def step(
        self, rows: NDArray[np.int64], turns: TurnColumns, scores: NDArray[np.float32]
    ) -> _Step:
        m = len(rows)
        at_s, prompt = turns.at_s[rows], turns.prompt_tokens[rows].astype(np.float64)
        # Comparisons with NaN are false: without a time nothing goes cold.
        cold = np.abs(at_s - self._used_s[:, :m]) >= self._lifetime_s
        return _Step(
            turns.turn_index[rows],
            at_s,
            np.abs(at_s - self._before_s[:m]),
            scores[rows].astype(np.float64),
            prompt,
            np.stack([turns.output_tokens[name][rows] for name in CLASSES]).astype(np.float64),
            np.where(cold, 0.0, np.minimum(self._held[:, :m], prompt)),
            self._on_reasoning[:m],
            self._spent[0, :m],
            self._spent[1, :m],
        )

    def spend(
        self,
        step: _Step,
        reasoning: Bools,
        targets: Mapping[ModelClass, Target],
        *,
        first_turn: bool,
    ) -> None:
        costs = _Costs.of(step, targets, first_turn=first_turn)
        m = len(reasoning)
        switched = (reasoning != step.on_reasoning) & (not first_turn)
        own = _turn_usd(step, targets, step.warm, step.output)
        self._spent[0, :m] += np.where(reasoning, own[1], own[0])
        self._spent[1, :m] += np.where(switched, costs.switching, 0.0)

    def serve(self, step: _Step, reasoning: Bools) -> None:
        m = len(reasoning)
        served = np.stack([~reasoning, reasoning])
        self._held[:, :m] = np.where(served, step.prompt, self._held[:, :m])
        self._used_s[:, :m] = np.where(served, step.at_s, self._used_s[:, :m])
        self._before_s[:m] = step.at_s
        self._on_reasoning[:m] = reasoning


def _turn_usd(
    step: _Step, targets: Mapping[ModelClass, Target], cached: Floats, output: Floats
) -> Floats:
    """What the turns cost on each class, shape `(2, m)`.

    Args:
        step: The turns.
        targets: Prices.
        cached: Tokens read from the cache, shape `(2, m)` or `(m,)`.
        output: Tokens of the answers on each class, shape `(2, m)` or `(2, 1)`.
    """
    prices = [targets[name].prices for name in CLASSES]
    read, fresh, answer = (
        np.array([[getattr(price, f"{kind}_usd_per_mtok")] for price in prices])
        for kind in ("read", "fresh", "output")
    )
    usd: Floats = cached * read + (step.prompt - cached) * fresh + output * answer
    return usd / 1e6


@dataclass(slots=True)
class _Costs:
    """As `TurnCosts`, in columns of shape `(m,)`: with the answer's expected length."""

    extra: Floats
    switching: Floats
    switch: Floats
    stay: Floats

    @classmethod
    def of(
        cls, step: _Step, targets: Mapping[ModelClass, Target], *, first_turn: bool = False
    ) -> _Costs:
        on = step.on_reasoning & (not first_turn)
        warm = np.where(on, step.warm[1], step.warm[0])
        other = np.where(on, step.warm[0], step.warm[1])
        shared = np.where(on, targets["fast"].shared_cache, targets["reasoning"].shared_cache)
        held = np.maximum(other, shared * warm)
        both = np.maximum(warm, held)
        expected = np.array([[targets[name].output_tokens] for name in CLASSES])
        with_both = _turn_usd(step, targets, both, expected)
        with_held = _turn_usd(step, targets, held, expected)
        with_warm = _turn_usd(step, targets, warm, expected)
        switch = np.where(on, with_held[0], with_held[1])
        return cls(
            with_both[1] - with_both[0],
            switch - np.where(on, with_both[0], with_both[1]),
            switch,
            np.where(on, with_warm[1], with_warm[0]),
        )


def _choosers(
    policy: Policy, threshold: float, targets: Mapping[ModelClass, Target]
) -> tuple[Chooser, Chooser]:
    """The functions that choose at a conversation's first turn, and at later ones."""

    def by_score(step: _Step) -> Bools:
        return step.score >= threshold

    def stay(step: _Step) -> Bools:
        return step.on_reasoning.copy()

    if isinstance(policy, FixedPolicy):
        fixed = policy.model_class == "reasoning"
        return (lambda step: np.full(len(step.score), fixed),) * 2
    if isinstance(policy, SessionPolicy):
        return by_score, stay
    if isinstance(policy, BoundaryPolicy):
        return by_score, lambda step: _boundary(step, threshold, targets)
    if isinstance(policy, PricedPolicy):
        return (
            lambda step: _priced(step, threshold, policy, targets, first_turn=True),
            lambda step: _priced(step, threshold, policy, targets, first_turn=False),
        )
    return by_score, by_score


def _boundary(step: _Step, threshold: float, targets: Mapping[ModelClass, Target]) -> Bools:
    by_score = step.score >= threshold
    return np.asarray(np.where(_is_cold(step, targets), by_score, step.on_reasoning), bool)


def _is_cold(step: _Step, targets: Mapping[ModelClass, Target]) -> Bools:
    """Whether the class of the turn before has lost the conversation from its prompt cache."""
    fast_s, reasoning_s = (targets[name].cache_lifetime_s for name in CLASSES)
    return np.asarray(step.idle_s >= np.where(step.on_reasoning, reasoning_s, fast_s), bool)


def _priced(
    step: _Step,
    threshold: float,
    policy: PricedPolicy,
    targets: Mapping[ModelClass, Target],
    *,
    first_turn: bool,
) -> Bools:
    weighed = _Weighed.of(step, threshold, policy, targets, first_turn=first_turn)
    up = weighed.is_worth_it
    if policy.miss_usd is None:
        up = weighed.is_above & (up | weighed.is_well_above)
    up &= weighed.is_within
    if first_turn:
        return np.asarray(up, bool)
    down = ~weighed.is_near & weighed.saves & weighed.is_within
    return np.asarray(np.where(step.on_reasoning, ~down, up), bool)


@dataclass(slots=True)
class _Weighed:
    """What the priced policy weighs, in columns of shape `(m,)`."""

    is_above: Bools  # the threshold
    is_well_above: Bools
    is_near: Bools  # too close under the threshold to leave reasoning
    is_worth_it: Bools  # an upgrade
    saves: Bools  # a downgrade
    is_within: Bools  # the budget for switching
    miss_usd: Floats | float

    @classmethod
    def of(
        cls,
        step: _Step,
        threshold: float,
        policy: PricedPolicy,
        targets: Mapping[ModelClass, Target],
        *,
        first_turn: bool,
    ) -> _Weighed:
        costs = _Costs.of(step, targets, first_turn=first_turn)
        indices, inverse = np.unique(step.turn_index, return_inverse=True)
        left = np.array([policy.turns_left.from_turn(int(index)) for index in indices])
        per_turn = costs.switching / left[inverse]
        log_odds, threshold_log_odds = _log_odds(step.score), _log_odds(np.array(threshold))
        miss_usd = _miss_usd(costs, policy, threshold)
        worth = _shifted(step.score, policy.score_shift) * miss_usd
        return cls(
            step.score >= threshold,
            log_odds - threshold_log_odds >= WELL_ABOVE,
            log_odds >= threshold_log_odds - policy.hysteresis,
            worth >= costs.extra + per_turn - _TINY,
            (costs.extra > worth) & (costs.extra - worth >= per_turn),
            _within_budget(step, costs, policy),
            miss_usd,
        )

    def codes(self, on_reasoning: Bools, *, is_derived: bool) -> NDArray[np.int8]:
        """As `PricedPolicy` gives them; `is_derived` where no price of a miss was stated."""
        is_under, is_clear = ~self.is_above & is_derived, self.is_well_above & is_derived
        weighed = np.where(self.is_within, _CODE["worth_it"], _CODE["over_budget"])
        clear = np.where(self.is_within, _CODE["scored"], _CODE["over_budget"])
        up = np.select(
            [is_under, is_clear, self.is_worth_it, self.is_above],
            [_CODE["scored"], clear, weighed, _CODE["upgrade_too_dear"]],
            _CODE["scored"],
        )
        down = np.select(
            [self.is_near & self.is_above, self.is_near, self.saves],
            [_CODE["scored"], _CODE["near_threshold"], weighed],
            _CODE["downgrade_too_dear"],
        )
        return np.where(on_reasoning, down, up).astype(np.int8)


_CODE: Mapping[ChoiceCode, int] = {code: number for number, code in enumerate(CODES)}


class _Explained:
    """The reasons and costs of the choices in one step."""

    def __init__(
        self,
        step: _Step,
        threshold: float,
        policy: Policy,
        targets: Mapping[ModelClass, Target],
        *,
        first_turn: bool,
    ) -> None:
        self._costs = _Costs.of(step, targets, first_turn=first_turn)
        self._own_usd = _turn_usd(step, targets, step.warm, step.output)
        self._miss_usd: Floats | float = np.nan
        m = len(step.score)
        if isinstance(policy, PricedPolicy):
            weighed = _Weighed.of(step, threshold, policy, targets, first_turn=first_turn)
            on = step.on_reasoning & (not first_turn)
            self._codes = weighed.codes(on, is_derived=policy.miss_usd is None)
            self._miss_usd = weighed.miss_usd
        elif isinstance(policy, BoundaryPolicy) and not first_turn:
            cold = _is_cold(step, targets)
            self._codes = np.where(cold, _CODE["scored"], _CODE["cache_warm"]).astype(np.int8)
        elif isinstance(policy, SessionPolicy) and not first_turn:
            self._codes = np.full(m, _CODE["pinned"], np.int8)
        else:
            code: ChoiceCode = "fixed" if isinstance(policy, FixedPolicy) else "scored"
            self._codes = np.full(m, _CODE[code], np.int8)

    def write(self, reasons: Reasons, rows: NDArray[np.int64], reasoning: Bools) -> None:
        """Write codes and costs into the rows of these turns."""
        reasons.codes[rows] = self._codes
        reasons.usd[rows] = np.where(reasoning, self._own_usd[1], self._own_usd[0])
        reasons.stay_usd[rows] = self._costs.stay
        reasons.switch_usd[rows] = self._costs.switch
        reasons.switching_usd[rows] = self._costs.switching
        reasons.miss_usd[rows] = self._miss_usd


def _miss_usd(costs: _Costs, policy: PricedPolicy, threshold: float) -> Floats | float:
    if policy.miss_usd is not None:
        return policy.miss_usd
    return np.maximum(costs.extra, 0.0) / max(policy.probability(threshold), _TINY)


def _within_budget(step: _Step, costs: _Costs, policy: PricedPolicy) -> Bools:
    ceiling = np.full(len(step.score), np.inf)
    if policy.max_switching_usd is not None:
        ceiling = np.minimum(ceiling, policy.max_switching_usd)
    if policy.max_switching_share is not None:
        ceiling = np.minimum(ceiling, policy.max_switching_share * (step.spent_usd + costs.switch))
    return np.asarray(
        (costs.switching <= 0) | (step.switching_usd + costs.switching <= ceiling), bool
    )


def _shifted(score: Floats, shift: float) -> Floats:
    if not shift:
        return score
    return 1.0 / (1.0 + np.exp(-_log_odds(score) - shift))


def _log_odds(probability: Floats) -> Floats:
    inside = np.clip(probability, _TINY, 1 - _TINY)
    return np.log(inside) - np.log1p(-inside)
