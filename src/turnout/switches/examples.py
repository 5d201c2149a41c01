"""The turns before and after switches, for a person to read."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import ibis
import pyarrow as pa

from turnout.chosen_by.model_switches import KINDS
from turnout.engine import batches, materialized, ordered_rows
from turnout.schema import TURNS
from turnout.switches.report import Example

# Few enough to read, and to hold in memory.
SAMPLED_SWITCHES = 1000
_EXAMPLE_CHARS = 160
_KEYS = ("conversation_id", "switch_turn_index", "kind", "from_model", "to_model", "fallback_kind")
_SWITCH = ("conversation_id", "turn_index", "kind", "from_model", "to_model", "fallback_kind")
_TURN_COLUMNS = (
    "turn_index", "model", "response_type", "timestamp", "user_message", "assistant_message",
)  # fmt: skip


def sampled(backend: ibis.BaseBackend, switches: ibis.Table, size: int) -> list[dict[str, Any]]:
    """At most `size` of the rows, the same whatever their order, spread over all conversations."""
    return heapq.nsmallest(size, _rows(backend, switches.select(*_SWITCH)), key=_draw)


def _rows(backend: ibis.BaseBackend, table: ibis.Table) -> Iterator[dict[str, Any]]:
    for batch in batches(backend, table):
        yield from batch.to_pylist()


def turns_around(
    backend: ibis.BaseBackend, turns: ibis.Table, switches: Sequence[dict[str, Any]], around: int
) -> pa.Table:
    """`around` captured turns before each switch, the first turn after it, and `around` more.

    `offset` 0 is the first turn on the new model, −1 the one before it.

    Args:
        backend: Where it is computed.
        turns: A turns table.
        switches: As `sampled` gives them.
        around: At least 1.
    """
    sample = ibis.memtable(
        pa.Table.from_pylist(
            [{**row, "switch_turn_index": row["turn_index"]} for row in switches], _SAMPLE
        )
    )
    in_sample = turns.semi_join(sample, "conversation_id").select("conversation_id", *_TURN_COLUMNS)
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    numbered = in_sample.mutate(number=ibis.row_number().over(in_order))
    located = sample.join(
        numbered.select("conversation_id", "turn_index", at_number=numbered.number),
        [
            sample.conversation_id == numbered.conversation_id,
            sample.switch_turn_index == numbered.turn_index,
        ],
    ).select(*_KEYS, "at_number")
    near = located.join(
        numbered,
        [
            located.conversation_id == numbered.conversation_id,
            (numbered.number - located.at_number).between(-around, around),
        ],
    )
    offset = (numbered.number - located.at_number).cast("int32")
    columns = near.select(
        *(located[key] for key in _KEYS), *(numbered[n] for n in _TURN_COLUMNS), offset=offset
    )
    few = materialized(backend, columns.select(*_AROUND.names))
    order = ("conversation_id", "switch_turn_index", "offset")
    return ordered_rows(backend, few, order, _AROUND)


def examples(
    backend: ibis.BaseBackend, turns: ibis.Table, switches: ibis.Table, each: int
) -> list[Example]:
    """At most `each` switches of each kind that people made, with their messages cut."""
    by_people = switches.filter(~switches.fallback)
    picked = [
        row
        for kind in KINDS
        for row in sampled(backend, by_people.filter(by_people.kind == kind), each)
    ]
    if not picked:
        return []
    messages = {
        (row["conversation_id"], row["switch_turn_index"], row["offset"]): row["user_message"]
        for row in turns_around(backend, turns, picked, 1).to_pylist()
    }
    return [_example(row, messages) for row in picked]


def _example(row: dict[str, Any], messages: dict[tuple[str, int, int], str]) -> Example:
    place = (row["conversation_id"], row["turn_index"])
    return Example(
        kind=row["kind"],
        conversation_id=row["conversation_id"],
        turn_index=row["turn_index"],
        from_model=row["from_model"],
        to_model=row["to_model"],
        before=_cut(messages.get((*place, -1))),
        first=_cut(messages.get((*place, 0))) or "",
        after=_cut(messages.get((*place, 1))),
    )


_SAMPLE = pa.schema(
    [
        pa.field("conversation_id", pa.string()),
        pa.field("switch_turn_index", TURNS.field("turn_index").type),
        pa.field("kind", pa.string()),
        pa.field("from_model", pa.string()),
        pa.field("to_model", pa.string()),
        pa.field("fallback_kind", pa.string()),
    ]
)
_AROUND = pa.schema(
    [*_SAMPLE, pa.field("offset", pa.int32()), *(TURNS.field(name) for name in _TURN_COLUMNS)]
)


def _draw(row: dict[str, Any]) -> tuple[str, int]:
    key = f"{row['conversation_id']}\0{row['turn_index']}".encode()
    return hashlib.sha256(key).hexdigest(), row["turn_index"]


def _cut(message: str | None) -> str | None:
    if message is None:
        return None
    text = " ".join(message.split())
    return text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"
