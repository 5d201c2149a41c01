"""The priced policy: it switches only where a switch is worth its price.

For one turn, in USD, where R is reasoning, F is fast and c the current class:

    extra     = cost on R − cost on F, both with the conversation in their prompt caches
    switching = cost on the other class − the same with the conversation in its cache
    worth     = probability that the turn needs reasoning × price of a miss

    upgrade    if  worth ≥ extra + switching / turns left
    downgrade  if  the score is clearly below the threshold
               and extra − worth ≥ switching / turns left, and above 0

A cache is lost once, so its price is divided by the expected turns left of the conversation. All
other costs are of this turn alone, as the next turn is a new choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from turnout.records import OTHER_CLASS, ModelClass
from turnout.routing.policies.choice import Choice
from turnout.routing.policies.costs import TurnCosts
from turnout.routing.policies.situation import Situation
from turnout.routing.policies.turns_left import TurnsLeft

# In log-odds above the threshold: from 0.50 to 0.73, from 0.20 to 0.40.
WELL_ABOVE = 1.0
_TINY = 1e-12
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class PricedPolicy:
    """Compares the price of a switch with its worth.

    Attributes:
        miss_usd: The cost to you, in USD, of a message that needs reasoning and goes to fast. It
            decides upgrades instead of the threshold, and can refuse any. None derives it from the
            threshold: at the threshold, a miss costs as much as reasoning costs more on that turn.
            With a derived price, nothing below the threshold goes to reasoning, and no upgrade
            with a score well above it (log-odds 1) is refused, but by a budget.
        hysteresis: How far under the threshold, in log-odds, a score must be for a downgrade.
        turns_left: Expected turns left, by turn index; see `TurnsLeft.from_turn_counts`.
        score_shift: Added to the score's log-odds to make it a probability; 0 where scores are
            probabilities of the traffic.
        max_switching_share: The largest share of a conversation's spend for switching, in [0, 1];
            None for no limit.
        max_switching_usd: The most that switching may cost in a conversation, in USD; None for no
            limit.

    Raises:
        ValueError: If a number is out of its range.
    """

    miss_usd: float | None = None
    hysteresis: float = 0.5
    turns_left: TurnsLeft = field(default_factory=TurnsLeft)
    score_shift: float = 0.0
    max_switching_share: float | None = None
    max_switching_usd: float | None = None
    name: ClassVar[Literal["priced"]] = "priced"

    def __post_init__(self) -> None:
        limits = (self.miss_usd, self.hysteresis, self.max_switching_share, self.max_switching_usd)
        if not all(limit is None or 0 <= limit < math.inf for limit in limits):
            raise ValueError(f"expected finite numbers of at least 0; found {self}")
        if not math.isfinite(self.score_shift):
            raise ValueError(f"expected a finite score_shift; found {self}")
        if self.max_switching_share is not None and self.max_switching_share > 1:
            raise ValueError(f"expected a max_switching_share in [0, 1]; found {self}")

    def choose(self, situation: Situation) -> Choice:
        """The class that is worth its price, or the locked one.

        Without prices of both targets the score alone decides, downgrades with hysteresis.
        """
        locked = situation.locked(self.name)
        if locked is not None:
            return locked
        on_reasoning = situation.current_class == "reasoning"
        costs = TurnCosts.of(situation)
        if costs is None:
            near = on_reasoning and self._is_near(situation)
            return self._near(situation) if near else situation.by_score(self.name)
        miss_usd = self._miss_usd(situation, costs)
        weigh = self._downgrade if on_reasoning else self._upgrade
        choice = weigh(situation, costs, self.probability(situation.p_reasoning) * miss_usd)
        return replace(choice, miss_usd=miss_usd)

    def probability(self, score: float) -> float:
        """The probability that a score stands for, in [0, 1]."""
        if not self.score_shift:
            return score
        return 1.0 / (1.0 + math.exp(min(-_log_odds(score) - self.score_shift, _LARGEST_EXPONENT)))

    def _miss_usd(self, situation: Situation, costs: TurnCosts) -> float:
        if self.miss_usd is not None:
            return self.miss_usd
        at_threshold = max(self.probability(situation.threshold), _TINY)
        return max(costs.extra_usd, 0.0) / at_threshold

    def _upgrade(self, situation: Situation, costs: TurnCosts, worth_usd: float) -> Choice:
        is_above = situation.p_reasoning >= situation.threshold
        margin = _log_odds(situation.p_reasoning) - _log_odds(situation.threshold)
        if self.miss_usd is None and not is_above:
            return situation.by_score(self.name)
        if self.miss_usd is None and margin >= WELL_ABOVE:
            return self._over_budget(situation, costs, "reasoning") or situation.by_score(self.name)
        price_usd = costs.extra_usd + self._per_turn(situation, costs)
        if worth_usd >= price_usd - _TINY:
            return self._worth_it(situation, costs, "reasoning", worth_usd, price_usd)
        return situation.choice(
            "fast",
            self.name,
            "upgrade_too_dear" if is_above else "scored",
            f"{_compared(situation)}: reasoning costs {price_usd:.4f} USD more, and the miss that "
            f"it avoids is worth {worth_usd:.4f} USD",
        )

    def _downgrade(self, situation: Situation, costs: TurnCosts, worth_usd: float) -> Choice:
        if self._is_near(situation):
            return self._near(situation)
        saving_usd = costs.extra_usd - worth_usd
        price_usd = self._per_turn(situation, costs)
        if saving_usd > 0 and saving_usd >= price_usd:
            return self._worth_it(situation, costs, "fast", saving_usd, price_usd)
        if saving_usd > 0:
            why = (
                f"leaving reasoning saves {saving_usd:.4f} USD a turn, less than the "
                f"{price_usd:.4f} USD a turn of a cache to be written anew"
            )
        elif costs.extra_usd > 0:
            why = (
                f"fast costs {costs.extra_usd:.4f} USD less, and the miss that it risks is worth "
                f"{worth_usd:.4f} USD"
            )
        else:
            why = "fast costs no less on this turn"
        reason = f"{_compared(situation)}: {why}"
        return situation.choice("reasoning", self.name, "downgrade_too_dear", reason)

    def _is_near(self, situation: Situation) -> bool:
        least = _log_odds(situation.threshold) - self.hysteresis
        return _log_odds(situation.p_reasoning) >= least

    def _near(self, situation: Situation) -> Choice:
        if situation.class_by_score == "reasoning":
            return situation.by_score(self.name)
        reason = f"{_compared(situation)}, but not clearly under it: stays on reasoning"
        return situation.choice("reasoning", self.name, "near_threshold", reason)

    def _per_turn(self, situation: Situation, costs: TurnCosts) -> float:
        return costs.switching_usd / self.turns_left.from_turn(situation.turn_index)

    def _over_budget(self, situation: Situation, costs: TurnCosts, to: ModelClass) -> Choice | None:
        """The choice where the budget for switching refuses a switch; None where it does not."""
        session = situation.session
        switching_usd = costs.switching_usd + (session.switching_usd if session else 0.0)
        ceiling_usd = math.inf if self.max_switching_usd is None else self.max_switching_usd
        if self.max_switching_share is not None:
            spend_usd = costs.switch_usd + (session.spent_usd if session else 0.0)
            ceiling_usd = min(ceiling_usd, self.max_switching_share * spend_usd)
        if costs.switching_usd <= 0 or switching_usd <= ceiling_usd:
            return None
        return situation.choice(
            OTHER_CLASS[to],
            self.name,
            "over_budget",
            f"a switch to {to} would bring the cost of switching to {switching_usd:.4f} USD, "
            f"over the budget of {ceiling_usd:.4f} USD",
        )

    def _worth_it(
        self,
        situation: Situation,
        costs: TurnCosts,
        to: ModelClass,
        worth_usd: float,
        price_usd: float,
    ) -> Choice:
        gain = "a miss avoided is worth" if to == "reasoning" else "fast saves"
        reason = f"{_compared(situation)}: {gain} {worth_usd:.4f} USD, for {price_usd:.4f} USD"
        return self._over_budget(situation, costs, to) or situation.choice(
            to, self.name, "worth_it", reason
        )


def _compared(situation: Situation) -> str:
    sign = "≥" if situation.class_by_score == "reasoning" else "<"
    return (
        f"p_reasoning of {situation.what} is {situation.p_reasoning:.3f} {sign} threshold "
        f"{situation.threshold:.3f} (population: {situation.population})"
    )


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _TINY), 1 - _TINY)
    return math.log(inside) - math.log1p(-inside)
