"""The small frozen values that cross module borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModelClass = Literal["reasoning", "fast"]
Architecture = Literal["session", "conversation"]
Population = Literal["log", "balanced"]
"""The messages that a probability is right for: a log as it is, or a balanced data set's rows."""

LABEL_REASONING = 0
LABEL_FAST = 1
OTHER_CLASS: dict[ModelClass, ModelClass] = {"reasoning": "fast", "fast": "reasoning"}
ID2LABEL: dict[int, ModelClass] = {LABEL_REASONING: "reasoning", LABEL_FAST: "fast"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and what the assistant answered.

    Attributes:
        user_message: What the user wrote.
        assistant_message: The final answer's text; None where it is not known (yet).
    """

    user_message: str
    assistant_message: str | None = None


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the encoder reads of a turn, as text; only `routing.Formatter` makes it.

    Attributes:
        message: The current user message (segment A).
        context: The turn index and the previous turns, newest first (segment B); empty at turn 1
            and always empty for the session architecture.
    """

    message: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where one message goes, and why.

    Attributes:
        model_class: The class chosen.
        label: 0 = reasoning, 1 = fast; the same fact as a number.
        p_reasoning: Calibrated probability in [0, 1] that the message needs reasoning; None when
            nothing was scored (a pinned session, a fixed policy).
        threshold: The least `p_reasoning` that sends a message to the reasoning class.
        population: The messages that `p_reasoning` and `threshold` are stated for.
        policy: Which policy decided.
        reason: One sentence for a person.
        turn_index: 1-based position of the message in its conversation.
        conversation_id: The conversation, where the caller named it.
        previous_class: The class of the turn before, where it is known.
        truncated_tokens: Tokens of the input that did not fit the encoder; at least so many where
            a message is longer than the 16,000 characters that are looked at.
        code: The reason as a code; see `routing.policies.Choice`.
        lock: What kept the turn on its class; None where nothing did.
        stay_usd: What this turn costs on the previous class, in USD; None without prices.
        switch_usd: What it costs on the other class.
        switching_usd: Of `switch_usd`: for the prompt cache that the other class does not have.
        session_class: The class that the session policy would give; None where not known.
        conversation_class: The class that the score alone would give; None where nothing was
            scored.
    """

    model_class: ModelClass
    label: int
    p_reasoning: float | None
    threshold: float
    population: Population
    policy: str
    reason: str
    turn_index: int
    conversation_id: str | None = None
    previous_class: ModelClass | None = None
    truncated_tokens: int = 0
    code: str = "scored"
    lock: str | None = None
    stay_usd: float | None = None
    switch_usd: float | None = None
    switching_usd: float | None = None
    session_class: ModelClass | None = None
    conversation_class: ModelClass | None = None

    @property
    def switched(self) -> bool:
        """Whether this turn leaves the class of the turn before."""
        return self.previous_class is not None and self.previous_class != self.model_class
