"""Draws turns from a log of any length, as expressions on an engine.

Turns are ordered by a hash of the seed and their key, so the same turns are drawn whatever the
engine, its threads and the order of the rows. A bound on that hash finds the first turns without
sorting the log. Ids and models are read first, to count the turns of each cell; texts are read
once, of the drawn turns only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.dataset.cells import STRATA, Cell, position_of
from turnout.engine import batches, materialized
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.schema import TURN_KEYS
from turnout.turns import read_labels, read_turns

NOT_FIRST = "not the first turn of a conversation"
UNPLACED = "no conversation id or turn index"
UNNAMED = "names no model that a person chose"
UNKNOWN = "model not in the catalog"
UNLABELLED = "no evidence in the labels"

_PLACE = ["stratum", "position"]
# A turn without confident evidence still counts a little.
MIN_WEIGHT = 0.05
# Weights are summed as integers, so that the order of the rows changes nothing.
_WEIGHT_STEPS = 2**20
_HASH_STEPS = 16**8
# Greater than every hash.
_NO_BOUND = "g"
# From this bound on, so many turns lie below it that filtering them before the join costs more
# than it saves.
_MANY = "2"
# Position → the least last index of a conversation with a turn in it.
_LEAST_LAST_INDEX = {
    position_of(index, last): last for last in (3, 2, 1) for index in range(1, last + 1)
}
_GREATEST_INDEX = 2**31 - 1
_LABELS = {"reasoning": LABEL_REASONING, "fast": LABEL_FAST}
_BOUNDS = pa.schema(
    [
        pa.field("logged_model", pa.string(), nullable=False),
        pa.field("reasoned", pa.bool_(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("position", pa.string(), nullable=False),
        pa.field("most", pa.int64(), nullable=False),
        pa.field("bound", pa.string(), nullable=False),
    ]
)


class DrawnTurn(NamedTuple):
    """A drawn turn, or a turn before one.

    Attributes:
        conversation_id: Its conversation.
        turn_index: Its 1-based position there.
        message: What the user wrote.
        answer: What the assistant answered.
        model: As logged.
        user_id: As logged.
        turn_count: The conversation's turns.
        last_index: The conversation's greatest turn index.
        order_key: Its sort key; None for a turn that was not drawn.
        named: Whether the log names a model.
        model_class: `reasoning` or `fast`, by the catalog; None where it does not know the model.
        label: By the labels file if there is one, else by the class; None where unknown.
        p_reasoning: Of a drawn turn, by the labels file; None where it has none.
        confidence: As `p_reasoning`.
        evidence: As `p_reasoning`.
    """

    conversation_id: str
    turn_index: int
    message: str | None
    answer: str | None
    model: str | None
    user_id: str | None
    turn_count: int
    last_index: int
    order_key: str | None
    named: bool
    model_class: str | None
    label: int | None
    p_reasoning: float | None
    confidence: float | None
    evidence: list[str] | None


class Log:
    """A turns table and the labels of its turns.

    Args:
        backend: Where the table is computed.
        turns: A turns table.
        labels: What `turnout label` wrote; without it the class of a turn's model is its label.
        formatter: Its architecture decides which turns count: the first, or all.
        catalog: Model names to classes.
        seed: Decides the order.

    Attributes:
        total: Rows of the file.
        available: Rows of each cell.
        left_out: Reason → rows that are in no cell.
        prior: Weighted share of label 0 in [0, 1], among all labelled turns that the architecture
            uses. A turn weighs as much as its row would in the data set, so this is the mean of
            the calibrated score on them. None where no turn is labelled.
        conversations: `conversation_id` and `turn_count` of each; None where first turns count.
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
        self._stratified = formatter.architecture == "conversation"
        self._seed = seed
        self._models = _Models(catalog)
        self._turns = _columns_of(read_turns(backend, turns))
        self._labels = _valid(read_labels(backend, labels)) if labels else None
        self._usable = self._turns
        if not self._stratified:
            self._usable = self._turns.filter(self._turns.turn_index == 1)
        self._spans = materialized(backend, _spans(self._turns)) if self._stratified else None
        self.conversations = self._spans
        self._counts = self._cell_counts()
        self.total = pq.read_metadata(turns).num_rows
        self.available = Counter[Cell]()
        for row in self._counts:
            if row["label"] is not None:
                self.available[_cell(row)] += row["rows"]
        self.left_out = self._left_out_counts()
        self.prior = self._prior()

    def _cell_counts(self) -> list[dict[str, Any]]:
        """Rows and weight of each cell, by model where the class of the model is the label."""
        placed = _placed(self._labelled(self._usable), self._spans)
        sums = {"rows": placed.count()}
        if self._labels is not None:
            sums["weight"] = placed.weight.sum().cast("int64")
        counted = placed.group_by(*self._label_columns, *_PLACE).agg(**sums)
        rows: list[dict[str, Any]] = self._backend.to_pyarrow(counted).to_pylist()
        if self._labels is not None:
            return rows
        return [
            row
            | {"weight": row["rows"]}
            | self._models.label_of(row["logged_model"], row["reasoned"])._asdict()
            for row in rows
        ]

    def _prior(self) -> float | None:
        weights: Counter[int | None] = Counter()
        for row in self._counts:
            weights[row["label"]] += row["weight"] or 0
        labelled = weights[LABEL_REASONING] + weights[LABEL_FAST]
        return weights[LABEL_REASONING] / labelled if labelled else None

    @property
    def _label_columns(self) -> list[str]:
        """The columns that a turn's label follows from."""
        return ["logged_model", "reasoned"] if self._labels is None else ["label"]

    def _left_out_counts(self) -> Counter[str]:
        usable = sum(row["rows"] for row in self._counts)
        counts = Counter({UNPLACED if self._stratified else NOT_FIRST: self.total - usable})
        for row in self._counts:
            if row["label"] is None:
                reason = UNKNOWN if row.get("named") else UNNAMED
                counts[UNLABELLED if self._labels is not None else reason] += row["rows"]
        return +counts

    def draw(self, draws: Mapping[Cell, int], whole: Sequence[str] = ()) -> Iterator[DrawnTurn]:
        """The first rows of each cell, each with the turns before it.

        Args:
            draws: Rows of each cell.
            whole: Conversations to read in full besides.

        Yields:
            Turns by conversation and index; a turn twice where the log has it twice.
        """
        first = materialized(self._backend, self._fully_labelled(self._first(draws)))
        needed = first.select(
            "conversation_id",
            from_index=(first.turn_index - self._turns_before).cast("int32"),
            to_index="turn_index",
        )
        if whole:
            needed = needed.union(_all_turns(whole))
        ranges = needed.group_by("conversation_id").agg(
            from_index=needed.from_index.min(), to_index=needed.to_index.max()
        )
        conversations = self._turns.inner_join(ranges, "conversation_id")
        spans = conversations.group_by("conversation_id", "from_index", "to_index").agg(
            turn_count=conversations.turn_index.nunique(),
            last_index=conversations.turn_index.max(),
        )
        turns = self._turns.inner_join(materialized(self._backend, spans), "conversation_id")
        turns = turns.filter(turns.turn_index.between(turns.from_index, turns.to_index))
        rows = turns.left_join(first, list(TURN_KEYS)).drop(
            "conversation_id_right", "turn_index_right", "from_index", "to_index"
        )
        for batch in batches(self._backend, rows, order_by=TURN_KEYS):
            # Column by column takes a quarter of the time of row by row.
            columns = {name: batch[name].to_pylist() for name in batch.schema.names}
            models = list(zip(columns["logged_model"], columns["reasoned"], strict=True))
            label_of = {model: self._models.label_of(*model) for model in set(models)}
            labels = zip(*map(label_of.__getitem__, models), strict=True)
            columns = dict(zip(_ModelLabel._fields, labels, strict=False)) | columns
            values = (columns.get(name, repeat(None)) for name in DrawnTurn._fields)
            yield from map(DrawnTurn._make, zip(*values, strict=False))

    @property
    def _turns_before(self) -> int:
        return MAX_STORED_TURNS if self._stratified else 0

    def _first(self, draws: Mapping[Cell, int]) -> ibis.Table:
        """The first rows of each cell by order key, each turn once.

        Only turns below a bound are sorted; it leaves a few more than are drawn.
        """
        widening = 1.0
        while True:
            bounds = self._bounds(draws, widening)
            below = materialized(self._backend, self._below(bounds))
            counted = below.group_by("label", *_PLACE).agg(rows=below.count())
            rows_of = Counter(
                {_cell(row): row["rows"] for row in self._backend.to_pyarrow(counted).to_pylist()}
            )
            if all(rows_of[cell] >= min(n, self.available[cell]) for cell, n in draws.items()):
                break
            widening *= 4
        rank = ibis.row_number().over(group_by=["label", *_PLACE], order_by="order_key")
        ranked = below.mutate(rank=rank)
        return ranked.filter(ranked.rank < ranked.most).select(*TURN_KEYS, "order_key").distinct()

    def _bounds(self, draws: Mapping[Cell, int], widening: float) -> list[dict[str, Any]]:
        """For each group of `_counts` to draw from: how many rows, and below which order key."""
        rows = []
        for row in self._counts:
            if row["label"] is not None and (most := draws.get(_cell(row), 0)):
                share = widening * (most + 6 * sqrt(most)) / self.available[_cell(row)]
                bound = _NO_BOUND if share >= 1 else f"{int(share * _HASH_STEPS):08x}"
                rows.append(row | {"most": most, "bound": bound})
        return rows

    def _below(self, bounds: Sequence[Mapping[str, Any]]) -> ibis.Table:
        """The turns whose order key is below the bound of their cell.

        To draw most turns of a scarce cell, every turn of the log would have to be joined. Instead
        only the few conversations that can hold such turns are searched, in the same scan.
        """
        scarce = [row for row in bounds if row["bound"] >= _MANY]
        holding = self._holding(scarce)
        common = bounds if holding is None else [row for row in bounds if row["bound"] < _MANY]
        turns = self._usable.mutate(order_key=self._order_key(self._usable))
        greatest = max((row["bound"] for row in common), default="")
        if holding is not None:
            # One scan: a second use of the turns would make DuckDB hold all of them.
            turns = turns.left_join(holding, "conversation_id")
            turns = turns.filter(
                (turns.order_key < greatest) | turns.conversation_id_right.notnull()
            )
            turns = turns.drop("conversation_id_right")
        elif greatest < _MANY:
            turns = turns.filter(turns.order_key < greatest)
        names = dict.fromkeys([*self._label_columns, "label", *_PLACE, "most", "bound"])
        table = pa.Table.from_pylist(bounds, pa.schema([_BOUNDS.field(name) for name in names]))
        few = holding is not None or greatest < _MANY
        placed = _placed(self._labelled(turns), self._spans, few=few)
        joined = placed.inner_join(ibis.memtable(table), [*self._label_columns, *_PLACE])
        below = joined.filter(joined.order_key < joined.bound)
        return below.select(*TURN_KEYS, "order_key", "label", *_PLACE, "most")

    def _holding(self, scarce: Sequence[Mapping[str, Any]]) -> ibis.Table | None:
        """The conversations that can hold turns of some cells; None if many can."""
        strata = {row["stratum"] for row in scarce}
        turns = sum(n for cell, n in self.available.items() if cell.stratum in strata)
        if self._spans is None or not 0 < turns < self.available.total() / 2:
            return None
        spans = self._spans
        holding = spans.filter(
            ibis.or_(
                *(
                    (spans.stratum == row["stratum"])
                    & (spans.last_index >= _LEAST_LAST_INDEX[row["position"]])
                    for row in scarce
                )
            )
        )
        return holding.select("conversation_id")

    def _order_key(self, turns: ibis.Table) -> ibis.Value:
        place = turns.conversation_id + "|" + turns.turn_index.cast("string")
        return (ibis.literal(f"{self._seed}|") + place).hexdigest("md5")

    def _labelled(self, turns: ibis.Table) -> ibis.Table:
        """The turns with the `label` and `weight` of the labels file, if there is one.

        A turn with two labels is there twice.
        """
        if self._labels is None:
            return turns
        labels = self._labels
        label = (labels.p_reasoning >= 0.5).ifelse(LABEL_REASONING, LABEL_FAST).cast("int8")
        weight = ibis.greatest(labels.confidence.cast("float64"), MIN_WEIGHT) * _WEIGHT_STEPS
        columns = labels.select(*TURN_KEYS, label=label, weight=weight.floor().cast("int64"))
        labelled = turns.left_join(columns, list(TURN_KEYS))
        return labelled.drop("conversation_id_right", "turn_index_right")

    def _fully_labelled(self, turns: ibis.Table) -> ibis.Table:
        """A few turns with all columns of the labels file, if there is one."""
        if self._labels is None:
            return turns
        # One label a turn, or the turn would be there twice.
        rank = ibis.row_number().over(
            group_by=TURN_KEYS, order_by=[ibis.desc("p_reasoning"), ibis.desc("confidence")]
        )
        labels = self._labels.semi_join(turns, list(TURN_KEYS)).mutate(rank=rank)
        labels = labels.filter(labels["rank"] == 0).drop("rank")
        joined = turns.left_join(labels, list(TURN_KEYS)).drop(
            "conversation_id_right", "turn_index_right"
        )
        label = (joined.p_reasoning >= 0.5).ifelse(LABEL_REASONING, LABEL_FAST)
        return joined.mutate(label=joined.p_reasoning.isnull().ifelse(None, label).cast("int8"))


class _ModelLabel(NamedTuple):
    """Whether a model is named, its class, and the label that follows from it."""

    named: bool
    model_class: str | None
    label: int | None


class _Models:
    """The labels that follow from models' classes, each looked up once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._labels: dict[tuple[str, bool], _ModelLabel] = {}

    def label_of(self, logged: str, reasoned: bool) -> _ModelLabel:
        if (label := self._labels.get((logged, reasoned))) is None:
            entry = self._catalog.lookup(logged, reasoned=reasoned)
            model_class = entry.model_class if entry else None
            label = _ModelLabel(
                self._catalog.names_a_model(logged), model_class, _LABELS.get(model_class or "")
            )
            self._labels[logged, reasoned] = label
        return label


def _valid(labels: ibis.Table) -> ibis.Table:
    """The labels whose numbers are valid; a turn without one has no evidence."""
    numbers = [labels.p_reasoning, labels.confidence]
    # Parquet statistics ignore NaN, so an engine may skip the range check: NaN is tested apart.
    return labels.filter(*(x.between(0, 1) for x in numbers), *(~x.isnan() for x in numbers))


def _all_turns(conversations: Sequence[str]) -> ibis.Table:
    """The whole range of turn indices of some conversations."""
    names = pa.array(conversations, pa.string())
    table = pa.table({"conversation_id": names}).append_column(
        "from_index", pa.array([1] * len(names), pa.int32())
    )
    greatest = pa.array([_GREATEST_INDEX] * len(names), pa.int32())
    return ibis.memtable(table.append_column("to_index", greatest))


def _cell(row: Mapping[str, Any]) -> Cell:
    return Cell(row["label"], row["stratum"], row["position"])


def _spans(turns: ibis.Table) -> ibis.Table:
    """The turn count, its bucket and the last index of every conversation."""
    spans = turns.group_by("conversation_id").agg(
        turn_count=turns.count(), last_index=turns.turn_index.max()
    )
    stratum = ibis.cases(
        *((spans.turn_count >= least, name) for least, name in STRATA[:-1]), else_=STRATA[-1][1]
    )
    return spans.select("conversation_id", "turn_count", "last_index", stratum=stratum)


def _placed(turns: ibis.Table, spans: ibis.Table | None, *, few: bool = False) -> ibis.Table:
    """The turns with their bucket and position; empty where rows are not balanced over them.

    Args:
        turns: The turns.
        spans: What `_spans` gives.
        few: Whether the turns are fewer than the conversations. DuckDB makes a hash table of the
            right side of a join, so that it should be the smaller one.
    """
    if spans is None:
        return turns.mutate(stratum=ibis.literal(""), position=ibis.literal(""))
    spans = spans.drop("turn_count")
    left, right = (spans, turns) if few else (turns, spans)
    return _with_position(left.inner_join(right, "conversation_id"))


def _columns_of(turns: ibis.Table) -> ibis.Table:
    """The columns that a data set needs, of turns with a valid key."""
    # A model that a router or the product chose is no evidence of the need.
    by_person = ~turns.chosen_by.isin(("router", "product")).fill_null(False)
    columns = turns.select(
        conversation_id=turns.conversation_id.cast("string"),
        turn_index=turns.turn_index.cast("int32"),
        message=turns.user_message.cast("string"),
        answer=turns.assistant_message.cast("string"),
        model=turns.model.cast("string"),
        logged_model=ibis.ifelse(by_person, turns.model.cast("string").fill_null(""), ""),
        reasoned=(turns.reasoning_tokens.cast("int64") > 0).fill_null(False),
        user_id=turns.user_id.cast("string"),
    )
    return columns.filter(columns.conversation_id.notnull(), columns.turn_index >= 1)


def _with_position(turns: ibis.Table) -> ibis.Table:
    """Add `cells.position_of` as an expression."""
    thirds, length = (turns.turn_index - 1) * 3, turns.last_index - 1
    position = ibis.cases(
        ((turns.turn_index == 1) | (thirds < length), "early"),
        (thirds > length * 2, "late"),
        else_="middle",
    )
    return turns.mutate(position=position)
