"""Weights that balance the rows of a log that is too short to leave rows out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import Cell, Ratio
from turnout.records import LABEL_FAST, LABEL_REASONING

# Limits, or a few rows would dominate the training.
MOST_FOR_LABEL = 10.0
MOST_FOR_PLACE = 2.0
_ROUNDS = 50

Sums = Mapping[Cell, float]


@dataclass(frozen=True, slots=True)
class Weighting:
    """What the weights reach.

    Attributes:
        target_share: Weighted share of reasoning that the ratio asks for, in [0, 1].
        share: The weighted share of the training rows.
        label_factors: Split → label → the factor of its rows' weights, without that of their place.
        places: Turn-count buckets and positions that were made equal in the training rows.
        capped_places: Those of them whose factor is at its limit, `MOST_FOR_PLACE` or its inverse.
    """

    target_share: float
    share: float
    label_factors: dict[str, dict[int, float]]
    places: int
    capped_places: int


def weighted(
    splits: Mapping[str, Sequence[Candidate]], ratio: Ratio, *, places: bool
) -> tuple[dict[str, list[Candidate]], Weighting]:
    """The same rows, weighted so that the labels are in the ratio.

    In the training split turn-count buckets weigh the same too, and positions inside each bucket;
    the share of labels inside a place stays as it is. The total weight of a split does not change,
    and the labels of every split are in the ratio that the training rows reach.

    Args:
        splits: `train` first.
        ratio: Parts of reasoning and fast.
        places: Whether buckets and positions are made equal.

    Source:
        Deming and Stephan (1940), "On a least squares adjustment of a sampled frequency table when
        the expected marginal totals are known": one margin after the other, until all match.
    """
    target = share = ratio[0] / sum(ratio)
    rows_of: dict[str, list[Candidate]] = {}
    factors: dict[str, dict[int, float]] = {}
    n_places = capped = 0
    for name, rows in splits.items():
        sums = _sums(rows)
        by_place = dict.fromkeys({_place(cell) for cell in sums}, 1.0)
        factors[name] = _label_factors(sums, share)
        if name == "train":
            if places:
                by_place, factors[name], capped = _raked(sums, share)
                n_places = len(by_place)
            share = _share(sums, by_place, factors[name])
        rows_of[name] = [
            _times(row, by_place[_place(row.cell)] * factors[name][row.values["label"]])
            for row in rows
        ]
    return rows_of, Weighting(target, share, factors, n_places, capped)


def _sums(rows: Sequence[Candidate]) -> dict[Cell, float]:
    weights: dict[Cell, list[float]] = defaultdict(list)
    for row in rows:
        weights[row.cell].append(row.values["weight"])
    return {cell: fsum(weights[cell]) for cell in sorted(weights)}


def _place(cell: Cell) -> tuple[str, str]:
    return cell.stratum, cell.position


def _times(row: Candidate, factor: float) -> Candidate:
    return replace(row, values=row.values | {"weight": row.values["weight"] * factor})


def _label_factors(sums: Sums, share: float) -> dict[int, float]:
    """Label → factor that gives reasoning its share of the weight, within the limit."""
    reasoning, fast = (
        fsum(weight for cell, weight in sums.items() if cell.label == label)
        for label in (LABEL_REASONING, LABEL_FAST)
    )
    if not reasoning or not fast:
        return {LABEL_REASONING: 1.0, LABEL_FAST: 1.0}
    ratio = share / (1 - share) * fast / reasoning
    ratio = min(max(ratio, 1 / MOST_FOR_LABEL), MOST_FOR_LABEL)
    fast_factor = (reasoning + fast) / (ratio * reasoning + fast)
    return {LABEL_REASONING: ratio * fast_factor, LABEL_FAST: fast_factor}


def _raked(sums: Sums, share: float) -> tuple[dict[tuple[str, str], float], dict[int, float], int]:
    """Factors of places and of labels, and how many of the places are at their limit."""
    positions = defaultdict(set)
    for cell in sums:
        positions[cell.stratum].add(cell.position)
    total = fsum(sums.values())
    targets = {
        (stratum, position): total / len(positions) / len(inside)
        for stratum, inside in positions.items()
        for position in inside
    }
    by_place = dict.fromkeys(targets, 1.0)
    by_label = _label_factors(sums, share)
    for _ in range(_ROUNDS):
        current = dict.fromkeys(targets, 0.0)
        for cell, weight in sums.items():
            current[_place(cell)] += weight * by_label[cell.label or 0]
        by_place = {
            place: min(max(target / current[place], 1 / MOST_FOR_PLACE), MOST_FOR_PLACE)
            for place, target in targets.items()
        }
        placed = {cell: weight * by_place[_place(cell)] for cell, weight in sums.items()}
        by_label = _label_factors(placed, share)
        # Places at their limit change the total, which is restored.
        correction = total / fsum(placed.values())
        by_label = {label: factor * correction for label, factor in by_label.items()}
    capped = sum(factor in (1 / MOST_FOR_PLACE, MOST_FOR_PLACE) for factor in by_place.values())
    return by_place, by_label, capped


def _share(
    sums: Sums, by_place: Mapping[tuple[str, str], float], by_label: Mapping[int, float]
) -> float:
    """The weighted share of reasoning."""
    of_label = dict.fromkeys(by_label, 0.0)
    for cell, weight in sums.items():
        label = cell.label or 0
        of_label[label] += weight * by_place[_place(cell)] * by_label[label]
    return of_label[LABEL_REASONING] / sum(of_label.values())
