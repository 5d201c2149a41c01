"""Candidates → the rows of one split, balanced.

Rows are taken by their order keys, so the order of the input changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, islice

from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import Cell, Ratio, quotas


def balanced(
    candidates: Sequence[Candidate], size: int, ratio: Ratio, *, inside: bool, uses: int = 1
) -> list[Candidate]:
    """As many rows as `size` and the scarcer label allow, in the ratio.

    Args:
        candidates: In order of their order keys.
        size: Rows wanted.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        inside: Keep the ratio inside every bucket and position too; see `cells.quotas`.
        uses: How often a row may stand in the result; more than once only where the rows of its
            cell do not suffice.

    Returns:
        In order of their order keys.
    """
    cells: dict[Cell, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        cells[candidate.cell].append(candidate)
    room = {cell: len(rows) * uses for cell, rows in cells.items()}
    taken: list[Candidate] = []
    for cell, n in quotas(room, size, ratio, inside=inside).items():
        taken += islice(cycle(cells[cell]), n)
    return sorted(taken, key=lambda c: c.order_key)
