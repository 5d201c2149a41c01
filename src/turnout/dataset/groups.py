"""Keeps conversations, users and nearly equal inputs in one split."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter

from turnout.dataset.candidates import Candidate, input_keys
from turnout.dataset.cells import SPLITS, Cell
from turnout.dataset.disjoint_set import DisjointSet
from turnout.records import ID2LABEL


def split_of(group: str, seed: int, shares: Sequence[float]) -> str:
    """The split of a group by the hash of its name, in proportion to the shares."""
    digest = hashlib.sha256(f"{seed}|split|{group}".encode()).hexdigest()
    place = int(digest[:8], 16) / 16**8
    for name, share in zip(SPLITS, shares, strict=True):
        place -= share
        if place < 0:
            return name
    return SPLITS[-1]


def components_of(
    candidates: Sequence[Candidate], alike: Iterable[tuple[str, str]], by: str | None
) -> dict[str, list[Candidate]]:
    """The rows of each connected component of conversations, by its least conversation id.

    Conversations are connected if they have an input in common, or a value of the column `by`.

    Args:
        candidates: In order of their order keys.
        alike: Pairs of groups that are connected.
        by: `user_id` or `cv_group`; rows without a value connect nothing. None for no column.
    """
    groups = DisjointSet()
    for first, second in alike:
        groups.join(first, second)
    group_of: dict[str, str] = {}
    for candidate in candidates:
        value = candidate.values[by] if by else None
        if value is not None:
            group = group_of.setdefault(value, candidate.group)
            if group != candidate.group:
                groups.join(group, candidate.group)
    components: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        components[groups.root(candidate.group)].append(candidate)
    return dict(components)


def assigned(
    components: Mapping[str, Sequence[Candidate]],
    plan: Mapping[str, Mapping[Cell, int]],
    shares: Sequence[float],
    seed: int,
    *,
    both_labels: bool = False,
) -> dict[str, list[Candidate]]:
    """Split → all rows of the components assigned to it.

    A component goes to the split that needs most of its rows; its hash decides ties. Large ones are
    assigned first, since they fit in fewer splits.

    Args:
        components: Name → rows.
        plan: Split → rows needed of each cell.
        shares: Of the splits.
        seed: Decides ties.
        both_labels: Whether a split that lacks a label gets a component with it from the training
            rows, however large.
    """
    need = {split: Counter(plan[split]) for split in SPLITS}
    # The order of components that are small beside the smallest split does not matter.
    step = max(1, min(sum(cells.values()) for cells in plan.values()) // 20)
    ordered = sorted(
        components.items(), key=lambda c: (-(len(c[1]) // step), _place_in_order(c[0], seed))
    )
    splits: dict[str, list[Sequence[Candidate]]] = {split: [] for split in SPLITS}
    for name, rows in ordered:
        cells = {rows[0].cell: 1} if len(rows) == 1 else Counter(row.cell for row in rows)
        fits = {
            split: sum([min(n, need[split][cell]) for cell, n in cells.items()]) for split in SPLITS
        }
        most = max(fits.values())
        fitting = [split for split in SPLITS if fits[split] == most]
        best = fitting[0]
        if len(fitting) > 1 and (preferred := split_of(name, seed, shares)) in fitting:
            best = preferred
        for cell, n in cells.items():
            need[best][cell] -= min(n, need[best][cell])
        splits[best].append(rows)
    if both_labels:
        _give_missing_labels(splits)
    return {
        split: sorted(chain.from_iterable(parts), key=attrgetter("order_key"))
        for split, parts in splits.items()
    }


def _give_missing_labels(splits: Mapping[str, list[Sequence[Candidate]]]) -> None:
    """Give each split that lacks a label the smallest training component that has it."""

    def with_label(name: str, label: int) -> list[int]:
        parts = splits[name]
        places = [i for i, rows in enumerate(parts) if label in {r.values["label"] for r in rows}]
        return sorted(places, key=lambda i: len(parts[i]))

    for name in SPLITS[1:]:
        for label in ID2LABEL:
            donors = with_label(SPLITS[0], label)
            if not with_label(name, label) and len(donors) > 1:
                splits[name].append(splits[SPLITS[0]].pop(donors[0]))


def _place_in_order(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|order|{name}".encode()).hexdigest()


def leaks(splits: Mapping[str, Sequence[Candidate]]) -> dict[str, int]:
    """How many conversations, texts and users are in more than one split; each should be 0.

    A text is an input to the encoder, message and context, in normal form.
    """
    rows = [row for split in splits.values() for row in split]
    split_of_row = [name for name, split in splits.items() for _ in split]

    def crossing(names: Iterable[Hashable]) -> int:
        first_split: dict[Hashable, str] = {}
        crossed = {
            name
            for name, split in zip(names, split_of_row, strict=True)
            if first_split.setdefault(name, split) != split
        }
        return len(crossed - {None})

    return {
        "conversations": crossing(row.group for row in rows),
        "texts": crossing(input_keys(rows)),
        "users": crossing(row.values["user_id"] for row in rows),
    }
