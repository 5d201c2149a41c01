"""Decides: turns → a class, with the reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecordError, SettingsError
from turnout.protocols import turns_of
from turnout.protocols.kinds import RequestKind
from turnout.records import ID2LABEL, Decision, ModelClass, ModelInput, Population, Turn
from turnout.routing.batches import turns_of_rows
from turnout.routing.folder import RouterFolder
from turnout.routing.policies import (
    BoundaryPolicy,
    Choice,
    Lock,
    Policy,
    Situation,
    Target,
    policy_of,
)
from turnout.routing.policies.unpriced import DEFAULT_CACHE_LIFETIME_S
from turnout.routing.scorer import OnnxScorer, probabilities
from turnout.routing.sessions import MemorySessions, Session, SessionStore

_LABELS = {name: label for label, name in ID2LABEL.items()}


class Router:
    """Decides which class messages go to.

    Safe to share between threads. The same messages give the same score. The decision also depends
    on earlier decisions of the conversation, if `conversation_id` is given.

    Args:
        folder: A verified router folder.
        policy: By default that of the folder's architecture.
        sessions: The store of earlier decisions; by default this process's memory.
        scorer: By default the folder's int8 graph.
        threshold: The least p_reasoning that sends a message to the reasoning class, for
            `population`; by default the folder's, which gives the same decisions for either
            population.
        population: The population of the scores; by default `log` if the router knows its share
            of reasoning, else `balanced`.
        targets: Each class's target and prices, for policies that use prices.
        policy_named: The policy of a name, where a request may ask for another; by default
            `policy_of`.

    Raises:
        SettingsError: If the share of reasoning in that population is not known.
    """

    def __init__(
        self,
        folder: RouterFolder,
        policy: Policy | None = None,
        sessions: SessionStore | None = None,
        scorer: OnnxScorer | None = None,
        threshold: float | None = None,
        population: Population | None = None,
        targets: Mapping[ModelClass, Target] | None = None,
        policy_named: Callable[[str], Policy] = policy_of,
    ) -> None:
        spec = folder.spec
        self.folder = folder
        self.population: Population = population or spec.priors.default
        self._shift = spec.priors.shift(self.population)
        if threshold is None:
            self._chosen_threshold = spec.threshold
            self._chosen_shift = spec.priors.shift(spec.threshold_population)
            self.threshold = spec.threshold_for(self.population)
        else:
            self._chosen_threshold, self._chosen_shift = threshold, self._shift
            self.threshold = threshold
        self.policy = policy or policy_of(spec.formatter.architecture)
        self.targets = dict(targets or {})
        self.policy_named = policy_named
        self._sessions = sessions if sessions is not None else MemorySessions()
        self._scorer = scorer or folder.scorer()

    @classmethod
    def from_folder(cls, folder: str | Path, population: Population | None = None) -> Router:
        """Open a router folder with its defaults.

        Raises:
            ArtifactError: If the folder is absent, altered, or newer than this version.
            SettingsError: If the share of reasoning in that population is not known.
        """
        return cls(RouterFolder.read(folder), population=population)

    def __repr__(self) -> str:
        return (
            f"Router({self.folder.spec.formatter.architecture}, threshold {self.threshold:.3f} "
            f"for the population {self.population})"
        )

    def __reduce__(self) -> NoReturn:
        raise SettingsError(
            "a router cannot be copied or pickled; expected its folder in each process. Save it, "
            "and open it there with turnout.load."
        )

    def input_of(self, turns: Sequence[Turn]) -> ModelInput:
        """The encoder's input for the last of `turns`; for a session router, the first."""
        formatter = self.folder.spec.formatter
        return formatter.format(turns[:1] if self._scores_first_turn else turns)

    def predict_proba(self, rows: object) -> NDArray[np.float32]:
        """Score many messages, each independently.

        Args:
            rows: Texts, or lists of chat messages (`role`, `content`) or their JSON text, one a
                row: a list, a NumPy array, a pandas or polars Series or an Arrow array.

        Returns:
            Probabilities of reasoning and of fast, shape `(n, 2)`, for this router's population.

        Raises:
            RecordError: If a row cannot be read.
        """
        return self.probabilities_of([self.input_of(turns) for turns in turns_of_rows(rows)])

    def probabilities_of(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """As `predict_proba`, for formatted inputs."""
        scorer = self.folder.scorer(population=self.population)
        needs = scorer.score(inputs)
        return np.stack([needs, 1 - needs], axis=1)

    def decide(
        self,
        messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn],
        *,
        conversation_id: str | None = None,
        now_s: float | None = None,
        remember: bool = True,
        kind: RequestKind = "turn",
        locks: tuple[Lock, ...] = (),
        compacted: bool = False,
        prompt_tokens: int = 0,
    ) -> Decision:
        """Choose the class for the last user message.

        A score equal to the threshold goes to reasoning: doubt costs money, never quality.

        Args:
            messages: One message as text, chat messages (`role`, `content`), or turns.
            conversation_id: The conversation, so that a session stays on its class and switches
                are recognised.
            now_s: Wall-clock time in seconds; by default `time.time()`.
            remember: Whether to store this decision for the conversation's next turn.
            kind: What the request is; once a conversation has a class, only a `turn` is scored.
            locks: Reasons to stay on the conversation's class.
            compacted: Whether the history was compacted since the turn before.
            prompt_tokens: Length of the prompt to be sent; 0 where it is not known.

        Raises:
            RecordError: If there is no user message, or a message is malformed.
        """
        turns = _turns(messages)
        now_s = time.time() if now_s is None else now_s
        scored = self.scored(turns)
        while True:
            session = self._sessions.get(conversation_id) if conversation_id else None
            decision = self.choose(
                scored,
                session,
                now_s=now_s,
                kind=kind,
                locks=locks,
                compacted=compacted,
                prompt_tokens=prompt_tokens,
                conversation_id=conversation_id,
            )
            if not conversation_id or not remember:
                return decision
            # If another request of the conversation was faster, decide again after its decision.
            after = session_after(decision, session, conversation_id, now_s)
            if self._sessions.replace(session, after):
                return decision

    def scored(self, turns: Sequence[Turn], threshold: float | None = None) -> Scored:
        """The score of the last of `turns`, computed when it is first needed.

        Args:
            turns: Oldest first, at least one.
            threshold: For this request alone, for the population shown; by default the router's.
        """
        return Scored(self, turns, threshold)

    def choose(
        self,
        scored: Scored,
        session: Session | None,
        *,
        now_s: float,
        turn_index: int | None = None,
        kind: RequestKind = "turn",
        locks: tuple[Lock, ...] = (),
        compacted: bool = False,
        prompt_tokens: int = 0,
        conversation_id: str | None = None,
        policy: Policy | None = None,
    ) -> Decision:
        """Choose the class for a turn of a session that the caller stores.

        Args:
            scored: See `scored`.
            session: What is known of the conversation; None at its first turn.
            now_s: As in `decide`.
            turn_index: 1-based; by default the number of turns.
            kind: As in `decide`.
            locks: As in `decide`.
            compacted: As in `decide`.
            prompt_tokens: As in `decide`.
            conversation_id: Copied to the decision.
            policy: For this request alone; by default the router's.
        """
        situation = Situation(
            turn_index=turn_index or max(1, len(scored.turns)),
            score=scored.p_reasoning,
            threshold=scored.threshold,
            population=self.population,
            session=session,
            now_s=now_s,
            kind=kind,
            locks=locks,
            compacted=compacted,
            prompt_tokens=prompt_tokens,
            targets=self.targets,
            what=self._what(scored.turns),
        )
        choice = (policy or self.policy).choose(situation)
        return _decision(choice, situation, scored.truncated_tokens, conversation_id)

    def forget(self, conversation_id: str) -> None:
        """Decide the next turn of a conversation as if it were its first."""
        self._sessions.forget(conversation_id)

    def cache_lifetime_s(self, model_class: ModelClass | None) -> float:
        """Idle seconds for which a class's model keeps a prompt in its cache."""
        target = self.targets.get(model_class) if model_class else None
        if target is not None:
            return target.cache_lifetime_s
        if isinstance(self.policy, BoundaryPolicy):
            return self.policy.cache_lifetime_s
        return DEFAULT_CACHE_LIFETIME_S

    @property
    def _scores_first_turn(self) -> bool:
        return "session" in (self.folder.spec.formatter.architecture, self.policy.name)

    def _what(self, turns: Sequence[Turn]) -> str:
        """What is scored, for the reason of a decision."""
        if self._scores_first_turn:
            return "the conversation's first message"
        if len(turns) == 1:
            return "the message"
        previous = min(len(turns) - 1, self.folder.spec.formatter.previous_turns)
        return f"turn {len(turns)}, read with {previous} previous"


class Scored:
    """The score of a turn, computed when a policy asks for it."""

    def __init__(self, router: Router, turns: Sequence[Turn], threshold: float | None) -> None:
        self._router = router
        self._is_own_threshold = threshold is None
        self._score: float | None = None
        self.turns = tuple(turns)
        self.threshold = router.threshold if threshold is None else threshold
        self.truncated_tokens = 0

    def p_reasoning(self) -> float:
        """The score; computed once."""
        if self._score is None:
            self._score = self._compute()
        return self._score

    def _compute(self) -> float:
        """The score for the router's population.

        It is compared with the threshold in the population that the threshold was chosen for, so
        that the router's population changes no decision. If rounding would move the score to the
        other side of the threshold, it is corrected.
        """
        router = self._router
        tokens = router._scorer.encode(router.input_of(self.turns))
        self.truncated_tokens = tokens.truncated_tokens
        log_odds = router._scorer.log_odds(tokens)
        score = float(probabilities(log_odds + router._shift))
        if not self._is_own_threshold:
            return score
        chosen_score = float(probabilities(log_odds + router._chosen_shift))
        if chosen_score >= router._chosen_threshold:
            return max(score, router.threshold)
        return min(score, math.nextafter(router.threshold, 0.0))


def _decision(
    choice: Choice, situation: Situation, truncated_tokens: int, conversation_id: str | None
) -> Decision:
    session = situation.session
    return Decision(
        model_class=choice.model_class,
        label=_LABELS[choice.model_class],
        p_reasoning=choice.score,
        threshold=choice.threshold,
        population=choice.population,
        policy=choice.policy,
        reason=choice.reason,
        turn_index=situation.turn_index,
        conversation_id=conversation_id,
        previous_class=session.model_class if session else None,
        truncated_tokens=truncated_tokens,
        code=choice.code,
        lock=choice.lock,
        stay_usd=choice.stay_usd,
        switch_usd=choice.switch_usd,
        switching_usd=choice.switching_usd,
        session_class=choice.session_class,
        conversation_class=choice.conversation_class,
    )


def session_after(
    decision: Decision, session: Session | None, conversation_id: str, now_s: float
) -> Session:
    """The session after a decision; caches and costs are added when the request is served."""
    model_class, turn_index = decision.model_class, decision.turn_index
    if session is None:
        return Session.begun(conversation_id, model_class, turn_index, now_s)
    return session.with_choice(model_class, turn_index, now_s)


def _turns(messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn]) -> tuple[Turn, ...]:
    if isinstance(messages, str):
        return turns_of([{"role": "user", "content": messages}])
    many = isinstance(messages, Sequence) and any(isinstance(each, str) for each in messages)
    if many or not isinstance(messages, Sequence):
        raise RecordError(
            f"found {'a list of texts' if many else type(messages).__name__}; expected one message "
            "as text, or chat messages (role, content). To score many at once, use predict_proba."
        )
    is_turn = [isinstance(message, Turn) for message in messages]
    if not any(is_turn):
        return turns_of(cast("Sequence[Mapping[str, Any]]", messages))
    if not all(is_turn):
        position = is_turn.index(False)
        raise RecordError(
            f"messages[{position}]: found {type(messages[position]).__name__} beside turns; "
            "expected turns only, or chat messages (role, content) only."
        )
    return tuple(cast("Sequence[Turn]", messages))
