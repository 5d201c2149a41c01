"""What is remembered of each conversation, and the store in this process's memory."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from turnout.records import ModelClass

LIFETIME_S = 7 * 86_400.0
MAX_SESSIONS = 100_000


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """What an upstream's prompt cache holds of a conversation.

    Attributes:
        tokens: Tokens from the start of the prompt.
        used_at_s: When they were last written or read, in Unix seconds.
        lifetime_s: How long they then stay.
    """

    tokens: int
    used_at_s: float
    lifetime_s: float = 300.0

    def warm_tokens(self, now_s: float) -> int:
        """Tokens that are still held; none where the clock was set by more than their lifetime."""
        return self.tokens if abs(now_s - self.used_at_s) < self.lifetime_s else 0


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of a conversation's turns so far.

    Attributes:
        model_class: The class that served the last turn.
        chosen_at_turn: Since which turn (1-based) the conversation is on that class.
        decided_at_s: When the last turn came, in Unix seconds.
        first_class: The class that served the first turn; None where that is not known.
        caches: Class → what its model's prompt cache holds; a class that never served has none.
        spent_usd: What the conversation has cost, in USD.
        switching_usd: Of it, what switches cost by caches that were written anew.
        conversation_id: The conversation, within its caller.
        turn_index: Turns so far; 1-based position of the last one.
        chosen_by: Whether the class was chosen by the router or asked for by a person.
        target: Name of the target that serves the conversation; None where it is not known.
        turn_key: Digest of the last turn's request, so that a repeated one is recognised.
        answered: Whether the last turn was answered.
        exchanges: Eight hex digits of each of the last exchanges, joined, oldest first.
        window: The client's own count of context windows; None where it counts none.
        version: Counts replacements.
    """

    model_class: ModelClass
    chosen_at_turn: int
    decided_at_s: float
    first_class: ModelClass | None = None
    caches: Mapping[ModelClass, CachedPrompt] = field(default_factory=dict)
    spent_usd: float = 0.0
    switching_usd: float = 0.0
    conversation_id: str = ""
    turn_index: int = 1
    chosen_by: Literal["router", "person"] = "router"
    target: str | None = None
    turn_key: str = ""
    answered: bool = False
    exchanges: str = ""
    window: int | None = None
    version: int = 0

    @classmethod
    def begun(
        cls, conversation_id: str, model_class: ModelClass, turn_index: int, now_s: float
    ) -> Session:
        """The session of a conversation that was not known, once a class was chosen."""
        return cls(
            model_class,
            turn_index,
            now_s,
            first_class=model_class if turn_index == 1 else None,
            conversation_id=conversation_id,
            turn_index=turn_index,
        )

    def with_choice(self, model_class: ModelClass, turn_index: int, now_s: float) -> Session:
        """The session once a class was chosen for a turn."""
        stays = self.model_class == model_class
        return replace(
            self,
            model_class=model_class,
            chosen_at_turn=self.chosen_at_turn if stays else turn_index,
            decided_at_s=now_s,
            turn_index=turn_index,
            version=self.version + 1,
        )

    def with_served(
        self,
        model_class: ModelClass,
        cache: CachedPrompt | None,
        *,
        cost_usd: float = 0.0,
        switching_usd: float = 0.0,
    ) -> Session:
        """The session once a model has answered.

        Args:
            model_class: The class of the model that answered.
            cache: What that model's prompt cache now holds: prompt and answer; None where that is
                not known.
            cost_usd: What the turn cost; 0 where that is not known.
            switching_usd: Of it, what the choice said that the switch costs; 0 without a switch.
        """
        return replace(
            self,
            caches=self.caches if cache is None else {**self.caches, model_class: cache},
            spent_usd=self.spent_usd + cost_usd,
            switching_usd=self.switching_usd + switching_usd,
        )

    def to_json(self) -> str:
        """The session as one JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Session:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            stored: dict[str, Any] = json.loads(text)
            caches = {name: CachedPrompt(**cache) for name, cache in stored["caches"].items()}
            return cls(**stored | {"caches": caches})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a session: {error!r}") from error


@dataclass(frozen=True, slots=True)
class TranscriptEnd:
    """Where a known transcript belongs.

    Attributes:
        conversation_id: Its conversation.
        turn_index: The turn that its last answer belongs to.
        continued: Whether another request has already gone on from it: then this is a branch.
    """

    conversation_id: str
    turn_index: int
    continued: bool = False


class SessionStore(Protocol):
    """Stores sessions, and which conversation a transcript belongs to.

    Attributes:
        blocking: Whether a call may wait, for a network or a disk.
    """

    blocking: bool

    def get(self, conversation_id: str) -> Session | None:
        """The session of a conversation; None where it was never seen or was dropped."""

    def replace(self, expected: Session | None, session: Session) -> bool:
        """Store a session if what is stored is still `expected` (None: nothing)."""

    def forget(self, conversation_id: str) -> None:
        """Drop the session of a conversation, if there is one."""

    def link(self, key: str, conversation_id: str, turn_index: int) -> None:
        """Note that the transcript with this digest ends in a turn of a conversation.

        Several conversations may have the same transcript. One that was continued counts as not
        continued again.
        """

    def claim(self, key: str) -> TranscriptEnd | None:
        """Where a transcript belongs.

        Each conversation is given out once before any is given out again.
        """

    def ends(self, key: str) -> list[TranscriptEnd]:
        """Every conversation with this transcript, none claimed."""


class MemorySessions:
    """Sessions in this process; the least recently used go first when it is full.

    Args:
        max_sessions: How many conversations are remembered (about 2 kB each), and four times as
            many transcripts.
        lifetime_s: Seconds without a request after which a conversation is forgotten.
        clock: Seconds that never run backwards.
    """

    blocking = False

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        lifetime_s: float = LIFETIME_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._links: OrderedDict[str, tuple[tuple[TranscriptEnd, ...], float]] = OrderedDict()
        self._max_sessions = max_sessions
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, conversation_id: str) -> Session | None:
        """The session of a conversation; None where it was never seen or was dropped."""
        with self._lock:
            return self._current(conversation_id)

    def replace(self, expected: Session | None, session: Session) -> bool:
        """Store a session if what is stored is still `expected` (None: nothing)."""
        with self._lock:
            if self._current(session.conversation_id) != expected:
                return False
            self._sessions[session.conversation_id] = session, self._clock()
            self._sessions.move_to_end(session.conversation_id)
            self._drop_oldest(self._sessions, self._max_sessions)
            return True

    def forget(self, conversation_id: str) -> None:
        """Drop the session of a conversation, if there is one."""
        with self._lock:
            self._sessions.pop(conversation_id, None)

    def link(self, key: str, conversation_id: str, turn_index: int) -> None:
        """Note that the transcript with this digest ends in a turn of a conversation."""
        end = TranscriptEnd(conversation_id, turn_index)
        with self._lock:
            others = [
                each
                for each in self._ends_of(key)
                if (each.conversation_id, each.turn_index) != (conversation_id, turn_index)
            ]
            self._links[key] = (end, *others[: MAX_ENDS - 1]), self._clock()
            self._links.move_to_end(key)
            self._drop_oldest(self._links, 4 * self._max_sessions)

    def claim(self, key: str) -> TranscriptEnd | None:
        """Where a transcript belongs; each conversation once before any is given out again."""
        with self._lock:
            ends = self._ends_of(key)
            if not ends:
                return None
            # Those not yet continued stand first.
            first, *rest = ends
            taken = replace(first, continued=True)
            self._links[key] = (*rest, taken), self._links[key][1]
            return first

    def ends(self, key: str) -> list[TranscriptEnd]:
        """Every conversation with this transcript, none claimed."""
        with self._lock:
            return list(self._ends_of(key))

    def _ends_of(self, key: str) -> tuple[TranscriptEnd, ...]:
        ends, linked_at = self._links.get(key, ((), 0.0))
        return ends if self._clock() - linked_at <= self._lifetime_s else ()

    def _current(self, conversation_id: str) -> Session | None:
        session, stored_at = self._sessions.get(conversation_id, (None, 0.0))
        if session is None:
            return None
        if self._clock() - stored_at > self._lifetime_s:
            del self._sessions[conversation_id]
            return None
        self._sessions.move_to_end(conversation_id)
        return session

    def _drop_oldest(self, entries: OrderedDict[Any, Any], most: int) -> None:
        while len(entries) > most:
            entries.popitem(last=False)


# Of twins beyond these nobody could tell which is meant.
MAX_ENDS = 64
