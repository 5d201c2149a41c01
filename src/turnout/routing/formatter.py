"""Turns → the text the encoder reads, the same in every stage.

The version is stored in every data set and router folder. Any change to what `format` returns is
a new version.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from turnout.errors import ArtifactError
from turnout.records import Architecture, ModelInput, Turn

FORMATTER_VERSION = 2

# More than an encoder reads; it bounds the work on a pasted log of many megabytes.
MAX_MESSAGE_CHARS = 16_000
MAX_PREVIOUS_CHARS = 600
# What a data set stores of the turns before a sample, whatever its formatter shows.
MAX_STORED_TURNS = 16
MAX_STORED_CHARS = 800
_CUT = " … "
# Between the header and each previous turn.
SEPARATOR = " | "
# Names of turn indices from 1 in the header; later turns share a name.
_TURN_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LATER_TURNS = {10: "over ten", 20: "over twenty", 50: "over fifty"}
# A length in characters is rounded down to one of these. They double, so that few rows are enough
# to learn them, and each is one or two tokens.
_LENGTHS = (0, 30, 60, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
# How assistants begin an answer that does not do what was asked.
_REFUSAL = re.compile(
    r"\b(?:i am|i'm|i’m) (?:sorry|unable)\b|\bi (?:cannot|can't|can’t|apologi[sz]e)\b|\bas an ai\b",
    re.IGNORECASE,
)
_REFUSAL_CHARS = 200


@dataclass(frozen=True, slots=True)
class Formatter:
    """How a turn is formatted for the encoder.

    Attributes:
        architecture: `session` gives the message alone; `conversation` adds a header and the
            previous turns. The header has the turn index and lengths in words that the encoder
            reads as one or two tokens.
        previous_turns: The number of previous turns, newest first.
        assistant_chars: Characters of each previous answer; 0 gives user messages only.
        answers_known: Whether the header describes previous answers: their lengths, and whether the
            last one refused or is missing. False for a log without answers, so that serving, where
            answers are known, gives the same input as training.
    """

    architecture: Architecture
    previous_turns: int = 4
    assistant_chars: int = 0
    answers_known: bool = True

    def equals_but_for_previous_turns(self, other: Formatter) -> bool:
        """Whether rows shown by one can be shown by the other, from the turns stored with them."""
        return replace(self, previous_turns=other.previous_turns) == other

    def format(self, turns: Sequence[Turn], turn_index: int | None = None) -> ModelInput:
        """The encoder's input for the last of `turns`.

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
        previous = list(reversed(turns[:-1]))[:MAX_STORED_TURNS]
        texts = map(self._previous, previous[: self.previous_turns])
        header = self._header(message, index, previous)
        return ModelInput(message, SEPARATOR.join([header, *texts]))

    def _header(self, message: str, index: int, previous: Sequence[Turn]) -> str:
        """Turn index and lengths; `previous` turns are newest first.

        Their lengths are those that a data set stores, so that a stored row gives the same header.
        """
        length = sum(_stored_length(turn.user_message) for turn in previous)
        if self.answers_known:
            length += sum(_stored_length(turn.assistant_message) for turn in previous)
        facts = [f"turn {_turn_name(index)}", f"history {_rounded(length)}"]
        if self.answers_known and previous:
            facts.append(f"answer {_answer(previous[0].assistant_message)}")
        return ", ".join([*facts, f"message {_rounded(len(message))}"])

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
            ArtifactError: If another formatter version wrote it, or a value is invalid; `where`
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
        answers_known: Any = stored.get("answers_known")
        if (
            architecture not in get_args(Architecture)
            or not all(map(_is_count, counts))
            or not isinstance(answers_known, bool)
        ):
            raise ArtifactError(
                f"{where}: formatter is {stored!r}; expected architecture session or conversation, "
                "previous_turns and assistant_chars as whole numbers from 0, and answers_known as "
                "true or false. Build and train again."
            )
        previous_turns, assistant_chars = counts
        return cls(architecture, previous_turns, assistant_chars, answers_known)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _turn_name(index: int) -> str:
    if index <= len(_TURN_NAMES):
        return _TURN_NAMES[index - 1]
    return next(name for least, name in reversed(_LATER_TURNS.items()) if index > least)


def _rounded(chars: int) -> str:
    """The largest of `_LENGTHS` that a length reaches."""
    return str(_LENGTHS[bisect_right(_LENGTHS, chars) - 1])


def _answer(answer: str | None) -> str:
    """The last answer in the header: its length and whether it refuses; `missing` for none."""
    text = shortened(answer or "", MAX_STORED_CHARS)
    if not text:
        return "missing"
    refused = " refused" if _REFUSAL.search(text[:_REFUSAL_CHARS]) else ""
    return _rounded(_stored_length(text)) + refused


def _stored_length(text: str | None) -> int:
    return min(len(shortened(text or "", MAX_STORED_CHARS)), MAX_STORED_CHARS)


def stored_turn(turn: Turn) -> Turn:
    """A previous turn as data sets store it, shortened to `MAX_STORED_CHARS` a text.

    A formatter gives the same input for it as for the whole turn.
    """
    answer = turn.assistant_message
    return Turn(
        shortened(turn.user_message, MAX_STORED_CHARS),
        None if answer is None else shortened(answer, MAX_STORED_CHARS),
    )


def shortened(text: str, max_chars: int) -> str:
    """Strip; if longer than `max_chars`, keep the head (three quarters) and the tail.

    The request is often at the end of a message, after pasted text.
    """
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\0", " ").strip()
    if len(text) <= max_chars:
        return text
    tail = max_chars // 4
    return text[: max_chars - tail] + _CUT + text[-tail:]
