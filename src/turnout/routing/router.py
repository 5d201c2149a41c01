"""The decision itself: turns in, class out, with its reason."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from turnout.errors import RecordError
from turnout.protocols import turns_of
from turnout.records import (
    ID2LABEL,
    LABEL_FAST,
    LABEL_REASONING,
    Decision,
    ModelInput,
    Population,
    Turn,
)
from turnout.routing.folder import RouterFolder
from turnout.routing.policy import Policy
from turnout.routing.scorer import OnnxScorer, probabilities
from turnout.routing.sessions import MemorySessions, Session, SessionStore

_LABELS = {name: label for label, name in ID2LABEL.items()}


class Router:
    """Decides where messages go.

    Safe to share between threads. The same messages give the same score; what the policy makes
    of them depends on the conversation's earlier decisions, where `conversation_id` names it.

    Args:
        folder: A verified router folder.
        policy: By default the folder's architecture.
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
            self.threshold = spec.priors.converted(
                spec.threshold, spec.threshold_population, self.population
            )
        else:
            self._cut, self._cut_shift = threshold, self._shift
            self.threshold = threshold
        self.policy = policy or Policy(folder.spec.formatter.architecture)
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

    def decide(
        self,
        messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn],
        *,
        conversation_id: str | None = None,
        now_s: float | None = None,
        remember: bool = True,
    ) -> Decision:
        """Choose the class for the last user message.

        A score equal to the threshold goes to reasoning: doubt costs money, never quality.

        Args:
            messages: One message as text, chat messages (`role`, `content`), or turns.
            conversation_id: Names the conversation, so that a session stays on its class and
                switches are recognised.
            now_s: Unix seconds; by default now.
            remember: Whether the conversation's next turn may know of this decision.

        Raises:
            RecordError: If there is no user message, or a message is malformed.
        """
        turns = _turns(messages)
        now_s = time.time() if now_s is None else now_s
        while True:
            session = self._sessions.get(conversation_id) if conversation_id else None
            decision = self._decide(turns, session, conversation_id, now_s)
            if not conversation_id or not remember:
                return decision
            # Where another request of the conversation came first, its decision counts.
            if self._sessions.replace(session, _after(decision, session, conversation_id, now_s)):
                return decision

    def forget(self, conversation_id: str) -> None:
        """Decide the next turn of a conversation as if it were its first."""
        self._sessions.forget(conversation_id)

    @property
    def _scores_first_turn(self) -> bool:
        return "session" in (self.folder.spec.formatter.architecture, self.policy.name)

    def _decide(
        self,
        turns: Sequence[Turn],
        state: Session | None,
        conversation_id: str | None,
        now_s: float,
    ) -> Decision:
        score: float | None = None
        truncated = 0
        stay = self.policy.stay(state, now_s)
        if self.policy.name == "fixed":
            label, reason = _LABELS[self.policy.fixed_class], "the fixed policy scores nothing"
        elif stay is not None and state is not None:
            label, reason = _LABELS[state.model_class], stay
        else:
            tokens = self._scorer.encode(self.input_of(turns))
            log_odds, truncated = self._scorer.log_odds(tokens), tokens.truncated_tokens
            # Compared as the threshold was chosen, so that the population shown decides nothing.
            needs_reasoning = float(probabilities(log_odds + self._cut_shift)) >= self._cut
            label = LABEL_REASONING if needs_reasoning else LABEL_FAST
            score = float(probabilities(log_odds + self._shift))
            reason = self._reason(score, "≥" if needs_reasoning else "<", turns)
        return Decision(
            model_class=ID2LABEL[label],
            label=label,
            p_reasoning=score,
            threshold=self.threshold,
            population=self.population,
            policy=self.policy.name,
            reason=reason,
            turn_index=len(turns),
            conversation_id=conversation_id,
            previous_class=state.model_class if state else None,
            truncated_tokens=truncated,
        )

    def _reason(self, score: float, sign: str, turns: Sequence[Turn]) -> str:
        what = "the message"
        if self._scores_first_turn:
            what = "the conversation's first message"
        elif len(turns) > 1:
            shown = min(len(turns) - 1, self.folder.spec.formatter.previous_turns)
            what = f"turn {len(turns)}, read with {shown} previous"
        return (
            f"p_reasoning of {what} is {score:.3f} {sign} threshold {self.threshold:.3f} "
            f"(population: {self.population})"
        )


def _after(
    decision: Decision, session: Session | None, conversation_id: str, now_s: float
) -> Session:
    """The session once a decision was made."""
    stays = session is not None and session.model_class == decision.model_class
    return Session(
        decision.model_class,
        session.chosen_at_turn if session is not None and stays else decision.turn_index,
        now_s,
        conversation_id=conversation_id,
        turn_index=decision.turn_index,
        version=session.version + 1 if session else 0,
    )


def _turns(messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn]) -> tuple[Turn, ...]:
    if isinstance(messages, str):
        return turns_of([{"role": "user", "content": messages}])
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
