"""A log and a wish → the rows of every split, drawing more until the wish is met; knows no file.

How many rows of each cell to draw is not known before duplicates are gone and the splits are made:
a draw is tried with a margin, and repeated with what it taught where rows are short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from turnout.dataset.candidates import Candidate, from_turns
from turnout.dataset.cells import SPLITS, Cell, Ratio, planned, split_sizes
from turnout.dataset.drawing import Log
from turnout.dataset.duplicates import Distinct, deduplicated, without_near
from turnout.dataset.groups import assigned, kept_together
from turnout.dataset.selection import balanced
from turnout.progress import Steps, watched
from turnout.records import ID2LABEL
from turnout.routing import Formatter

SURPLUS = "left over after balancing"
DRAW, COMPARE, SPLIT = "draw rows", "compare rows", "split and balance"

# Rows drawn for each row wanted: duplicates go, and a split may want a row that another has.
_MARGIN = 1.25
_SPARE = 20
# Drawn at most for each row wanted: so many are compared with one another in memory.
_MOST_DRAWN = 8
_FEW = 10_000
_ROUNDS = 4
# A log that is short is not drawn from again for the last hundredth of what it allows.
_NEARLY = 0.99
_MOST_USES = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What a data set should hold.

    Attributes:
        size: Rows over all splits.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        shares: Of training, validation and test.
        oversample: Whether training rows may be used more than once.
        seed: Decides every choice.
    """

    size: int
    ratio: Ratio
    shares: Sequence[float]
    oversample: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a data set and how they were come by.

    Attributes:
        splits: In order of their order keys.
        usable: All distinct rows drawn.
        dropped: Reason → rows of the log; with the rows chosen they add up to the log.
        users_apart: Whether no user stands in two splits; None where no user is known.
        repeated: Rows that are in the training split a second time or more.
        found: Rows of each cell in the log.
        draws: Rows of each cell that were drawn.
    """

    splits: dict[str, list[Candidate]]
    usable: list[Candidate]
    dropped: Counter[str]
    users_apart: bool | None
    repeated: int
    found: Mapping[Cell, int]
    draws: Mapping[Cell, int]


def chosen_rows(log: Log, formatter: Formatter, wish: Wish, steps: Steps) -> Chosen:
    """Draw from the log, leave duplicates out, split and balance.

    Args:
        log: What is drawn from.
        formatter: How a turn is shown.
        wish: What the data set should hold.
        steps: Told of `DRAW`, `COMPARE` and `SPLIT`, as often as they are taken.
    """
    stratified = formatter.architecture == "conversation"
    yields: dict[Cell, float] = {}
    margin = _MARGIN
    for attempt in range(1, _ROUNDS + 1):
        draws = _draws(log.found, yields, wish, margin, stratified=stratified)
        dropped = log.left_out.copy()
        with steps.step(DRAW, sum(draws.values()), attempt=attempt) as tell:
            rows = watched(log.drawn(draws), tell, lambda turn: turn.order_key is not None)
            drawn = from_turns(rows, formatter, dropped)
        with steps.step(COMPARE, attempt=attempt):
            distinct = _distinct(drawn, dropped)
        with steps.step(SPLIT, attempt=attempt):
            splits, users_apart = _split(distinct, wish, stratified=stratified)
        kept = Counter(candidate.cell for candidate in distinct.rows)
        yields = {cell: kept[cell] / n for cell, n in draws.items() if n}
        able = sum(_plan(log.found, yields, wish, stratified=stratified).values())
        enough = wish.size if able == wish.size else _NEARLY * able
        if _rows(splits) >= enough or draws == log.found:
            break
        margin *= 2
    unique = {c.order_key for rows in splits.values() for c in rows}
    dropped[SURPLUS] += log.total - len(unique) - dropped.total()
    return Chosen(
        splits,
        distinct.rows,
        dropped,
        users_apart,
        _rows(splits) - len(unique),
        log.found,
        draws,
    )


def _draws(
    found: Counter[Cell],
    yields: Mapping[Cell, float],
    wish: Wish,
    margin: float,
    *,
    stratified: bool,
) -> dict[Cell, int]:
    """Rows of each cell to draw, with a margin for those that will go."""
    if found.total() <= max(_FEW, wish.size * _MARGIN):
        return dict(found)
    plan = _plan(found, yields, wish, stratified=stratified)
    draws = {
        cell: min(ceil(n / yields.get(cell, 1) * margin) + _SPARE, found[cell])
        for cell, n in plan.items()
        if n
    }
    scale = min(1.0, max(_FEW, _MOST_DRAWN * wish.size) / max(1, sum(draws.values())))
    return {cell: int(n * scale) for cell, n in draws.items()}


def _plan(
    found: Mapping[Cell, int], yields: Mapping[Cell, float], wish: Wish, *, stratified: bool
) -> Counter[Cell]:
    """Rows of each cell that the splits together want and the log can be taken to give."""
    uses = _MOST_USES if wish.oversample else 1
    room = {cell: int(n * yields.get(cell, 1)) * uses for cell, n in found.items()}
    plan = planned(room, wish.size, wish.ratio, wish.shares, inside=stratified)
    total: Counter[Cell] = Counter()
    for cells in plan.values():
        total.update(cells)
    return total


def _distinct(drawn: Sequence[Candidate], dropped: Counter[str]) -> Distinct:
    exact = deduplicated(drawn, dropped)
    near = without_near(exact.rows, dropped)
    return Distinct(near.rows, exact.alike + near.alike)


def _split(
    distinct: Distinct, wish: Wish, *, stratified: bool
) -> tuple[dict[str, list[Candidate]], bool | None]:
    """The rows of every split, and whether users are kept apart.

    They are not where a log has too few users for three splits, such as one person's own.
    """
    known = any(c.values["user_id"] is not None for c in distinct.rows)
    splits = _split_by(distinct, wish, by_user=known, stratified=stratified)
    if not known:
        return splits, None
    if all(len({c.values["label"] for c in rows}) == len(ID2LABEL) for rows in splits.values()):
        return splits, True
    return _split_by(distinct, wish, by_user=False, stratified=stratified), False


def _split_by(
    distinct: Distinct, wish: Wish, *, by_user: bool, stratified: bool
) -> dict[str, list[Candidate]]:
    room = Counter(candidate.cell for candidate in distinct.rows)
    plan = planned(room, wish.size, wish.ratio, wish.shares, inside=stratified)
    components = kept_together(distinct.rows, distinct.alike, by_user=by_user)
    pools = assigned(components, plan, wish.shares, wish.seed)
    sizes = split_sizes(wish.size, wish.shares)
    return {
        name: balanced(
            pools[name],
            sizes[name],
            wish.ratio,
            inside=stratified and name == "train",
            uses=_MOST_USES if wish.oversample and name == "train" else 1,
        )
        for name in SPLITS
    }


def _rows(splits: Mapping[str, Sequence[Candidate]]) -> int:
    return sum(map(len, splits.values()))
