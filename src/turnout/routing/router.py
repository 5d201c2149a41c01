"""The decision itself: turns in, class out, with its reason."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecordError
from turnout.protocols import turns_of
from turnout.protocols.kinds import RequestKind
from turnout.records import ID2LABEL, Decision, ModelClass, ModelInput, Population, Turn
from turnout.routing.batches import turns_of_rows
from turnout.routing.folder import RouterFolder
from turnout.routing.policies import Choice, Lock, Policy, Situation, Target, policy_of
from turnout.routing.scorer import OnnxScorer, probabilities
from turnout.routing.sessions import MemorySessions, Session, SessionStore

_LABELS = {name: label for label, name in ID2LABEL.items()}


class Router:
    """Decides where messages go.

    Safe to share between threads. The same messages give the same score; what the policy makes
    of them depends on the conversation's earlier decisions, where `conversation_id` names it.

    Args:
        folder: A verified router folder.
        policy: By default that of the folder's architecture.
        targets: Where each class goes, with its prices, for policies that weigh them.
        sessions: Where decisions are remembered; by default this process's memory.
        scorer: By default the folder's int8 graph.
        threshold: The least p_reasoning that sends a message to the reasoning class, for
            `population`; by default the folder's, which sends the same messages there whichever
            population is shown.
        population: Whose probabilities decisions show; by default the log's where the router knows
            its share of reasoning, else those of balanced rows.

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
    ) -> None:
        spec = folder.spec
        self.folder = folder
        self.population: Population = population or spec.priors.default
        self._shift = spec.priors.shift(self.population)
        if threshold is None:
            self._cut, self._cut_shift = (
                spec.threshold,
                spec.priors.shift(spec.threshold_population),
            )
            self.threshold = spec.threshold_for(self.population)
        else:
            self._cut, self._cut_shift = threshold, self._shift
            self.threshold = threshold
        self.policy = policy or policy_of(spec.formatter.architecture)
        self.targets = dict(targets or {})
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

    def input_of(self, turns: Sequence[Turn]) -> ModelInput:
        """What the encoder would read for the last of `turns` (the first, for a session router)."""
        formatter = self.folder.spec.formatter
        return formatter.format(turns[:1] if self._scores_first_turn else turns)

    def predict_proba(self, rows: object) -> NDArray[np.float32]:
        """Score many messages at once, each by itself.

        Args:
            rows: Texts, or lists of chat messages (`role`, `content`), one a row: a list, a NumPy
                array, a pandas or polars Series or an Arrow array.

        Returns:
            Probabilities of reasoning and of fast, shape `(n, 2)`, for this router's population.

        Raises:
            RecordError: If a row cannot be read.
        """
        return self.probabilities_of([self.input_of(turns) for turns in turns_of_rows(rows)])

    def probabilities_of(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """As `predict_proba`, of what the encoder reads."""
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
            conversation_id: Names the conversation, so that a session stays on its class and
                switches are recognised.
            now_s: Wall-clock time in seconds; by default `time.time()`.
            remember: Whether the next turn of the conversation sees this decision.
            kind: What the request is; only a `turn` is scored where the conversation has a class.
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
            # Where another request of the conversation came first, its decision counts.
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
        """Choose the class for a turn whose session the caller keeps; nothing is remembered.

        Args:
            scored: See `scored`.
            session: What is known of the conversation; None at its first turn.
            now_s: As in `decide`.
            turn_index: 1-based; by default the number of turns that are shown.
            kind: As in `decide`.
            locks: As in `decide`.
            compacted: As in `decide`.
            prompt_tokens: As in `decide`.
            conversation_id: Noted in the decision.
            policy: For this request alone; by default the router's.
        """
        situation = Situation(
            turn_index=turn_index or len(scored.turns),
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

    @property
    def _scores_first_turn(self) -> bool:
        return "session" in (self.folder.spec.formatter.architecture, self.policy.name)

    def _what(self, turns: Sequence[Turn]) -> str:
        """What is scored, for a reason."""
        if self._scores_first_turn:
            return "the conversation's first message"
        if len(turns) == 1:
            return "the message"
        shown = min(len(turns) - 1, self.folder.spec.formatter.previous_turns)
        return f"turn {len(turns)}, read with {shown} previous"


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
        """The score; computed once, however often the decision is tried."""
        if self._score is None:
            self._score = self._computed()
        return self._score

    def _computed(self) -> float:
        """The score in the population that the router shows.

        It is compared as the threshold was chosen, so that the population shown decides nothing:
        where rounding would put it on the threshold's other side, it is shown on the right one.
        """
        router = self._router
        tokens = router._scorer.encode(router.input_of(self.turns))
        self.truncated_tokens = tokens.truncated_tokens
        log_odds = router._scorer.log_odds(tokens)
        shown = float(probabilities(log_odds + router._shift))
        if not self._is_own_threshold:
            return shown
        if float(probabilities(log_odds + router._cut_shift)) >= router._cut:
            return max(shown, router.threshold)
        return min(shown, math.nextafter(router.threshold, 0.0))


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
    """The session once a decision was made; caches and costs are known when it is served."""
    chosen, turn_index = decision.model_class, decision.turn_index
    if session is None:
        return Session.begun(conversation_id, chosen, turn_index, now_s)
    return session.with_choice(chosen, turn_index, now_s)


def _turns(messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn]) -> tuple[Turn, ...]:
    if isinstance(messages, str):
        return turns_of([{"role": "user", "content": messages}])
    many = isinstance(messages, Sequence) and any(isinstance(each, str) for each in messages)
    if many or not isinstance(messages, Sequence):
        raise RecordError(
            f"found {'a list of texts' if many else type(messages).__name__}; expected one message "
            "as text, or chat messages (role, content). For many at once take predict_proba."
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
