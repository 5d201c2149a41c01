"""A sample of the log as it is, stored beside a data set as the reference of its traffic.

The rows of a data set are balanced and without duplicates, so they differ from the log. This sample
holds all turns that the architecture decides on, of conversations drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import ibis
import pyarrow as pa

from turnout.engine import batches, materialized
from turnout.records import Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS, stored_turn
from turnout.schema import TRAFFIC, TURN_KEYS
from turnout.turns import drawn_conversations

MOST_CONVERSATIONS = 2_000
MOST_TURNS = 6_000
# So many conversations are looked at; up to four in five of them may have training rows.
_MOST_NAMES = 20_000
_Row = dict[str, Any]


def sampled_traffic(
    backend: ibis.BaseBackend,
    turns: ibis.Table,
    formatter: Formatter,
    used: Mapping[str, set[str]],
    seed: int,
    conversations: ibis.Table | None = None,
) -> pa.Table:
    """Rows of `schema.TRAFFIC`, conversation by conversation.

    Conversations with training rows are left out. Those of the other splits are like them, and
    replace them by a greater weight.

    Args:
        backend: Where the log is read.
        turns: A turns table.
        formatter: How a turn is shown.
        used: Split → conversations with rows in it.
        seed: Decides which conversations are drawn.
        conversations: `conversation_id` and `turn_count` of all, where they are known already: the
            log is then read once rather than twice.
    """
    log = turns.select(
        conversation_id=turns.conversation_id.cast("string"),
        turn_index=turns.turn_index.cast("int32"),
        message=turns.user_message.cast("string"),
        answer=turns.assistant_message.cast("string"),
    )
    log = log.filter(log.conversation_id.notnull(), log.turn_index >= 1)
    first_only = formatter.architecture == "session"
    drawn = drawn_conversations(
        backend,
        log,
        f"{seed}|traffic|",
        _MOST_NAMES,
        conversations=conversations,
        first_only=first_only,
    )
    trained = used.get("train", set())
    unseen = set().union(*(names for split, names in used.items() if split != "train")) - trained
    n_trained = sum(row["conversation_id"] in trained for row in drawn)
    n_unseen = sum(row["conversation_id"] in unseen for row in drawn)
    unseen_weight = (n_trained + n_unseen) / n_unseen if n_unseen else 1.0
    sample: dict[str, _Row] = {}
    n_turns = 0
    for row in drawn:
        decided = 1 if first_only else row["turns"]
        if row["conversation_id"] in trained or n_turns + decided > MOST_TURNS:
            continue
        n_turns += decided
        row["weight"] = unseen_weight if row["conversation_id"] in unseen else 1.0
        sample[row["conversation_id"]] = row
        if len(sample) == MOST_CONVERSATIONS:
            break
    rows = list(_rows(backend, log, sample, formatter)) if sample else []
    return pa.Table.from_pylist(rows, TRAFFIC)


def _rows(
    backend: ibis.BaseBackend, log: ibis.Table, sample: Mapping[str, _Row], formatter: Formatter
) -> Iterator[_Row]:
    names = pa.table({"conversation_id": pa.array(sorted(sample), pa.string())})
    turns_of = log.semi_join(materialized(backend, ibis.memtable(names)), "conversation_id")
    rows = (
        row
        for batch in batches(backend, turns_of, order_by=(*TURN_KEYS, "message"))
        for row in batch.to_pylist()
    )
    for name, group in groupby(rows, key=itemgetter("conversation_id")):
        # Each turn once, even if the log has it twice.
        turns = list({row["turn_index"]: row for row in group}.values())
        first_only, weight = formatter.architecture == "session", sample[name]["weight"]
        for position, row in enumerate(turns):
            if first_only and row["turn_index"] != 1:
                break
            shown = _turns_up_to(turns, position)
            model_input = formatter.format(shown, row["turn_index"])
            yield {
                "conversation_id": name,
                "turn_index": row["turn_index"],
                "turn_count": len(turns),
                "message": model_input.message,
                "context": model_input.context,
                "previous": [asdict(stored_turn(turn)) for turn in reversed(shown[:-1])],
                "weight": weight,
            }


def _turns_up_to(turns: Sequence[_Row], position: int) -> list[Turn]:
    rows = turns[max(0, position - MAX_STORED_TURNS) : position + 1]
    return [Turn(row["message"] or "", row["answer"]) for row in rows]
