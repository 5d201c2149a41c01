"""A log → the rows of every split.

If the log has fewer distinct rows than the data set asks for, all are used, and weighted. From a
longer log rows are drawn. How many to draw of each cell depends on duplicates and splits, so a draw
has a margin, and is repeated with better counts if rows are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from turnout.dataset.balancing import balanced
from turnout.dataset.candidates import Candidate, from_turns
from turnout.dataset.cells import SPLITS, Cell, Ratio, planned, shared_out, split_sizes
from turnout.dataset.drawing import Log
from turnout.dataset.duplicates import Distinct, deduplicated, near_groups, without_near
from turnout.dataset.groups import assigned, components_of, leaks
from turnout.dataset.traffic import TrafficSample
from turnout.dataset.weighting import Weighting, weighted
from turnout.progress import Steps, watched
from turnout.records import ID2LABEL
from turnout.routing import Formatter

SURPLUS = "left over after balancing"
BEYOND_SIZE = "beyond the size asked for"
DRAW, COMPARE, SPLIT = "draw rows", "compare rows", "split and balance"

# Rows drawn for each row of the data set: some are duplicates, some in the wrong split.
_MARGIN = 1.25
_SPARE = 20
# The most rows drawn for each row of the data set: all are compared in memory.
_MAX_DRAWS_A_ROW = 8
_FEW = 10_000
_ROUNDS = 4
# No new draw for the last hundredth of what the log allows.
_NEARLY = 0.99


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What a data set should hold.

    Attributes:
        size: Rows over all splits.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        shares: Of training, validation and test.
        seed: Decides every choice.
        fixed_split: Conversation and turn index → the split given by the user; None where splits
            are made here. With it, only exact duplicates inside a split become one row.
    """

    size: int
    ratio: Ratio
    shares: Sequence[float]
    seed: int
    fixed_split: Mapping[tuple[str, int], str] | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a data set, and how they were selected.

    Attributes:
        splits: Split → rows, in the order of their keys.
        usable: All distinct rows drawn.
        dropped: Reason → rows of the log; with the rows selected they add up to the log.
        users_apart: Whether no user is in two splits; None where no user is known.
        available: Rows of each cell in the log.
        draws: Rows of each cell that were drawn.
        weighting: The weights where all rows were used; None where rows were drawn.
    """

    splits: dict[str, list[Candidate]]
    usable: list[Candidate]
    dropped: Counter[str]
    users_apart: bool | None
    available: Counter[Cell]
    draws: Mapping[Cell, int]
    weighting: Weighting | None


def select_rows(
    log: Log,
    formatter: Formatter,
    spec: DatasetSpec,
    steps: Steps,
    traffic: TrafficSample | None = None,
) -> Selection:
    """Draw from the log, remove duplicates, split and balance.

    Where the log has fewer distinct rows than the specification asks for, all are used: nearly
    equal ones fall into one split, and weights balance the rows.

    Args:
        log: The log.
        formatter: How a turn is formatted.
        spec: What the data set should hold.
        steps: Reports `DRAW`, `COMPARE` and `SPLIT`, once a round.
        traffic: Takes the texts of its conversations from what is read here.
    """
    stratified = formatter.architecture == "conversation"
    draws = _draws(log.available, {}, spec, _MARGIN, stratified=stratified)
    margin = _MARGIN
    for attempt in range(1, _ROUNDS + 1):
        dropped = log.left_out.copy()
        with steps.step(DRAW, sum(draws.values()), attempt=attempt) as advance:
            ahead = traffic.ahead(sum(draws.values())) if traffic else []
            drawn = log.draw(draws, ahead)
            if traffic:
                drawn = traffic.reading(drawn, ahead)
            rows = watched(drawn, advance, lambda turn: turn.order_key is not None)
            candidates = from_turns(rows, formatter, dropped)
        with steps.step(COMPARE, attempt=attempt):
            exact = _without_duplicates(candidates, spec, dropped)
            short = _expected(log.available, draws, exact.rows) < spec.size
            take_all = short and draws == log.available
            distinct = exact
            if spec.fixed_split is None:
                distinct = _compared(exact, dropped, leave_out=not take_all)
        with steps.step(SPLIT, attempt=attempt):
            splits, users_apart = _split(distinct, spec, stratified=stratified, take_all=take_all)
        if attempt == _ROUNDS or draws == log.available:
            break
        margin *= 2
        if short and log.available.total() <= _max_draws(spec):
            draws = dict(log.available)
            continue
        counts = Counter(candidate.cell for candidate in distinct.rows)
        yields = {cell: counts[cell] / n for cell, n in draws.items() if n}
        if _rows(splits) >= _enough(log.available, yields, spec, stratified=stratified):
            break
        draws = _draws(log.available, yields, spec, margin, stratified=stratified)
    weighting = None
    if take_all and splits["train"]:
        splits, weighting = weighted(splits, spec.ratio, places=stratified)
    n_rows = _rows(splits)
    surplus = BEYOND_SIZE if n_rows == spec.size else SURPLUS
    dropped[surplus] += log.total - n_rows - dropped.total()
    return Selection(
        splits,
        distinct.rows,
        dropped,
        users_apart,
        log.available,
        draws,
        weighting,
    )


def _without_duplicates(
    candidates: Sequence[Candidate], spec: DatasetSpec, dropped: Counter[str]
) -> Distinct:
    """The candidates without exact duplicates; with fixed splits, inside each split."""
    if spec.fixed_split is None:
        return deduplicated(candidates, dropped)
    pools = _fixed_pools(candidates, spec.fixed_split)
    rows = [row for pool in pools.values() for row in deduplicated(pool, dropped).rows]
    return Distinct(sorted(rows, key=lambda c: c.order_key), [])


def _fixed_pools(
    candidates: Sequence[Candidate], fixed_split: Mapping[tuple[str, int], str]
) -> dict[str, list[Candidate]]:
    """Split → its candidates, by the user's own splits."""
    pools: dict[str, list[Candidate]] = {name: [] for name in SPLITS}
    for candidate in candidates:
        values = candidate.values
        pools[fixed_split[values["conversation_id"], values["turn_index"]]].append(candidate)
    return pools


def _expected(
    available: Counter[Cell], draws: Mapping[Cell, int], distinct: Sequence[Candidate]
) -> float:
    """The estimated number of distinct rows in the log, from the share among the drawn rows."""
    n_drawn = sum(draws.values())
    return available.total() * len(distinct) / n_drawn if n_drawn else 0.0


def _enough(
    available: Mapping[Cell, int],
    yields: Mapping[Cell, float],
    spec: DatasetSpec,
    *,
    stratified: bool,
) -> float:
    """The number of rows at which no more are drawn."""
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
    """Rows of each cell to draw, with a margin for rows that will be removed."""
    if available.total() <= max(_FEW, spec.size * _MARGIN):
        return dict(available)
    plan = _plan(available, yields, spec, stratified=stratified)
    draws = {
        cell: min(ceil(n / yields.get(cell, 1) * margin) + _SPARE, available[cell])
        for cell, n in plan.items()
        if n
    }
    scale = min(1.0, _max_draws(spec) / max(1, sum(draws.values())))
    return {cell: int(n * scale) for cell, n in draws.items()}


def _max_draws(spec: DatasetSpec) -> int:
    return max(_FEW, _MAX_DRAWS_A_ROW * spec.size)


def _plan(
    available: Mapping[Cell, int],
    yields: Mapping[Cell, float],
    spec: DatasetSpec,
    *,
    stratified: bool,
) -> Counter[Cell]:
    """Rows of each cell over all splits that the log is expected to give."""
    usable = {cell: int(n * yields.get(cell, 1)) for cell, n in available.items()}
    plan = planned(usable, spec.size, spec.ratio, spec.shares, inside=stratified)
    total: Counter[Cell] = Counter()
    for cells in plan.values():
        total.update(cells)
    return total


def _compared(exact: Distinct, dropped: Counter[str], *, leave_out: bool) -> Distinct:
    """The rows without near duplicates; or all rows, with the pairs of groups that share them."""
    if leave_out:
        near = without_near(exact.rows, dropped)
        return Distinct(near.rows, exact.alike + near.alike)
    return Distinct(exact.rows, exact.alike + near_groups(exact.rows))


def _split(
    distinct: Distinct, spec: DatasetSpec, *, stratified: bool, take_all: bool
) -> tuple[dict[str, list[Candidate]], bool | None]:
    """The rows of every split, and whether no user is in two of them.

    Users cannot be kept apart where a log has too few of them, such as one person's log.
    """

    def split(column: str | None) -> dict[str, list[Candidate]]:
        if take_all:
            return _all_shared_out(distinct, spec, column)
        return _balanced_splits(distinct, spec, column, stratified=stratified)

    has_users = any(c.values["user_id"] is not None for c in distinct.rows)
    if spec.fixed_split is not None:
        splits = split(None)
        return splits, not leaks(splits)["users"] if has_users else None
    splits = split("user_id" if has_users else None)
    if not has_users:
        return splits, None
    if all(len({c.values["label"] for c in rows}) == len(ID2LABEL) for rows in splits.values()):
        return splits, True
    return split(None), False


def _all_shared_out(
    distinct: Distinct, spec: DatasetSpec, column: str | None
) -> dict[str, list[Candidate]]:
    if spec.fixed_split is not None:
        return _fixed_pools(distinct.rows, spec.fixed_split)
    plan = shared_out(Counter(candidate.cell for candidate in distinct.rows), spec.shares)
    components = components_of(distinct.rows, distinct.alike, column)
    return assigned(components, plan, spec.shares, spec.seed, both_labels=True)


def _balanced_splits(
    distinct: Distinct, spec: DatasetSpec, column: str | None, *, stratified: bool
) -> dict[str, list[Candidate]]:
    usable = Counter(candidate.cell for candidate in distinct.rows)
    plan = planned(usable, spec.size, spec.ratio, spec.shares, inside=stratified)
    if spec.fixed_split is None:
        components = components_of(distinct.rows, distinct.alike, column)
        pools = assigned(components, plan, spec.shares, spec.seed)
    else:
        pools = _fixed_pools(distinct.rows, spec.fixed_split)
    sizes = split_sizes(spec.size, spec.shares)
    return {
        name: balanced(pools[name], sizes[name], spec.ratio, inside=stratified and name == "train")
        for name in SPLITS
    }


def _rows(splits: Mapping[str, Sequence[Candidate]]) -> int:
    return sum(map(len, splits.values()))
