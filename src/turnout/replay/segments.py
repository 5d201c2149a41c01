"""Conversations by a column that `turnout ingest --keep` carried along."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.errors import RecordError

# Fewer conversations give no interval worth reading.
MIN_CONVERSATIONS = 30
NOT_GIVEN = "not given"


@dataclass(frozen=True, slots=True)
class Segments:
    """Which segment each conversation belongs to: that of its first turn.

    Attributes:
        column: The log's own column.
        names: Of the segments, those with most conversations first.
        of: Position in `names` of each conversation, shape `(c,)`.
        grouped: Segments with too few conversations, which share the last name → conversations.
    """

    column: str
    names: tuple[str, ...]
    of: NDArray[np.int64]
    grouped: dict[str, int]


def segments_of(first_turns: pa.ChunkedArray, column: str, where: Path) -> Segments:
    """Segments by one column.

    Args:
        first_turns: The `segments` of every conversation's first turn: JSON objects, or null.
        column: The log's own column.
        where: What was read, for errors.

    Raises:
        RecordError: If no turn carries the column.
    """
    carried = [json.loads(text) if text else {} for text in first_turns.to_pylist()]
    values = [_shown(row.get(column)) for row in carried]
    if all(value is None for value in values):
        others = ", ".join(sorted({name for row in carried for name in row})) or "none"
        raise RecordError(
            f"{where}: no conversation's first turn carries the column {column}; carried: "
            f"{others}. Ingest the log with --keep {column}, or choose another --by."
        )
    named = [NOT_GIVEN if value is None else value for value in values]
    counts = Counter(named)
    large = [name for name, n in counts.most_common() if n >= MIN_CONVERSATIONS]
    grouped = {name: n for name, n in counts.most_common() if n < MIN_CONVERSATIONS}
    names = large
    if grouped:
        names = [*large, f"{len(grouped)} with fewer than {MIN_CONVERSATIONS} conversations each"]
    place = {name: number for number, name in enumerate(large)} | dict.fromkeys(grouped, len(large))
    return Segments(column, tuple(names), np.array([place[name] for name in named]), grouped)


def _shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
