"""A log → the rows of every split.

Of a log with fewer distinct rows than are wanted all are taken, and weighted. From a longer one
rows are drawn. How many of each cell to draw is not known before duplicates are gone and the splits
are made: a draw is tried with a margin, and repeated with what was learnt from it where rows are
short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil

from turnout.dataset.balancing import balanced
from turnout.dataset.candidates import Candidate, from_turns
from turnout.dataset.cells import SPLITS, Cell, Ratio, planned, shared_out, split_sizes
from turnout.dataset.drawing import Log
from turnout.dataset.duplicates import Distinct, deduplicated, near_groups, without_near
from turnout.dataset.groups import assigned, kept_together, leaks
from turnout.dataset.weighting import Weighting, weighted
from turnout.progress import Steps, watched
from turnout.records import ID2LABEL
from turnout.routing import Formatter

SURPLUS = "left over after balancing"
BEYOND_SIZE = "beyond the size asked for"
DRAW, COMPARE, SPLIT = "draw rows", "compare rows", "split and balance"

# Rows drawn for each row wanted: duplicates go, and a split may want a row that another has.
_MARGIN = 1.25
_SPARE = 20
# Drawn at most for each row wanted: all that are drawn are compared in memory.
_MOST_DRAWN = 8
_FEW = 10_000
_ROUNDS = 4
# A log that is short is not drawn from again for the last hundredth of what it allows.
_NEARLY = 0.99
_MOST_USES = 10


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What a data set should hold.

    Attributes:
        size: Rows over all splits.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        shares: Of training, validation and test.
        oversample: Whether training rows may be used more than once.
        seed: Decides every choice.
        own_split: Conversation and turn index → the split that the turn stays in; None where splits
            are made. Only exact duplicates inside a split then become one row.
    """

    size: int
    ratio: Ratio
    shares: Sequence[float]
    oversample: bool
    seed: int
    own_split: Mapping[tuple[str, int], str] | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a data set, and how they were selected.

    Attributes:
        splits: In order of their order keys.
        usable: All distinct rows drawn.
        dropped: Reason → rows of the log; with the rows selected they add up to the log.
        users_apart: Whether no user stands in two splits; None where no user is known.
        repeated: Rows that are in the training split a second time or more.
        available: Rows of each cell in the log.
        draws: Rows of each cell that were drawn.
        weighting: What weights do where all rows were taken; None where rows were drawn.
    """

    splits: dict[str, list[Candidate]]
    usable: list[Candidate]
    dropped: Counter[str]
    users_apart: bool | None
    repeated: int
    available: Counter[Cell]
    draws: Mapping[Cell, int]
    weighting: Weighting | None


def select_rows(log: Log, formatter: Formatter, spec: DatasetSpec, steps: Steps) -> Selection:
    """Draw from the log, leave duplicates out, split and balance.

    Where the log has fewer distinct rows than are wanted, all are taken: nearly equal ones fall
    into one split, and weights balance them.

    Args:
        log: What is drawn from.
        formatter: How a turn is formatted.
        spec: What the data set should hold.
        steps: Told of `DRAW`, `COMPARE` and `SPLIT`, as often as they are taken.
    """
    stratified = formatter.architecture == "conversation"
    draws = _draws(log.available, {}, spec, _MARGIN, stratified=stratified)
    margin = _MARGIN
    for attempt in range(1, _ROUNDS + 1):
        dropped = log.left_out.copy()
        with steps.step(DRAW, sum(draws.values()), attempt=attempt) as advance:
            rows = watched(log.drawn(draws), advance, lambda turn: turn.order_key is not None)
            candidates = from_turns(rows, formatter, dropped)
        with steps.step(COMPARE, attempt=attempt):
            exact = _without_duplicates(candidates, spec, dropped)
            short = _expected(log.available, draws, exact.rows) < spec.size
            take_all = short and draws == log.available
            distinct = exact
            if spec.own_split is None:
                distinct = _compared(exact, dropped, leave_out=not take_all)
        with steps.step(SPLIT, attempt=attempt):
            splits, users_apart = _split(distinct, spec, stratified=stratified, take_all=take_all)
        if attempt == _ROUNDS or draws == log.available:
            break
        margin *= 2
        if short and log.available.total() <= _most_drawn(spec):
            draws = dict(log.available)
            continue
        left = Counter(candidate.cell for candidate in distinct.rows)
        yields = {cell: left[cell] / n for cell, n in draws.items() if n}
        if _rows(splits) >= _enough(log.available, yields, spec, stratified=stratified):
            break
        draws = _draws(log.available, yields, spec, margin, stratified=stratified)
    weighting = None
    if take_all and splits["train"]:
        splits, weighting = weighted(splits, spec.ratio, places=stratified)
        splits["train"] = _repeated(splits["train"], spec)
    unique = {c.order_key for rows in splits.values() for c in rows}
    surplus = BEYOND_SIZE if _rows(splits) == spec.size else SURPLUS
    dropped[surplus] += log.total - len(unique) - dropped.total()
    return Selection(
        splits,
        distinct.rows,
        dropped,
        users_apart,
        _rows(splits) - len(unique),
        log.available,
        draws,
        weighting,
    )


def _without_duplicates(
    candidates: Sequence[Candidate], spec: DatasetSpec, dropped: Counter[str]
) -> Distinct:
    """The candidates without exact duplicates; with splits of one's own, inside each."""
    if spec.own_split is None:
        return deduplicated(candidates, dropped)
    pools = _own_pools(candidates, spec.own_split)
    rows = [row for pool in pools.values() for row in deduplicated(pool, dropped).rows]
    return Distinct(sorted(rows, key=lambda c: c.order_key), [])


def _own_pools(
    candidates: Sequence[Candidate], own_split: Mapping[tuple[str, int], str]
) -> dict[str, list[Candidate]]:
    """Split → the candidates that stay in it."""
    pools: dict[str, list[Candidate]] = {name: [] for name in SPLITS}
    for candidate in candidates:
        values = candidate.values
        pools[own_split[values["conversation_id"], values["turn_index"]]].append(candidate)
    return pools


def _expected(
    available: Counter[Cell], draws: Mapping[Cell, int], distinct: Sequence[Candidate]
) -> float:
    """How many distinct rows the log has, if it is as the rows drawn are."""
    drawn = sum(draws.values())
    return available.total() * len(distinct) / drawn if drawn else 0.0


def _enough(
    available: Mapping[Cell, int],
    yields: Mapping[Cell, float],
    spec: DatasetSpec,
    *,
    stratified: bool,
) -> float:
    """How many rows suffice, so that no more are drawn."""
    expected = _plan(available, yields, spec, stratified=stratified).total()
    return spec.size if expected == spec.size else _NEARLY * expected


def _draws(
    available: Counter[Cell],
    yields: Mapping[Cell, float],
    spec: DatasetSpec,
    margin: float,
    *,
    stratified: bool,
) -> dict[Cell, int]:
    """Rows of each cell to draw, with a margin for those that will go."""
    if available.total() <= max(_FEW, spec.size * _MARGIN):
        return dict(available)
    plan = _plan(available, yields, spec, stratified=stratified)
    draws = {
        cell: min(ceil(n / yields.get(cell, 1) * margin) + _SPARE, available[cell])
        for cell, n in plan.items()
        if n
    }
    scale = min(1.0, _most_drawn(spec) / max(1, sum(draws.values())))
    return {cell: int(n * scale) for cell, n in draws.items()}


def _most_drawn(spec: DatasetSpec) -> int:
    return max(_FEW, _MOST_DRAWN * spec.size)


def _plan(
    available: Mapping[Cell, int],
    yields: Mapping[Cell, float],
    spec: DatasetSpec,
    *,
    stratified: bool,
) -> Counter[Cell]:
    """Rows of each cell that the splits together want and the log can be taken to give."""
    uses = _MOST_USES if spec.oversample else 1
    usable = {cell: int(n * yields.get(cell, 1)) * uses for cell, n in available.items()}
    plan = planned(usable, spec.size, spec.ratio, spec.shares, inside=stratified)
    total: Counter[Cell] = Counter()
    for cells in plan.values():
        total.update(cells)
    return total


def _compared(exact: Distinct, dropped: Counter[str], *, leave_out: bool) -> Distinct:
    """Nearly equal rows left out; or all rows, with the groups that have nearly equal ones."""
    if leave_out:
        near = without_near(exact.rows, dropped)
        return Distinct(near.rows, exact.alike + near.alike)
    return Distinct(exact.rows, exact.alike + near_groups(exact.rows))


def _split(
    distinct: Distinct, spec: DatasetSpec, *, stratified: bool, take_all: bool
) -> tuple[dict[str, list[Candidate]], bool | None]:
    """The rows of every split, and whether users are kept apart.

    They are not where a log has too few users for three splits, such as one person's own.
    """

    def split(column: str | None) -> dict[str, list[Candidate]]:
        if take_all:
            return _all_shared_out(distinct, spec, column)
        return _balanced_splits(distinct, spec, column, stratified=stratified)

    known = any(c.values["user_id"] is not None for c in distinct.rows)
    if spec.own_split is not None:
        splits = split(None)
        return splits, not leaks(splits)["users"] if known else None
    splits = split("user_id" if known else None)
    if not known:
        return splits, None
    if all(len({c.values["label"] for c in rows}) == len(ID2LABEL) for rows in splits.values()):
        return splits, True
    return split(None), False


def _all_shared_out(
    distinct: Distinct, spec: DatasetSpec, column: str | None
) -> dict[str, list[Candidate]]:
    if spec.own_split is not None:
        return _own_pools(distinct.rows, spec.own_split)
    plan = shared_out(Counter(candidate.cell for candidate in distinct.rows), spec.shares)
    components = kept_together(distinct.rows, distinct.alike, column)
    return assigned(components, plan, spec.shares, spec.seed, both_labels=True)


def _balanced_splits(
    distinct: Distinct, spec: DatasetSpec, column: str | None, *, stratified: bool
) -> dict[str, list[Candidate]]:
    usable = Counter(candidate.cell for candidate in distinct.rows)
    plan = planned(usable, spec.size, spec.ratio, spec.shares, inside=stratified)
    if spec.own_split is None:
        components = kept_together(distinct.rows, distinct.alike, column)
        pools = assigned(components, plan, spec.shares, spec.seed)
    else:
        pools = _own_pools(distinct.rows, spec.own_split)
    sizes = split_sizes(spec.size, spec.shares)
    return {
        name: balanced(
            pools[name],
            sizes[name],
            spec.ratio,
            inside=stratified and name == "train",
            uses=_MOST_USES if spec.oversample and name == "train" else 1,
        )
        for name in SPLITS
    }


def _repeated(train: list[Candidate], spec: DatasetSpec) -> list[Candidate]:
    """The training rows once, or as often as `spec.oversample` allows and the size asks for."""
    size = split_sizes(spec.size, spec.shares)["train"] if spec.oversample else len(train)
    taken = islice(cycle(train), min(size, _MOST_USES * len(train)))
    return sorted(taken, key=lambda c: c.order_key)


def _rows(splits: Mapping[str, Sequence[Candidate]]) -> int:
    return sum(map(len, splits.values()))
