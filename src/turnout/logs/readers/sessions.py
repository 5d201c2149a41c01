"""Files in which many rows, one an event, make one conversation: what their readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnout.logs.formats import RawRow
from turnout.logs.readers.messages import HARNESS, NoTurn, Turn, Values, row_of
from turnout.protocols import Usage

# Why a row of such a file makes no turn of its own.
READ_WITH_TURN = "an event read with its turn"
NOTE = "a product's own note"
SUB_AGENT = "a sub-agent's message"
BRANCH = "a message edited or taken back"
WITHOUT_TEXT = "a user message without text (an image, a file, …)"
_TOKENS = (
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens",
)  # fmt: skip


class KnownSessions:
    """The sessions of all files, so that one which was continued in another file is known again."""

    def __init__(self) -> None:
        self._of_first: dict[str, list[tuple[list[int], object]]] = {}

    def name(self, turns: Sequence[str], own_name: object) -> object:
        """The name of the session that has these turns, or goes on from all of another's.

        Args:
            turns: The ids of its turns, in order; products copy them into the new file.
            own_name: What its file calls it.
        """
        digests = list(map(hash, turns))
        known = self._of_first.setdefault(turns[0], [])
        for place, (others, name) in enumerate(known):
            shorter = min(len(others), len(digests))
            if others[:shorter] == digests[:shorter]:
                known[place] = (max(others, digests, key=len), name)
                return name
        known.append((digests, own_name))
        return own_name


class Session(Protocol):
    """The events of one file, as they come."""

    def add(self, raw: RawRow) -> str | None:
        """Take an event.

        Returns:
            The reason why it makes no turn; None where `turns` gives its turn.
        """

    def turns(self) -> Iterator[tuple[str, Turn | NoTurn]]:
        """Where each turn began, and the turn, when all events are there."""


@dataclass(frozen=True, slots=True)
class SessionReader:
    """How the events of one source become turns.

    Attributes:
        source: Its name, as the documentation has it.
        may_read: Whether a row's values are an event of this source.
        begin: Makes the reader of one file; takes the file's name and what is known of others.
    """

    source: str
    may_read: Callable[[Values], bool]
    begin: Callable[[str, KnownSessions], Session]


@dataclass(slots=True)
class SessionTurn:
    """A turn as its events add up.

    Attributes:
        where: File and line of the user's message.
        text: The person's words.
        timestamp: When they came, in the log's spelling.
        harness: Whether harness text was set apart from them.
        model: What answered last.
        answer: The last words of the answer.
        response_type: How it ended; None where nothing tells.
        tools: Calls by name.
        usage: Model call → what it cost; a call that is logged again counts once.
        regenerated_from: The model that answered the same message before the person took it back.
    """

    where: str
    text: str
    timestamp: object
    harness: bool = False
    model: object = None
    answer: str | None = None
    response_type: str | None = None
    tools: Counter[str] = field(default_factory=Counter)
    usage: dict[str, Usage] = field(default_factory=dict)
    regenerated_from: object = None

    def note_taken_back(self, before: SessionTurn) -> None:
        """Note that this turn stands in place of one that the person took back."""
        if before.text.strip() == self.text.strip() and before.response_type == "success":
            self.regenerated_from = before.model or self.regenerated_from

    def row(self, conversation_id: object, turn_index: int, source: str) -> Turn:
        """The turn's fields, tokens added up over its model calls."""
        row: dict[str, Any] = {
            "conversation_id": conversation_id,
            "turn_index": turn_index,
            "user_message": self.text,
            "assistant_message": self.answer,
            "model": self.model,
            "timestamp": self.timestamp,
            "response_type": self.response_type,
            "tool_counts": dict(self.tools) or None,
            "llm_calls": len(self.usage) or None,
            "source": source,
            "regenerated_from": self.regenerated_from,
        }
        if self.regenerated_from == self.model:
            row["regenerated_from"] = None
        for name in _TOKENS:
            known = [n for used in self.usage.values() if (n := getattr(used, name)) is not None]
            row[name] = sum(known) if known else None
        return row | ({HARNESS: True} if self.harness else {})


def session_rows(session: Session) -> Iterator[RawRow]:
    """The rows of a file's turns, when all its events were added."""
    for where, turn in session.turns():
        if isinstance(turn, NoTurn):
            yield RawRow(where, {}, dropped_as=turn.reason)
        else:
            yield row_of(turn, where, ())
