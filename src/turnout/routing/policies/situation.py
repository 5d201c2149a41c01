"""The input of a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from turnout.protocols.kinds import KINDS, RequestKind
from turnout.records import ModelClass, Population
from turnout.routing.policies.choice import Choice, ChoiceCode, Lock
from turnout.routing.policies.costs import Target, TurnCosts
from turnout.routing.sessions import Session


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One turn, before its class is chosen.

    Attributes:
        turn_index: 1-based position of the turn in its conversation.
        score: p_reasoning in [0, 1], or a function that computes it; called at most once, and
            only where the policy needs it.
        threshold: The least score that sends a message to reasoning, in [0, 1].
        population: The population of score and threshold. The priced policy multiplies prices by
            probabilities, so it needs those of the traffic, `log`.
        session: The conversation so far; None at its first turn.
        now_s: Wall-clock time, in seconds.
        kind: What the request is; once the conversation has a class, only a `turn` is scored.
        locks: Reasons to stay on the class, besides those that follow from `kind`.
        compacted: Whether the history was compacted since the turn before, so no cache has it.
        prompt_tokens: Length of the prompt to be sent, cached or not; 0 where it is not known.
        targets: Each class's target and prices; empty where prices are not known.
        what: What was scored, for the text of reasons.

    Raises:
        ValueError: If a field is out of its range, or a lock or kind has another name.
    """

    turn_index: int
    score: float | Callable[[], float]
    threshold: float
    population: Population = "balanced"
    session: Session | None = None
    now_s: float = 0.0
    kind: RequestKind = "turn"
    locks: tuple[Lock, ...] = ()
    compacted: bool = False
    prompt_tokens: int = 0
    targets: Mapping[ModelClass, Target] = field(default_factory=dict)
    what: str = "the message"
    # Not a `cached_property`: Python 3.11 holds one lock for all of them while one is computed,
    # and a gateway scores several messages at once.
    _computed: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.turn_index >= 1:
            raise ValueError(f"turn_index: found {self.turn_index!r}; expected 1 or more")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: found {self.threshold!r}; expected a number in [0, 1]")
        if self.prompt_tokens is None or not self.prompt_tokens >= 0:
            raise ValueError(
                f"prompt_tokens: found {self.prompt_tokens!r}; expected 0 or more, and 0 where the "
                "prompt's length is not known"
            )
        if isinstance(self.locks, str) or not _LOCKED.keys() >= set(self.locks):
            raise ValueError(
                f"locks: found {self.locks!r}; expected a tuple of names from {', '.join(_LOCKED)}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"kind: found {self.kind!r}; expected one of {', '.join(KINDS)}")

    @property
    def p_reasoning(self) -> float:
        """The score, computed on first use.

        Raises:
            ValueError: If it is no number in [0, 1].
        """
        if not self._computed:
            score = self.score() if callable(self.score) else self.score
            if not 0 <= score <= 1:
                raise ValueError(f"expected a score in [0, 1]; found {score}")
            self._computed.append(score)
        return self._computed[0]

    @property
    def class_by_score(self) -> ModelClass:
        """The class that score and threshold give; equal goes to reasoning."""
        return "reasoning" if self.p_reasoning >= self.threshold else "fast"

    @property
    def current_class(self) -> ModelClass | None:
        """The class of the turn before; None at a conversation's first turn."""
        return None if self.session is None else self.session.model_class

    @property
    def lock(self) -> Lock | None:
        """The first reason to stay on the class; None where there is none."""
        if self.locks:
            return self.locks[0]
        if self.kind == "turn":
            return None
        return "tool_loop" if self.kind == "continuation" else "helper"

    def warm_tokens(self, model_class: ModelClass) -> int:
        """Tokens of this prompt that a class's prompt cache has."""
        if self.session is None or self.compacted:
            return 0
        cache = self.session.caches.get(model_class)
        return 0 if cache is None else min(cache.warm_tokens(self.now_s), self.prompt_tokens)

    def choice(
        self,
        model_class: ModelClass,
        policy: str,
        code: ChoiceCode,
        reason: str,
        *,
        lock: Lock | None = None,
    ) -> Choice:
        """A choice, with the fields that are the same for every policy."""
        costs = TurnCosts.of(self)
        scored = bool(self._computed)
        by_score = self.class_by_score if scored else None
        target = self.targets.get(model_class)
        return Choice(
            model_class=model_class,
            policy=policy,
            code=code,
            reason=reason,
            target=target.name if target else None,
            lock=lock,
            score=self.p_reasoning if scored else None,
            population=self.population,
            threshold=self.threshold,
            stay_usd=costs.stay_usd if costs else None,
            switch_usd=costs.switch_usd if costs else None,
            switching_usd=costs.switching_usd if costs else None,
            session_class=by_score if self.session is None else self.session.first_class,
            conversation_class=by_score,
        )

    def by_score(self, policy: str) -> Choice:
        """The choice that score and threshold give."""
        model_class = self.class_by_score
        sign = "≥" if model_class == "reasoning" else "<"
        return self.choice(
            model_class,
            policy,
            "scored",
            f"p_reasoning of {self.what} is {self.p_reasoning:.3f} {sign} threshold "
            f"{self.threshold:.3f} (population: {self.population})",
        )

    def locked(self, policy: str) -> Choice | None:
        """The choice that a lock forces; None without a lock, or at the first turn."""
        lock = self.lock
        if lock is None or self.session is None:
            return None
        return self.choice(self.session.model_class, policy, "locked", _LOCKED[lock], lock=lock)


_LOCKED: Mapping[Lock, str] = {
    "tool_loop": "a tool loop stays on the class that began the turn",
    "helper": "a product's helper call is not scored and stays on the conversation's class",
    "thinking": "the other model would lose or refuse the thinking blocks of the history",
    "stored_chain": "the history lives at one upstream, which only this class's model continues",
    "person": "a person chose this class's model by name",
}
