"""The policies that need no prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from turnout.records import ModelClass
from turnout.routing.policies.choice import Choice
from turnout.routing.policies.situation import Situation

DEFAULT_CACHE_LIFETIME_S = 300.0


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Scores the first message; the conversation then stays on its class."""

    name: ClassVar[Literal["session"]] = "session"

    def choose(self, situation: Situation) -> Choice:
        """The class of the conversation, or that of its first message's score."""
        session = situation.session
        if session is None:
            return situation.by_score(self.name)
        return situation.locked(self.name) or situation.choice(
            session.model_class,
            self.name,
            "pinned",
            f"the session policy keeps the class chosen at turn {session.chosen_at_turn}",
        )


@dataclass(frozen=True, slots=True)
class ConversationPolicy:
    """Scores every turn and ignores the price of a switch."""

    name: ClassVar[Literal["conversation"]] = "conversation"

    def choose(self, situation: Situation) -> Choice:
        """The class of the turn's score, or the locked one."""
        return situation.locked(self.name) or situation.by_score(self.name)


@dataclass(frozen=True, slots=True)
class BoundaryPolicy:
    """Scores where a switch loses no cache: at the first turn, after a compaction, after a pause.

    Attributes:
        cache_lifetime_s: Idle seconds after which a prompt cache counts as cold, if the session
            does not know its lifetime.
    """

    cache_lifetime_s: float = DEFAULT_CACHE_LIFETIME_S
    name: ClassVar[Literal["boundary"]] = "boundary"

    def choose(self, situation: Situation) -> Choice:
        """The class of the turn's score at a boundary; between them, the class it has."""
        session = situation.session
        locked = situation.locked(self.name)
        if locked or session is None or situation.compacted:
            return locked or situation.by_score(self.name)
        cache = session.caches.get(session.model_class)
        lifetime_s = self.cache_lifetime_s if cache is None else cache.lifetime_s
        # The calls of a tool loop keep a cache warm long after the turn came. If the clock was set
        # back, the idle time is unknown, as after a long pause.
        idle_s = abs(situation.now_s - (session.decided_at_s if cache is None else cache.used_at_s))
        if idle_s >= lifetime_s:
            return situation.by_score(self.name)
        return situation.choice(
            session.model_class,
            self.name,
            "cache_warm",
            f"idle for {idle_s:.0f} s, under the prompt cache's {lifetime_s:.0f} s: "
            "switching now would lose the cache",
        )


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """Sends every turn to one class, without a score.

    Attributes:
        model_class: The class.

    Raises:
        ValueError: If there is no such class.
    """

    model_class: ModelClass = "reasoning"
    name: ClassVar[Literal["fixed"]] = "fixed"

    def __post_init__(self) -> None:
        if self.model_class not in get_args(ModelClass):
            raise ValueError(
                f"found the class {self.model_class!r}; expected one of "
                f"{', '.join(get_args(ModelClass))}"
            )

    def choose(self, situation: Situation) -> Choice:
        """The fixed class, or the locked one."""
        return situation.locked(self.name) or situation.choice(
            self.model_class, self.name, "fixed", "the fixed policy scores nothing"
        )
