"""The votes behind one conversation's labels, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.errors import RecordError
from turnout.schema import EXPLAINED_LABELS

_MESSAGE_CHARS = 100


@dataclass(frozen=True, slots=True)
class Vote:
    """One source's vote on a turn.

    Attributes:
        code: The source's name.
        weight: Log-odds; above 0 for reasoning.
        reason: What the source is.
    """

    code: str
    weight: float
    reason: str


@dataclass(frozen=True, slots=True)
class ExplainedTurn:
    """A turn and why it has its label.

    Attributes:
        turn_index: 1-based.
        user_message: Its beginning, in one line.
        p_reasoning: None where nothing votes.
        confidence: None where nothing votes.
        votes: The largest weight first.
    """

    turn_index: int
    user_message: str
    p_reasoning: float | None
    confidence: float | None
    votes: list[Vote]


def explain(turns: Path, labels: Path, where: str) -> list[ExplainedTurn]:
    """Show which votes the labels of a conversation come from.

    Args:
        turns: The turns table that was labelled.
        labels: What `turnout label` wrote.
        where: A conversation's id, or `ID:TURN`. An id may hold a colon.

    Returns:
        The turns in order, including those without evidence.

    Raises:
        RecordError: If the log has no such turn.
    """
    columns = ["conversation_id", "turn_index", "user_message"]
    rows, conversation, index = _rows(turns, columns, where, None), where, None
    if not rows:
        conversation, _, last = where.rpartition(":")
        index = int(last) if last.isdecimal() else None
        rows = _rows(turns, columns, conversation, index) if index is not None else []
    if not rows:
        raise RecordError(
            f"{turns}: no turn {where}; expected the id of a conversation in the log, and "
            "optionally :TURN after it."
        )
    by_index = {
        row["turn_index"]: row for row in _rows(labels, EXPLAINED_LABELS.names, conversation, index)
    }
    return [_explained(row, by_index.get(row["turn_index"])) for row in rows]


def _rows(
    path: Path, columns: list[str], conversation: str, index: int | None
) -> list[dict[str, Any]]:
    filters = [("conversation_id", "=", conversation)]
    if index is not None:
        filters.append(("turn_index", "=", index))  # type: ignore[arg-type]
    table: pa.Table = pq.read_table(path, columns=columns, filters=filters, partitioning=None)
    rows: list[dict[str, Any]] = table.sort_by("turn_index").to_pylist()
    return rows


def _explained(row: dict[str, Any], label: dict[str, Any] | None) -> ExplainedTurn:
    message = " ".join(row["user_message"].split())[:_MESSAGE_CHARS]
    if label is None:
        return ExplainedTurn(row["turn_index"], message, None, None, [])
    parts = zip(label["evidence"], label["weights"], label["reasons"], strict=True)
    votes = [Vote(code.removeprefix("-"), weight, reason) for code, weight, reason in parts]
    votes.sort(key=lambda vote: -abs(vote.weight))
    return ExplainedTurn(
        row["turn_index"], message, label["p_reasoning"], label["confidence"], votes
    )
