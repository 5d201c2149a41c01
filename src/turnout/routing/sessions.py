"""What the router remembers of each conversation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from turnout.records import ModelClass


@dataclass(frozen=True, slots=True)
class SessionState:
    """The last decision of a conversation.

    Attributes:
        model_class: The class that served the last turn.
        chosen_at_turn: Since which turn (1-based) the conversation is on that class.
        decided_at_s: When the last turn came, in seconds of the caller's clock.
    """

    model_class: ModelClass
    chosen_at_turn: int
    decided_at_s: float


class SessionStore(Protocol):
    """Stores session states."""

    def get(self, conversation_id: str) -> SessionState | None:
        """The state of a conversation, or None."""

    def put(self, conversation_id: str, state: SessionState) -> None:
        """Replace the state of a conversation."""

    def forget(self, conversation_id: str) -> None:
        """Drop the state of a conversation, if there is one."""


class MemorySessions:
    """Session states in this process; the least recently used go first when it is full.

    Args:
        max_sessions: How many conversations are remembered (about 300 bytes each).
    """

    def __init__(self, max_sessions: int = 100_000) -> None:
        self._states: OrderedDict[str, SessionState] = OrderedDict()
        self._max = max_sessions
        self._lock = threading.Lock()

    def get(self, conversation_id: str) -> SessionState | None:
        """The state of a conversation, or None where it was never seen or was dropped."""
        with self._lock:
            state = self._states.get(conversation_id)
            if state is not None:
                self._states.move_to_end(conversation_id)
            return state

    def put(self, conversation_id: str, state: SessionState) -> None:
        """Replace the state of a conversation."""
        with self._lock:
            self._states[conversation_id] = state
            self._states.move_to_end(conversation_id)
            if len(self._states) > self._max:
                self._states.popitem(last=False)

    def forget(self, conversation_id: str) -> None:
        """Drop the state of a conversation, if there is one."""
        with self._lock:
            self._states.pop(conversation_id, None)
