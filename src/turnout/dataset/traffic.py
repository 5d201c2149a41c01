"""A sample of the log as it is, beside a data set: what the router's traffic looks like.

Rows of a data set are drawn, balanced and without duplicates, so they look like no log. These are
all turns that the architecture decides on, of conversations drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import ibis
import pyarrow as pa

from turnout.engine import batches, materialized
from turnout.records import Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.schema import TRAFFIC, TURN_KEYS

MOST_CONVERSATIONS = 2_000
MOST_TURNS = 6_000
# Of so many it is looked up which trained; where all rows are used, four in five did.
_MOST_NAMES = 20_000
# A log is taken to have so many turns a conversation at most, or the sample is looked for again.
_TURNS_A_CONVERSATION = 50
_HASH_STEPS = 16**8
_NO_BOUND = "g"  # greater than every hash
_Row = dict[str, Any]


def sampled_traffic(
    backend: ibis.BaseBackend,
    turns: ibis.Table,
    formatter: Formatter,
    used: Mapping[str, set[str]],
    seed: int,
) -> pa.Table:
    """Rows of `schema.TRAFFIC`, conversation by conversation.

    Conversations with training rows are left out. Those of the other splits are like them, and
    stand for them by their weight.

    Args:
        backend: Where the log is read.
        turns: A turns table.
        formatter: How a turn is shown.
        used: Split → conversations with rows in it.
        seed: Decides which conversations are drawn.
    """
    log = turns.select(
        conversation_id=turns.conversation_id.cast("string"),
        turn_index=turns.turn_index.cast("int32"),
        message=turns.user_message.cast("string"),
        answer=turns.assistant_message.cast("string"),
    )
    log = log.filter(log.conversation_id.notnull(), log.turn_index >= 1)
    first_only = formatter.architecture == "session"
    drawn = _drawn(backend, log, seed, first_only=first_only)
    trained = used.get("train", set())
    others = set().union(*(names for split, names in used.items() if split != "train")) - trained
    n_trained = sum(row["conversation_id"] in trained for row in drawn)
    n_others = sum(row["conversation_id"] in others for row in drawn)
    stands_for = (n_trained + n_others) / n_others if n_others else 1.0
    taken: dict[str, _Row] = {}
    n_turns = 0
    for row in drawn:
        decided = 1 if first_only else row["turns"]
        if row["conversation_id"] in trained or n_turns + decided > MOST_TURNS:
            continue
        n_turns += decided
        row["weight"] = stands_for if row["conversation_id"] in others else 1.0
        taken[row["conversation_id"]] = row
        if len(taken) == MOST_CONVERSATIONS:
            break
    rows = list(_rows(backend, log, taken, formatter)) if taken else []
    return pa.Table.from_pylist(rows, TRAFFIC)


def _drawn(
    backend: ibis.BaseBackend, log: ibis.Table, seed: int, *, first_only: bool
) -> list[_Row]:
    """Conversations with the least hashes, in that order, and how many turns each has."""
    total = int(backend.to_pyarrow(log.count()).as_py())
    share = min(1.0, _MOST_NAMES * _TURNS_A_CONVERSATION / max(total, 1))
    key = (ibis.literal(f"{seed}|traffic|") + log.conversation_id).hexdigest("md5")
    hashed = log.select("conversation_id", "turn_index", key=key)
    while True:
        bound = _NO_BOUND if share >= 1 else f"{int(share * _HASH_STEPS):08x}"
        below = hashed.filter(hashed.key < bound)
        conversations = below.group_by("conversation_id", "key").agg(
            turns=below.turn_index.nunique(), first=below.turn_index.min()
        )
        if first_only:
            conversations = conversations.filter(conversations["first"] == 1)
        names = conversations.order_by("key").limit(_MOST_NAMES)
        rows: list[_Row] = backend.to_pyarrow(names).to_pylist()
        if len(rows) == _MOST_NAMES or share >= 1:
            return sorted(rows, key=itemgetter("key"))
        share = min(1.0, share * 8)


def _rows(
    backend: ibis.BaseBackend, log: ibis.Table, taken: Mapping[str, _Row], formatter: Formatter
) -> Iterator[_Row]:
    names = pa.table({"conversation_id": pa.array(sorted(taken), pa.string())})
    wanted = log.semi_join(materialized(backend, ibis.memtable(names)), "conversation_id")
    rows = (
        row
        for batch in batches(backend, wanted, order_by=(*TURN_KEYS, "message"))
        for row in batch.to_pylist()
    )
    for name, group in groupby(rows, key=itemgetter("conversation_id")):
        # A turn once, though the log holds it twice.
        turns = list({row["turn_index"]: row for row in group}.values())
        facts = taken[name]
        for position, row in enumerate(turns):
            if formatter.architecture == "session" and row["turn_index"] != 1:
                break
            shown = formatter.format(_seen(turns, position), row["turn_index"])
            yield {
                "conversation_id": name,
                "turn_count": facts["turns"],
                "message": shown.message,
                "context": shown.context,
                "weight": facts["weight"],
            }


def _seen(turns: Sequence[_Row], position: int) -> list[Turn]:
    seen = turns[max(0, position - MAX_STORED_TURNS) : position + 1]
    return [Turn(row["message"] or "", row["answer"]) for row in seen]
