"""The answer of a policy: the class, with the reason in words and in fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnout.records import ModelClass, Population

Lock = Literal["tool_loop", "helper", "thinking", "stored_chain", "person"]
"""Why a turn must stay on its class, whatever it costs.

- `tool_loop`: the request goes on with a turn that a class has begun.
- `helper`: a product's own call beside the conversation, such as a title.
- `thinking`: the other model would lose or refuse the thinking blocks of the history.
- `stored_chain`: the history lives at one upstream (`previous_response_id`, `conversation`).
- `person`: a person chose the model by name.
"""

ChoiceCode = Literal[
    "scored",  # the score and the threshold decided
    "pinned",  # the session policy keeps its class
    "locked",  # see `Choice.lock`
    "cache_warm",  # the boundary policy waits until a switch loses no cache
    "fixed",  # nothing was scored
    "worth_it",  # priced: the switch is worth its price
    "upgrade_too_dear",  # priced: reasoning costs more than the miss that it avoids
    "downgrade_too_dear",  # priced: the switch costs more than it saves
    "near_threshold",  # priced: too close under the threshold to leave reasoning
    "over_budget",  # priced: the budget for switching is spent
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The class of a turn, and the reason.

    Attributes:
        model_class: The class chosen.
        policy: Name of the policy that chose.
        code: The reason as a code.
        reason: The reason as one sentence.
        target: Name of the class's target; None where the situation names none.
        lock: Why the turn had to stay on its class; None if it had not.
        score: p_reasoning in [0, 1]; None where nothing was scored.
        population: The population of score and threshold.
        threshold: The least score that sends a message to reasoning.
        stay_usd: What this turn costs on the class of the turn before, at a first turn on fast, in
            USD; None where the prices of a target are not known.
        switch_usd: What it costs on the other class, `switching_usd` included; None as above.
        switching_usd: The part of `switch_usd` that is paid only because the other class does not
            have the conversation in its prompt cache.
        miss_usd: The price of a miss that the policy used, in USD; None if it used none.
        session_class: The class that the session policy would give; None where that is not known.
        conversation_class: The class that the score alone would give; None where nothing was
            scored.
    """

    model_class: ModelClass
    policy: str
    code: ChoiceCode
    reason: str
    target: str | None = None
    lock: Lock | None = None
    score: float | None = None
    population: Population
    threshold: float
    stay_usd: float | None = None
    switch_usd: float | None = None
    switching_usd: float | None = None
    miss_usd: float | None = None
    session_class: ModelClass | None = None
    conversation_class: ModelClass | None = None

    @property
    def margin(self) -> float | None:
        """How far the score is above the threshold, in [-1, 1]; None where nothing was scored."""
        return None if self.score is None else self.score - self.threshold
