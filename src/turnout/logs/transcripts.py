"""What a request tells of its conversation, as digests: the history it repeats, and its turn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Under this name a reader gives a turn its transcript; it is no column of a log.
TRANSCRIPT = "turnout_transcript"
NOTHING_BEFORE = 0

TRANSCRIPTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # position among the rows of turns
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("failed", pa.bool_(), nullable=False),
        pa.field("id_key", pa.int64(), nullable=False),  # of the named conversation, else the owner
        pa.field("owner", pa.int64(), nullable=False),
        pa.field("named", pa.bool_(), nullable=False),
        pa.field("goes_on", pa.bool_(), nullable=False),
        pa.field("compacted", pa.bool_(), nullable=False),
        pa.field("turns_before", pa.int32(), nullable=False),
        pa.field("opening", pa.int64(), nullable=False),
        pa.field("message", pa.int64(), nullable=False),
        pa.field("before", pa.int64(), nullable=False),
        pa.field("after", pa.int64()),
        pa.field("asked_before", pa.int64(), nullable=False),
        pa.field("asked_after", pa.int64(), nullable=False),
        pa.field("first_turn", pa.int64()),
        pa.field("last_turn", pa.int64()),
        pa.field("last_message", pa.int64()),
        pa.field("own_turn", pa.int64()),
        pa.field("goes_on_from", pa.int64()),
        pa.field("answered_as", pa.int64()),
        pa.field("position", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A request's history and its own turn, as 64-bit digests.

    Attributes:
        owner: Whose request it is, as far as the log says: user and key.
        named: Whether the log names the conversation.
        goes_on: Whether it gives results of tools back, so that it continues its turn.
        compacted: Whether a summary stands in place of the history.
        turns_before: How many turns it repeats.
        opening: Of the first message.
        message: Of the turn's own message.
        before: Of all turns before it, messages and answers; `NOTHING_BEFORE` where there are none.
        after: The same with its own turn; None without an answer.
        asked_before: Of the messages before it alone.
        asked_after: The same with its own message.
        first_turn: Of the first turn before it; None where there is none.
        last_turn: Of the last turn before it; None where there is none.
        last_message: Of that turn's message.
        own_turn: Of its own message and answer; None without an answer.
        goes_on_from: Of the upstream's id of the answer that it goes on from, where the upstream
            keeps the history; None where the request repeats it.
        answered_as: Of the upstream's id of its own answer; None where the log has none.
    """

    owner: int
    named: bool
    goes_on: bool
    compacted: bool
    turns_before: int
    opening: int
    message: int
    before: int
    after: int | None
    asked_before: int
    asked_after: int
    first_turn: int | None
    last_turn: int | None
    last_message: int | None
    own_turn: int | None
    goes_on_from: int | None = None
    answered_as: int | None = None

    def row(self, conversation_id: str) -> dict[str, Any]:
        """The columns of `TRANSCRIPTS` that it tells."""
        key = text_digest("id", conversation_id) if self.named else self.owner
        columns = {name: getattr(self, name) for name in self.__slots__}
        return columns | {"id_key": key}


def transcript_of(
    turns: Sequence[Mapping[str, Any]],
    owner: Sequence[object],
    *,
    named: bool,
    goes_on: bool,
    compacted: bool,
    ids: tuple[str | None, str | None] = (None, None),
) -> Transcript:
    """The transcript of a request.

    Args:
        turns: `user_message` and `assistant_message` of all turns that the request tells, its own
            last.
        owner: Whose it is.
        named: As in `Transcript`.
        goes_on: As in `Transcript`.
        compacted: As in `Transcript`.
        ids: The upstream's id of the answer that it goes on from, and of its own.
    """
    goes_on_from, answered_as = (text_digest(name) if name else None for name in ids)
    messages = [str(turn["user_message"]).strip() for turn in turns]
    answers = [str(turn["assistant_message"] or "").strip() for turn in turns]
    own = len(turns) - 1
    before = asked_before = NOTHING_BEFORE
    for message, answer in zip(messages[:own], answers[:own], strict=True):
        before = text_digest(before, message, answer)
        asked_before = text_digest(asked_before, message)
    answered = bool(answers[own])
    return Transcript(
        owner=text_digest("owner", *(str(part or "") for part in owner)),
        named=named,
        goes_on=goes_on,
        compacted=compacted,
        turns_before=own,
        opening=text_digest(messages[0]),
        message=text_digest(messages[own]),
        before=before,
        after=text_digest(before, messages[own], answers[own]) if answered else None,
        asked_before=asked_before,
        asked_after=text_digest(asked_before, messages[own]),
        first_turn=text_digest(messages[0], answers[0]) if own else None,
        last_turn=text_digest(messages[own - 1], answers[own - 1]) if own else None,
        last_message=text_digest(messages[own - 1]) if own else None,
        own_turn=text_digest(messages[own], answers[own]) if answered else None,
        goes_on_from=goes_on_from,
        answered_as=answered_as,
    )


def text_digest(*parts: object) -> int:
    """64 bits of some texts and numbers, never `NOTHING_BEFORE` by itself."""
    framed = "".join([f"{len(text)}:{text}" for text in map(str, parts)])
    digest = hashlib.blake2b(framed.encode("utf-8", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), signed=True) or 1
