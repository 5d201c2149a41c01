"""Candidates → the balanced rows of one split.

Rows are taken in the order of their keys, so the order of the input changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import Cell, Ratio, quotas


def balanced(
    candidates: Sequence[Candidate], size: int, ratio: Ratio, *, inside: bool
) -> list[Candidate]:
    """As many rows as `size` and the scarcer label allow, in the ratio.

    Args:
        candidates: In order of their order keys.
        size: The number of rows to reach.
        ratio: Parts of reasoning and fast, in smallest whole numbers.
        inside: Whether the ratio holds inside every bucket and position too; see `cells.quotas`.

    Returns:
        In order of their order keys.
    """
    cells: dict[Cell, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        cells[candidate.cell].append(candidate)
    room = {cell: len(members) for cell, members in cells.items()}
    rows: list[Candidate] = []
    for cell, n in quotas(room, size, ratio, inside=inside).items():
        rows += cells[cell][:n]
    return sorted(rows, key=lambda c: c.order_key)
