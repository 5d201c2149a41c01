"""The first conversations of a turns table, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_COLUMNS = (
    "conversation_id", "turn_index", "timestamp", "model", "reasoning_tokens", "response_type",
    "chosen_by", "user_message",
)  # fmt: skip
_CONVERSATIONS, _TURNS = 3, 6
_BATCH_ROWS, _MAX_ROWS = 256, 10_000


@dataclass(slots=True)
class ConversationPreview:
    """How a conversation begins.

    Attributes:
        turns: Its first turns: column → value.
        n_more: How many more were seen, without being read to its end.
    """

    turns: list[dict[str, Any]] = field(default_factory=list)
    n_more: int = 0


def first_conversations(turns: Path) -> Sequence[ConversationPreview]:
    """The first conversations of a turns table.

    Args:
        turns: The table, in order of conversation and turn.
    """
    previews: dict[str, ConversationPreview] = {}
    n_rows = 0
    with pq.ParquetFile(turns) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
            for row in batch.to_pylist():
                name = row["conversation_id"]
                if name not in previews and len(previews) == _CONVERSATIONS:
                    return list(previews.values())
                conversation = previews.setdefault(name, ConversationPreview())
                if len(conversation.turns) < _TURNS:
                    conversation.turns.append(row)
                else:
                    conversation.n_more += 1
            n_rows += batch.num_rows
            if n_rows >= _MAX_ROWS:
                break
    return list(previews.values())
