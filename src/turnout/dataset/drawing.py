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
from turnout.routing.formatter import MAX_KEPT_TURNS

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
        self._turns = _needed(read_turns(backend, turns))
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
        told = self._labelled(looked_at)
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
        """The first rows of each cell, among the turns of their conversations before them.

        Args:
            pool: Where from.
            draws: Rows of each cell.

        Yields:
            Turns by conversation and index, a turn more than once where the log holds it so: the
            keys, `turn_count` and `last_index` of the conversation, `message`, `answer`, `model`
            and what the catalogue says of it, `user_id`. Of turns that were drawn, `order_key`
            and `label` with what it rests on; null of others.
        """
        chosen = kept(self._backend, self._told(self._first(pool, draws)))
        same = self._turns.semi_join(chosen, "conversation_id")
        spans = same.group_by("conversation_id").agg(
            turn_count=same.turn_index.nunique(), last_index=same.turn_index.max()
        )
        wanted = chosen.group_by("conversation_id").agg(
            from_index=chosen.turn_index.min() - self._turns_before,
            to_index=chosen.turn_index.max(),
        )
        spans = kept(self._backend, spans.inner_join(wanted, "conversation_id"))
        turns = self._turns.inner_join(spans, "conversation_id")
        turns = turns.filter(turns.turn_index.between(turns.from_index, turns.to_index))
        shown = turns.left_join(chosen, list(_KEYS)).drop(
            "conversation_id_right", "turn_index_right", "from_index", "to_index"
        )
        facts = {
            (row["logged_model"], row["logged_reasoned"]): row for row in self._facts.to_pylist()
        }
        for batch in batches(self._backend, shown, order_by=_KEYS):
            for row in batch.to_pylist():
                reasoned = (row.pop("reasoning_tokens") or 0) > 0
                yield row | self._by_model(row, facts.get((row["model"] or "", reasoned)))

    @property
    def _turns_before(self) -> int:
        return MAX_KEPT_TURNS if self._stratified else 0

    def _first(self, pool: Pool, draws: Mapping[Cell, int]) -> ibis.Table:
        """The first rows of each cell by order key: a turn once, though the log holds it twice."""
        table = pa.Table.from_pylist([c._asdict() | {"most": n} for c, n in draws.items()], _DRAWS)
        most = ibis.memtable(table)
        cells = ["label", "stratum", "position"]
        rank = ibis.row_number().over(group_by=cells, order_by="order_key")
        ranked = pool.rows.mutate(rank=rank).inner_join(most, cells)
        first = ranked.filter(ranked.rank < ranked.most)
        return first.select(*_KEYS, "order_key").distinct()

    def _by_model(self, row: Mapping[str, Any], facts: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the model's entry adds to a turn: its class, and its label where nothing else is."""
        known = facts or {"named": False, "model_class": None}
        found = {name: known[name] for name in ("named", "model_class")}
        if self._labels is None:
            found["label"] = _LABELS.get(known["model_class"])
        return found

    def _order_key(self, turns: ibis.Table) -> ibis.Value:
        place = turns.conversation_id + "|" + turns.turn_index.cast("string")
        return (ibis.literal(f"{self._seed}|") + place).hexdigest("md5")

    def _labelled(self, turns: ibis.Table) -> ibis.Table:
        """The turns with their label, null where nothing tells it."""
        if self._labels is not None:
            return self._told(turns)
        known = joined_facts(turns, self._facts)
        label = ibis.cases(*((known.model_class == name, n) for name, n in _LABELS.items()))
        return known.mutate(label=label.cast("int8"))

    def _told(self, turns: ibis.Table) -> ibis.Table:
        """The turns with what the labels file says of them, if there is one."""
        if self._labels is None:
            return turns
        # One row a turn, or a label given twice would give the turn twice.
        best = ibis.row_number().over(
            group_by=_KEYS, order_by=[ibis.desc("p_reasoning"), ibis.desc("confidence")]
        )
        told = self._labels.semi_join(turns, list(_KEYS)).mutate(best=best)
        told = told.filter(told.best == 0).drop("best")
        known = turns.left_join(told, list(_KEYS)).drop("conversation_id_right", "turn_index_right")
        label = (known.p_reasoning >= 0.5).ifelse(LABEL_REASONING, LABEL_FAST)
        return known.mutate(label=known.p_reasoning.isnull().ifelse(None, label).cast("int8"))


_LABELS = {"reasoning": LABEL_REASONING, "fast": LABEL_FAST}

_DRAWS = pa.schema(
    [
        pa.field("label", pa.int8(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("position", pa.string(), nullable=False),
        pa.field("most", pa.int64(), nullable=False),
    ]
)


def _needed(turns: ibis.Table) -> ibis.Table:
    chosen = turns.select(
        conversation_id=turns.conversation_id.cast("string"),
        turn_index=turns.turn_index.cast("int32"),
        message=turns.user_message.cast("string"),
        answer=turns.assistant_message.cast("string"),
        model=turns.model.cast("string"),
        reasoning_tokens=turns.reasoning_tokens.cast("int64"),
        user_id=turns.user_id.cast("string"),
    )
    return chosen.filter(chosen.conversation_id.notnull(), chosen.turn_index >= 1)


def _with_place(turns: ibis.Table) -> ibis.Table:
    """Add the turn-count bucket and what `cells.position_of` says, as expressions."""
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
