"""Divides a Kusto result into cells that each fit into one reply.

A result is counted in bins: a part of all conversations (by the hash of their id) and a block of
turn indices. Neighbouring bins that fit into one reply are a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

BLOCK_TURNS = 100


@dataclass(frozen=True, slots=True, order=True)
class Bin:
    """What the service counted of one part and block.

    Attributes:
        part: In [0, 65535]; a conversation lies in one part.
        block: Turn index // 100.
        rows: Rows of the result.
        size_bytes: Their size as the service estimates it.
    """

    part: int
    block: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReplyLimits:
    """How much one reply may hold; the service's own limits are 500,000 rows and 64 MB."""

    rows: int = 250_000
    size_bytes: int = 32 << 20

    def hold(self, bins: Sequence[Bin]) -> bool:
        """Whether the bins fit together."""
        return (
            sum(each.rows for each in bins) <= self.rows
            and sum(each.size_bytes for each in bins) <= self.size_bytes
        )

    def halved(self) -> ReplyLimits:
        """Half as much."""
        return ReplyLimits(self.rows // 2, self.size_bytes // 2)


@dataclass(frozen=True, slots=True)
class Cell:
    """Whole parts, or neighbouring blocks of one part: a rectangle that holds these bins alone."""

    bins: tuple[Bin, ...]

    @property
    def parts(self) -> tuple[int, int]:
        """The first and the last part."""
        return self.bins[0].part, self.bins[-1].part

    @property
    def turn_indices(self) -> tuple[int, int]:
        """The least and the greatest turn index it may hold."""
        blocks = [each.block for each in self.bins]
        return min(blocks) * BLOCK_TURNS, max(blocks) * BLOCK_TURNS + BLOCK_TURNS - 1

    @property
    def rows(self) -> int:
        """How many rows the service counted."""
        return sum(each.rows for each in self.bins)

    @property
    def name(self) -> str:
        """A file name that no other cell of the result has."""
        (first, last), (least, greatest) = self.parts, self.turn_indices
        return f"parts-{first:05}-{last:05}-turns-{least}-{greatest}"

    def split(self) -> list[Cell]:
        """Smaller cells of the same bins; this cell alone where it cannot be split."""
        if len(self.bins) == 1:
            return [self]
        whole = ReplyLimits(self.rows, sum(each.size_bytes for each in self.bins))
        return cells_of(self.bins, whole.halved())


def cells_of(bins: Iterable[Bin], limits: ReplyLimits) -> list[Cell]:
    """Every bin in one cell, in order; a cell exceeds the limits only where it is a single bin."""
    parts = [list(group) for _, group in groupby(sorted(bins), key=attrgetter("part"))]
    return _packed(parts, limits)


def _packed(groups: Iterable[list[Bin]], limits: ReplyLimits) -> list[Cell]:
    cells: list[Cell] = []
    filling: list[Bin] = []
    for group in groups:
        if limits.hold(filling + group):
            filling += group
            continue
        if filling:
            cells.append(Cell(tuple(filling)))
        filling = []
        if limits.hold(group):
            filling = group
        elif len(group) == 1:
            cells.append(Cell(tuple(group)))
        else:
            cells += _packed([[each] for each in group], limits)
    return [*cells, Cell(tuple(filling))] if filling else cells
