"""Rows that could be samples: labelled and shown as the encoder will see them; knows no split."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from turnout.dataset.cells import STRATA, Cell, position_of
from turnout.dataset.drawing import UNKNOWN, UNNAMED
from turnout.records import LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_KEPT_TURNS, kept
from turnout.schema import PREVIOUS_TURN

MODEL_CHOICE = "model_choice"
OTHER_TEXT = "another text of the same turn"
# Evidence that says nothing still says that the turn happened.
_MIN_WEIGHT = 0.05
# A previous turn as `schema.PREVIOUS_TURN`: a tuple takes half the time of a dict on its way there.
_STORED = attrgetter(*(field.name for field in PREVIOUS_TURN))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of `schema.SAMPLES` before anything was chosen.

    Attributes:
        values: The sample's columns.
        order_key: Hex digest of seed and row: a repeatable random order.
        said: The message with single spaces, to be compared with others.
        text_key: Hex sha256 of what the encoder reads: equal for exact duplicates.
        group: Its conversation; or, of a measured prompt, the prompts nearly alike.
        cell: What it is balanced over; no bucket and no position where the architecture takes all
            first turns alike.
    """

    values: dict[str, Any]
    order_key: str
    said: str
    text_key: str
    group: str
    cell: Cell


def from_turns(
    rows: Iterable[Mapping[str, Any]], formatter: Formatter, dropped: Counter[str]
) -> list[Candidate]:
    """A candidate for every drawn turn whose need is told, in order of their order keys.

    Cancelled and failed turns stay in: the user's need was real. Context comes from the previous
    captured turns, as a server would have seen them.

    Args:
        rows: What `drawing.Log.drawn` yields.
        formatter: How a turn is shown.
        dropped: Reason → rows, added to.
    """
    found: list[Candidate] = []
    for _, conversation in groupby(rows, key=itemgetter("conversation_id")):
        # Newest last, and no more than is kept: a conversation may have 100,000 turns.
        before: deque[Turn] = deque(maxlen=MAX_KEPT_TURNS)
        for _, copies in groupby(conversation, key=itemgetter("turn_index")):
            row = _longest(copies, dropped)
            if row["order_key"] is not None:
                found += _of_turn(row, before, formatter, dropped)
            before.append(kept(Turn(row["message"] or "", row["answer"])))
    return sorted(found, key=lambda candidate: candidate.order_key)


def _longest(copies: Iterable[Mapping[str, Any]], dropped: Counter[str]) -> Mapping[str, Any]:
    """The longest text of a turn that the log holds more than once; ties go by content alone."""
    first, *more = copies
    if not more:
        return first
    if first["order_key"] is not None:
        dropped[OTHER_TEXT] += len(more)
    content = ("message", "answer", "model", "user_id", "model_class")
    return max(
        (first, *more),
        key=lambda row: (len(row["message"] or ""), [row[name] or "" for name in content]),
    )


def _of_turn(
    row: Mapping[str, Any],
    before: Sequence[Turn],
    formatter: Formatter,
    dropped: Counter[str],
) -> Iterator[Candidate]:
    if row["label"] is None:
        dropped[UNKNOWN if row["named"] else UNNAMED] += 1
        return
    count = row["turn_count"]
    values = {
        "conversation_id": row["conversation_id"],
        "turn_count": count,
        "model": row["model"],
        "user_id": row["user_id"],
        "stratum": next(name for least, name in STRATA if count >= least),
        "position": position_of(row["turn_index"], row["last_index"]),
        "label": row["label"],
        "group": None,
        **_told(row),
    }
    if formatter.architecture == "conversation":
        values["previous"] = list(map(_STORED, reversed(before)))
    turns = [*before, Turn(row["message"] or "")]
    yield candidate(formatter, turns, row["turn_index"], row["order_key"], values)


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's label rests on: all evidence, or the class of the model that served it."""
    if "p_reasoning" not in row:
        return {
            "target": 1.0 if row["label"] == LABEL_REASONING else 0.0,
            "evidence": [MODEL_CHOICE],
            "weight": 1.0,
        }
    return {
        "target": row["p_reasoning"],
        "evidence": row["evidence"],
        "weight": max(_MIN_WEIGHT, row["confidence"]),
    }


def candidate(
    formatter: Formatter, turns: list[Turn], index: int, order_key: str, values: dict[str, Any]
) -> Candidate:
    """Show the last of `turns` and make a row of it.

    Args:
        formatter: How a turn is shown.
        turns: Oldest first, the current one last.
        index: The current turn's, 1-based.
        order_key: See `Candidate`.
        values: The columns that do not follow from the text.
    """
    shown = formatter.format(turns, index)
    said = " ".join(shown.message.split())
    sample = {
        "previous": [],
        **values,
        "sample_id": hexdigest(f"{values['conversation_id']}|{index}")[:16],
        "turn_index": index,
        "message": shown.message,
        "context": shown.context,
    }
    text_key = hexdigest(f"{said}\0{shown.context}")
    cell = Cell(values["label"], "", "")
    if formatter.architecture == "conversation":
        cell = Cell(values["label"], values["stratum"], values["position"])
    return Candidate(sample, order_key, said, text_key, values["conversation_id"], cell)


def hexdigest(text: str) -> str:
    """Hex sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
