"""Turns → the text the encoder reads, the same in every stage.

The version is stored in every data set and router folder. Any change to what `format` returns is
a new version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from turnout.errors import ArtifactError
from turnout.records import Architecture, ModelInput, Turn

FORMATTER_VERSION = 1

# Far beyond what an encoder reads; bounds the work on a pasted log of many megabytes.
MAX_MESSAGE_CHARS = 16_000
MAX_PREVIOUS_CHARS = 600
# What a data set stores of the conversation before a sample, whatever its formatter shows.
MAX_STORED_TURNS = 16
MAX_STORED_CHARS = 800
_CUT = " … "


@dataclass(frozen=True, slots=True)
class Formatter:
    """How a turn is shown to the encoder.

    Attributes:
        architecture: `session` shows the message alone; `conversation` adds the turn index and
            the previous turns.
        previous_turns: How many previous turns are shown, newest first.
        assistant_chars: Characters shown of each previous answer; 0 shows user messages only.
    """

    architecture: Architecture
    previous_turns: int = 4
    assistant_chars: int = 0

    def format(self, turns: Sequence[Turn], turn_index: int | None = None) -> ModelInput:
        """Show the last of `turns`.

        At turn 1 both architectures give the same input: the message alone.

        Args:
            turns: Oldest first, the current one last; at least one. Previous turns may be
                missing (partial captures).
            turn_index: 1-based position of the current turn; by default the number of turns.

        Returns:
            Segment A and segment B. NUL bytes and lone surrogates become spaces.

        Raises:
            ValueError: If `turns` is empty.
        """
        if not turns:
            raise ValueError("turns must hold at least the current turn")
        index = len(turns) if turn_index is None else turn_index
        message = shortened(turns[-1].user_message, MAX_MESSAGE_CHARS)
        if self.architecture == "session" or index <= 1:
            return ModelInput(message)
        shown = list(reversed(turns[:-1]))[: self.previous_turns]
        return ModelInput(message, " | ".join([f"turn {index}", *map(self._previous, shown)]))

    def _previous(self, turn: Turn) -> str:
        text = shortened(turn.user_message, MAX_PREVIOUS_CHARS)
        if self.assistant_chars and turn.assistant_message:
            text += " > " + shortened(turn.assistant_message, self.assistant_chars)
        return text

    def to_json(self) -> dict[str, Any]:
        """The settings and the version, as they are stored."""
        return {"version": FORMATTER_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], where: str) -> Formatter:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: If another formatter version wrote it, or its form is not ours; `where`
                names the file in the message.
        """
        version = stored.get("version")
        if version != FORMATTER_VERSION:
            raise ArtifactError(
                f"{where}: formatter version {version!r}; expected {FORMATTER_VERSION}. "
                "Use the Turnout version that wrote it, or build and train again."
            )
        architecture: Any = stored.get("architecture")
        counts: list[Any] = [stored.get(name) for name in ("previous_turns", "assistant_chars")]
        if architecture not in get_args(Architecture) or not all(map(_is_count, counts)):
            raise ArtifactError(
                f"{where}: formatter is {stored!r}; expected architecture session or conversation, "
                "and previous_turns and assistant_chars as whole numbers from 0. Build and train "
                "again."
            )
        return cls(architecture, *counts)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def stored_turn(turn: Turn) -> Turn:
    """A previous turn as data sets store it, shortened; every formatter shows the same of it.

    A formatter shows head and tail of what is stored, at most `MAX_STORED_CHARS`.
    """
    answer = turn.assistant_message
    return Turn(
        shortened(turn.user_message, MAX_STORED_CHARS),
        None if answer is None else shortened(answer, MAX_STORED_CHARS),
    )


def shortened(text: str, max_chars: int) -> str:
    """Trim, and keep head (three quarters) and tail of what is longer than `max_chars`.

    The request often stands at the end of a message, after what was pasted.
    """
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\0", " ").strip()
    if len(text) <= max_chars:
        return text
    tail = max_chars // 4
    return text[: max_chars - tail] + _CUT + text[-tail:]
