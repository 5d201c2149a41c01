"""Turns → candidate rows: labelled, and formatted as the encoder reads them."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from turnout.dataset.cells import STRATA, Cell, position_of
from turnout.dataset.drawing import MIN_WEIGHT, UNKNOWN, UNNAMED, DrawnTurn
from turnout.records import LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS, stored_turn
from turnout.routing.normalization import normalized
from turnout.schema import PREVIOUS_TURN

MODEL_CHOICE = "model_choice"
OTHER_TEXT = "another text of the same turn"
# A previous turn as a tuple in the order of `schema.PREVIOUS_TURN`: faster than a dict.
_PREVIOUS = attrgetter(*(field.name for field in PREVIOUS_TURN))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of `schema.SAMPLES` that may become part of the data set.

    Attributes:
        values: The sample's columns.
        order_key: Hex digest of seed and row, which gives a repeatable random order.
        message: The normal form of the message; see `routing.normalization`.
        group: Its conversation.
        cell: What it is balanced over. First turns and measured rows have no bucket and no
            position.
        both_labels: Whether it replaces duplicates with both labels.
    """

    values: dict[str, Any]
    order_key: str
    message: str
    group: str
    cell: Cell
    both_labels: bool = False


def from_turns(
    drawn: Iterable[DrawnTurn], formatter: Formatter, dropped: Counter[str]
) -> list[Candidate]:
    """A candidate for every drawn turn with a label, in the order of their keys.

    Cancelled and failed turns are included, as the user's need was real. The context is made of the
    captured turns before, as a server would have seen them.

    Args:
        drawn: What `drawing.Log.draw` yields.
        formatter: How a turn is formatted.
        dropped: Reason → rows, added to.
    """
    candidates: list[Candidate] = []
    for _, conversation in groupby(drawn, key=attrgetter("conversation_id")):
        # Newest last; bounded, as a conversation may have 100,000 turns.
        before: deque[Turn] = deque(maxlen=MAX_STORED_TURNS)
        for _, copies in groupby(conversation, key=attrgetter("turn_index")):
            turn = _longest(copies, dropped)
            if turn.order_key is not None:
                candidates += _of_turn(turn, turn.order_key, before, formatter, dropped)
            before.append(stored_turn(Turn(turn.message or "", turn.answer)))
    return sorted(candidates, key=attrgetter("order_key"))


def _longest(copies: Iterable[DrawnTurn], dropped: Counter[str]) -> DrawnTurn:
    """The longest of several texts of one turn; ties are broken by content, not by order."""
    first, *more = copies
    if not more:
        return first
    if first.order_key is not None:
        dropped[OTHER_TEXT] += len(more)
    content = attrgetter("message", "answer", "model", "user_id", "model_class")
    return max(
        (first, *more),
        key=lambda turn: (len(turn.message or ""), [value or "" for value in content(turn)]),
    )


def _of_turn(
    turn: DrawnTurn,
    order_key: str,
    before: Sequence[Turn],
    formatter: Formatter,
    dropped: Counter[str],
) -> Iterator[Candidate]:
    if turn.label is None:
        dropped[UNKNOWN if turn.named else UNNAMED] += 1
        return
    values = {
        "conversation_id": turn.conversation_id,
        "turn_count": turn.turn_count,
        "model": turn.model,
        "user_id": turn.user_id,
        "stratum": next(name for least, name in STRATA if turn.turn_count >= least),
        "position": position_of(turn.turn_index, turn.last_index),
        "label": turn.label,
        "group": None,
        **_supervision(turn),
    }
    if formatter.architecture == "conversation":
        values["previous"] = list(map(_PREVIOUS, reversed(before)))
    cell = Cell(turn.label, "", "")
    if formatter.architecture == "conversation":
        cell = Cell(turn.label, values["stratum"], values["position"])
    turns = [*before, Turn(turn.message or "")]
    yield candidate(formatter, turns, turn.turn_index, order_key, values, cell)


def _supervision(turn: DrawnTurn) -> dict[str, Any]:
    """Target, weight and evidence: from the labels file, else from the class of the model."""
    if turn.confidence is None:
        return {
            "target": 1.0 if turn.label == LABEL_REASONING else 0.0,
            "evidence": [MODEL_CHOICE],
            "weight": 1.0,
        }
    return {
        "target": turn.p_reasoning,
        "evidence": turn.evidence,
        "weight": max(MIN_WEIGHT, turn.confidence),
    }


def candidate(
    formatter: Formatter,
    turns: list[Turn],
    index: int,
    order_key: str,
    values: dict[str, Any],
    cell: Cell,
) -> Candidate:
    """Make a row of the last of `turns`.

    Args:
        formatter: How a turn is formatted.
        turns: Oldest first, the current one last.
        index: The current turn's, 1-based.
        order_key: See `Candidate`.
        values: The columns that do not follow from the text.
        cell: See `Candidate`.
    """
    model_input = formatter.format(turns, index)
    sample = {
        "previous": [],
        "cv_group": None,
        "sample_id": hexdigest(f"{values['conversation_id']}|{index}")[:16],
        **values,
        "turn_index": index,
        "message": model_input.message,
        "context": model_input.context,
    }
    message = normalized(model_input.message)
    return Candidate(sample, order_key, message, values["conversation_id"], cell)


def input_keys(candidates: Sequence[Candidate]) -> list[tuple[str, str]]:
    """A key of each candidate; candidates with the same input to the encoder have the same key.

    It is the message and the context in normal form. The context is normalised only where several
    candidates have the message.
    """
    counts = Counter(candidate.message for candidate in candidates)
    return [
        (c.message, normalized(c.values["context"]) if counts[c.message] > 1 else "")
        for c in candidates
    ]


def hexdigest(text: str) -> str:
    """Hex sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
