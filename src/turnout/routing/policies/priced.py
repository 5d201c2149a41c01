"""The priced policy: a switch where it is worth its price, and only there.

Per turn, in USD, with class R = reasoning, F = fast and the current class c:

    extra     = cost of this turn on R − cost on F, both with the conversation in their caches
    switching = cost of this turn on the other class − the same with the conversation in its cache
    worth     = p_reasoning × price of a miss

    upgrade    if the score reaches the threshold  and  worth ≥ extra + switching / turns left
    downgrade  if the score is clearly below it    and  extra − worth ≥ switching / turns left

What a cache is worth is lost once, so it is spread over the turns that the conversation is expected
to go on for. Everything else is weighed for this turn alone: the next turn is chosen anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from turnout.records import ModelClass
from turnout.routing.policies.choice import Choice, ChoiceCode
from turnout.routing.policies.situation import Situation
from turnout.routing.policies.turns_left import TurnsLeft

_OTHER: dict[ModelClass, ModelClass] = {"reasoning": "fast", "fast": "reasoning"}
# In log-odds above the threshold: from 0.50 to 0.73, from 0.20 to 0.40.
_WELL_ABOVE = 1.0
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class PricedPolicy:
    """Weighs what a switch costs against what it is worth.

    Attributes:
        miss_usd: What it costs you, in USD, if a message that needs reasoning goes to fast. None
            derives it from the threshold: at the threshold, a miss is worth exactly what
            reasoning costs more on that turn. A derived price never refuses an upgrade whose
            score is well above the threshold (log-odds 1); a price that you state can refuse any.
        hysteresis: How far under the threshold, in log-odds, a score must be for a downgrade.
        turns_left: Expected turns left, by turn index; see `TurnsLeft.from_turn_counts`.
        max_switching_share: Most that switching may take of a conversation's spend, in [0, 1];
            None for no limit.
        max_switching_usd: Most that switching may cost a conversation, in USD; None for no limit.

    Raises:
        ValueError: If a number is out of its range.
    """

    miss_usd: float | None = None
    hysteresis: float = 0.5
    turns_left: TurnsLeft = field(default_factory=TurnsLeft)
    max_switching_share: float | None = None
    max_switching_usd: float | None = None
    name: ClassVar[Literal["priced"]] = "priced"

    def __post_init__(self) -> None:
        limits = (self.miss_usd, self.hysteresis, self.max_switching_share, self.max_switching_usd)
        if not all(limit is None or limit >= 0 for limit in limits):
            raise ValueError(f"expected numbers of at least 0; found {self}")

    def choose(self, situation: Situation) -> Choice:
        """The class that is worth its price, or the locked one.

        Without prices of both targets the score alone decides, downgrades with hysteresis.
        """
        locked = situation.locked(self.name)
        if locked is not None:
            return locked
        costs = _Costs.of(situation)
        choice = self._first(situation, costs)
        if choice is None:
            choice = self._next(situation, costs)
        return choice if costs is None else costs.shown_in(choice, self._miss_usd(situation, costs))

    def _miss_usd(self, situation: Situation, costs: _Costs) -> float:
        if self.miss_usd is not None:
            return self.miss_usd
        return max(costs.extra, 0.0) / max(situation.threshold, _TINY)

    def _first(self, situation: Situation, costs: _Costs | None) -> Choice | None:
        """The choice where no class is there yet; None where one is."""
        if situation.session is not None:
            return None
        refused = costs is not None and situation.class_by_score == "reasoning"
        if refused and costs is not None:
            worth = situation.p_reasoning * self._miss_usd(situation, costs)
            if worth < costs.extra - _TINY:
                return _too_dear(situation, self.name, "fast", costs.extra, worth)
        return situation.by_score(self.name)

    def _next(self, situation: Situation, costs: _Costs | None) -> Choice:
        if situation.session is None:
            raise ValueError("the first turn has no class to stay on")
        current = situation.session.model_class
        if current == situation.class_by_score and (
            current == "fast" or costs is None or self.miss_usd is None
        ):
            return situation.by_score(self.name)
        if current == "fast":
            return self._upgrade(situation, costs)
        return self._downgrade(situation, costs)

    def _upgrade(self, situation: Situation, costs: _Costs | None) -> Choice:
        if costs is None or (self.miss_usd is None and _well_above(situation)):
            return situation.by_score(self.name)
        worth = situation.p_reasoning * self._miss_usd(situation, costs)
        price = costs.extra + costs.switching / self.turns_left.at(situation.turn_index)
        if worth < price - _TINY:
            return _too_dear(situation, self.name, "fast", price, worth)
        return self._within_budget(situation, costs, "reasoning", worth, price)

    def _downgrade(self, situation: Situation, costs: _Costs | None) -> Choice:
        near = _log_odds(situation.p_reasoning) > _log_odds(situation.threshold) - self.hysteresis
        if near:
            return self._stay(
                situation,
                "near_threshold",
                f"p_reasoning is {situation.p_reasoning:.3f}, not clearly under the threshold "
                f"{situation.threshold:.3f}: stays on reasoning",
            )
        if costs is None:
            return situation.by_score(self.name)
        worth = situation.p_reasoning * self._miss_usd(situation, costs)
        saving = costs.extra - worth
        price = costs.switching / self.turns_left.at(situation.turn_index)
        if saving < price:
            return self._stay(
                situation,
                "downgrade_too_dear",
                f"leaving reasoning saves {saving:.4f} USD a turn and costs {price:.4f} USD a turn "
                "of cache to be written anew: stays",
            )
        return self._within_budget(situation, costs, "fast", saving, price)

    def _stay(self, situation: Situation, code: ChoiceCode, reason: str) -> Choice:
        return situation.choice("reasoning", self.name, code, reason)

    def _within_budget(
        self, situation: Situation, costs: _Costs, to: ModelClass, worth: float, price: float
    ) -> Choice:
        session = situation.session
        spent = (session.spent_usd, session.switching_usd) if session else (0.0, 0.0)
        ceiling = math.inf if self.max_switching_usd is None else self.max_switching_usd
        if self.max_switching_share is not None:
            ceiling = min(ceiling, self.max_switching_share * (spent[0] + costs.switch_usd))
        if costs.switching > 0 and spent[1] + costs.switching > ceiling:
            return situation.choice(
                _OTHER[to],
                self.name,
                "over_budget",
                f"a switch to {to} would bring what switching has cost to "
                f"{spent[1] + costs.switching:.4f} USD, over the budget of {ceiling:.4f} USD",
            )
        gain = "a miss avoided is worth" if to == "reasoning" else "the turn is cheaper by"
        return situation.choice(
            to,
            self.name,
            "worth_it",
            f"p_reasoning is {situation.p_reasoning:.3f} (threshold {situation.threshold:.3f}): "
            f"{gain} {worth:.4f} USD and costs {price:.4f} USD",
        )


@dataclass(frozen=True, slots=True)
class _Costs:
    """What a turn costs here and there, in USD.

    Attributes:
        stay_usd: On the current class; at a first turn, on fast.
        switch_usd: On the other one.
        extra: On reasoning, less on fast, both with the conversation in their caches.
        switching: Of `switch_usd`: for tokens that only the current class has in its cache.
    """

    stay_usd: float
    switch_usd: float
    extra: float
    switching: float

    @classmethod
    def of(cls, situation: Situation) -> _Costs | None:
        """None where a target's prices are not known."""
        targets = situation.targets
        if "reasoning" not in targets or "fast" not in targets:
            return None
        current: ModelClass = situation.session.model_class if situation.session else "fast"
        other = _OTHER[current]
        prompt = situation.prompt_tokens
        warm = situation.warm_tokens(current)
        held = max(situation.warm_tokens(other), round(warm * targets[other].shared_cache))
        both = max(warm, held)
        usd = {name: targets[name].turn_usd(prompt, both) for name in _OTHER}
        switch_usd = targets[other].turn_usd(prompt, held)
        return cls(
            stay_usd=targets[current].turn_usd(prompt, warm),
            switch_usd=switch_usd,
            extra=usd["reasoning"] - usd["fast"],
            switching=switch_usd - usd[other],
        )

    def shown_in(self, choice: Choice, miss_usd: float) -> Choice:
        """The choice with its costs."""
        return replace(
            choice,
            stay_usd=self.stay_usd,
            switch_usd=self.switch_usd,
            switching_usd=self.switching,
            miss_usd=miss_usd,
        )


def _too_dear(
    situation: Situation, policy: str, stays: ModelClass, price: float, worth: float
) -> Choice:
    return situation.choice(
        stays,
        policy,
        "upgrade_too_dear",
        f"p_reasoning is {situation.p_reasoning:.3f} ≥ threshold {situation.threshold:.3f}, but "
        f"reasoning costs {price:.4f} USD more and the miss it avoids is worth {worth:.4f} USD",
    )


def _well_above(situation: Situation) -> bool:
    return _log_odds(situation.p_reasoning) >= _log_odds(situation.threshold) + _WELL_ABOVE


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _TINY), 1 - _TINY)
    return math.log(inside) - math.log1p(-inside)
