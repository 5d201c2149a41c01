"""Which turns of a log are drawn, as expressions on an engine; knows no split and no form of text.

A log of any length stays on the engine. A turn's place in the order is a hash of the seed and of
its own name, so the same turns are drawn whatever the engine, its threads and the rows' order; and
a bound on that hash gives a fair share of the log without sorting it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.dataset.cells import STRATA, Cell
from turnout.engine import batches, joined_facts, kept, model_facts, read_labels, read_turns
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing import Formatter

NOT_FIRST = "not the first turn of a conversation"
UNPLACED = "no conversation id or turn index"
UNNAMED = "names no model"
UNKNOWN = "model not in the catalogue"
UNTOLD = "no evidence in the labels"

_KEYS = ("conversation_id", "turn_index")
_HASH_STEPS = 16**8


@dataclass(frozen=True, slots=True)
class Pool:
    """Turns that may be drawn, held by the engine.

    Attributes:
        rows: `conversation_id`, `turn_index`, `order_key`, `label`, `stratum`, `position`.
        share: Of the log that was looked at, in (0, 1].
        found: Rows of each cell.
        untold: Turns looked at of which the labels say nothing.
    """

    rows: ibis.Table
    share: float
    found: Counter[Cell]
    untold: int


class Log:
    """A turns table and what tells the label of its turns.

    Args:
        backend: Where the table is computed.
        turns: A turns table.
        labels: What `turnout label` wrote; without it the class of a turn's model is its label.
        formatter: Its architecture says which turns count: the first, or all.
        catalog: Model names to classes.
        seed: Decides the order.

    Attributes:
        total: Rows of the file.
        left_out: Reason → rows that no pool holds.
    """

    def __init__(
        self,
        backend: ibis.BaseBackend,
        turns: Path,
        labels: Path | None,
        formatter: Formatter,
        catalog: Catalog,
        seed: int,
    ) -> None:
        self._backend = backend
        self._formatter = formatter
        self._seed = seed
        self._turns = _needed(read_turns(backend, turns), formatter)
        self._labels = read_labels(backend, labels) if labels else None
        self._facts = model_facts(self._usable, backend, catalog)
        self.total = pq.read_metadata(turns).num_rows
        self.left_out = self._left_out()

    @property
    def _stratified(self) -> bool:
        return self._formatter.architecture == "conversation"

    @property
    def _usable(self) -> ibis.Table:
        """The turns that the architecture learns from."""
        if self._stratified:
            return self._turns
        return self._turns.filter(self._turns.turn_index == 1)

    def _left_out(self) -> Counter[str]:
        rows = self._facts.to_pylist()
        counts = Counter({UNPLACED if self._stratified else NOT_FIRST: self.total})
        counts.subtract(
            {UNPLACED if self._stratified else NOT_FIRST: sum(r["turns"] for r in rows)}
        )
        if self._labels is None:
            for row in rows:
                if row["model_class"] is None:
                    counts[UNKNOWN if row["named"] else UNNAMED] += row["turns"]
        return +counts

    def pool(self, share: float) -> Pool:
        """The turns of a fair share of the log whose label is told.

        Args:
            share: In (0, 1].
        """
        turns = self._usable.mutate(order_key=self._order_key(self._usable))
        if share < 1:
            turns = turns.filter(turns.order_key < f"{int(share * _HASH_STEPS):08x}")
        columns = [*_KEYS, "order_key", "model", "reasoning_tokens"]
        looked_at = kept(self._backend, turns.select(*columns))
        told = self._told(looked_at)
        told = told.filter(told.label.notnull()).select(*_KEYS, "order_key", "label")
        if self._stratified:
            told = kept(self._backend, told)
            same = self._turns.semi_join(told, "conversation_id")
            spans = same.group_by("conversation_id").agg(
                turn_count=same.count(), last_index=same.turn_index.max()
            )
            told = _with_place(told.inner_join(spans, "conversation_id"))
            told = told.select(*_KEYS, "order_key", "label", "stratum", "position")
        else:
            told = told.mutate(stratum=ibis.literal(""), position=ibis.literal(""))
        rows = kept(self._backend, told)
        counted = rows.group_by("label", "stratum", "position").agg(rows=rows.count())
        found = Counter(
            {
                Cell(row["label"], row["stratum"], row["position"]): row["rows"]
                for row in self._backend.to_pyarrow(counted).to_pylist()
            }
        )
        untold = 0
        if self._labels is not None:
            untold = int(self._backend.to_pyarrow(looked_at.count()).as_py()) - found.total()
        return Pool(rows, share, found, untold)

    def drawn(self, pool: Pool, draws: Mapping[Cell, int]) -> Iterator[dict[str, Any]]:
        """The first rows of each cell, with what is shown of them and what tells their label.

        Args:
            pool: Where from.
            draws: Rows of each cell.

        Yields:
            Rows in no order: the keys, `order_key`, `turn_count`, `stratum`, `position`, `model`,
            `user_id`, `message`, `previous_1` … newest first, `copies` of the turn in the log, and
            `label` with what it rests on.
        """
        table = pa.Table.from_pylist([c._asdict() | {"most": n} for c, n in draws.items()], _DRAWS)
        most = ibis.memtable(table)
        ranked = pool.rows.mutate(
            rank=ibis.row_number().over(
                group_by=("label", "stratum", "position"), order_by="order_key"
            )
        ).inner_join(most, ["label", "stratum", "position"])
        chosen = ranked.filter(ranked.rank < ranked.most).select(*_KEYS, "order_key").distinct()
        chosen = kept(self._backend, chosen)
        turns = _one_text_a_turn(self._turns.semi_join(chosen, "conversation_id"))
        turns = _with_previous(turns, self._formatter)
        shown = self._told(turns.inner_join(chosen, list(_KEYS))).drop("last_index")
        for batch in batches(self._backend, shown):
            yield from batch.to_pylist()

    def _order_key(self, turns: ibis.Table) -> ibis.Value:
        place = turns.conversation_id + "|" + turns.turn_index.cast("string")
        return (ibis.literal(f"{self._seed}|") + place).hexdigest("md5")

    def _told(self, turns: ibis.Table) -> ibis.Table:
        """The turns with their label, null where nothing tells it, and what it rests on."""
        if self._labels is None:
            known = joined_facts(turns, self._facts)
            label = ibis.cases(
                (known.model_class == "reasoning", LABEL_REASONING),
                (known.model_class == "fast", LABEL_FAST),
            )
            return known.mutate(label=label.cast("int8"))
        # One row a turn, or a label given twice would give the turn twice.
        best = ibis.row_number().over(
            group_by=_KEYS, order_by=[ibis.desc("p_reasoning"), ibis.desc("confidence")]
        )
        told = self._labels.semi_join(turns, list(_KEYS)).mutate(best=best)
        told = told.filter(told.best == 0).drop("best")
        known = turns.left_join(told, list(_KEYS)).drop("conversation_id_right", "turn_index_right")
        label = (known.p_reasoning >= 0.5).ifelse(LABEL_REASONING, LABEL_FAST)
        return known.mutate(label=known.p_reasoning.isnull().ifelse(None, label).cast("int8"))


_DRAWS = pa.schema(
    [
        pa.field("label", pa.int8(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("position", pa.string(), nullable=False),
        pa.field("most", pa.int64(), nullable=False),
    ]
)


def _needed(turns: ibis.Table, formatter: Formatter) -> ibis.Table:
    columns = {
        "conversation_id": turns.conversation_id.cast("string"),
        "turn_index": turns.turn_index.cast("int32"),
        "message": turns.user_message.cast("string"),
        "model": turns.model.cast("string"),
        "reasoning_tokens": turns.reasoning_tokens.cast("int64"),
        "user_id": turns.user_id.cast("string"),
    }
    if formatter.assistant_chars:
        columns["answer"] = turns.assistant_message.cast("string")
    chosen = turns.select(**columns)
    return chosen.filter(chosen.conversation_id.notnull(), chosen.turn_index >= 1)


def _with_place(turns: ibis.Table) -> ibis.Table:
    """Add the turn-count bucket and which third of its conversation a turn stands in.

    The first turn is early and the last late; a turn between stands where its index says, whether
    or not all the turns before it were captured.
    """
    stratum = ibis.cases(
        *((turns.turn_count >= least, name) for least, name in STRATA[:-1]), else_=STRATA[-1][1]
    )
    before, whole = (turns.turn_index - 1) * 3, turns.last_index - 1
    position = ibis.cases(
        ((turns.turn_index == 1) | (before < whole), "early"),
        (before > whole * 2, "late"),
        else_="middle",
    )
    return turns.mutate(stratum=stratum, position=position)


def _one_text_a_turn(turns: ibis.Table) -> ibis.Table:
    """The longest text of each turn, and how many `copies` of the turn the log holds."""
    same = ibis.window(group_by=_KEYS)
    best = ibis.row_number().over(
        group_by=_KEYS,
        order_by=[
            turns.message.fill_null("").length().desc(),
            turns.message.fill_null("").hexdigest("md5"),
            turns.model.fill_null(""),
            turns.reasoning_tokens.fill_null(-1),
            turns.user_id.fill_null(""),
        ],
    )
    counted = turns.mutate(best=best, copies=turns.count().over(same))
    return counted.filter(counted.best == 0).drop("best")


def _with_previous(turns: ibis.Table, formatter: Formatter) -> ibis.Table:
    """Add the conversation's turn count, the turn's place in it, and what was said before."""
    whole = ibis.window(group_by="conversation_id")
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    added = {
        "turn_count": turns.count().over(whole),
        "last_index": turns.turn_index.max().over(whole),
    }
    if formatter.architecture == "conversation":
        for back in range(1, formatter.previous_turns + 1):
            added[f"previous_{back}"] = turns.message.lag(back).over(in_order)
            if formatter.assistant_chars:
                added[f"answer_{back}"] = turns.answer.lag(back).over(in_order)
    return _with_place(turns.mutate(**added))
