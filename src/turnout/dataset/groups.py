"""What must stay in one split: conversations, users, inputs that are alike."""

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
    """The split that the hash of a group's name gives it, in proportion to the shares."""
    digest = hashlib.sha256(f"{seed}|split|{group}".encode()).hexdigest()
    place = int(digest[:8], 16) / 16**8
    for name, share in zip(SPLITS, shares, strict=True):
        place -= share
        if place < 0:
            return name
    return SPLITS[-1]


def kept_together(
    candidates: Sequence[Candidate], alike: Iterable[tuple[str, str]], by: str | None
) -> dict[str, list[Candidate]]:
    """The least conversation id of each connected component → its rows.

    Conversations are connected that have an input in common, or a value of the column `by`.

    Args:
        candidates: In order of their order keys.
        alike: Pairs of groups that are connected.
        by: `user_id` or `cv_group`; rows without a value stand alone. None where no column counts.
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
    """Split → all rows of the components that fall into it.

    A component falls where most of its rows are wanted, and among equals where its hash says; large
    ones first, since they fit in fewer places.

    Args:
        components: Name → rows.
        plan: Split → rows wanted of each cell.
        shares: Of the splits.
        seed: Decides between equals.
        both_labels: Whether a split without a label takes a component from the training rows that
            has it, however large. Without, so few large components may leave a split empty.
    """
    need = {split: Counter(plan[split]) for split in SPLITS}
    # What is small beside the smallest split may come in any order.
    step = max(1, min(sum(wanted.values()) for wanted in plan.values()) // 20)
    ordered = sorted(
        components.items(), key=lambda c: (-(len(c[1]) // step), _place_in_order(c[0], seed))
    )
    splits: dict[str, list[Sequence[Candidate]]] = {split: [] for split in SPLITS}
    for name, rows in ordered:
        cells = Counter(row.cell for row in rows)
        fits = {
            split: sum(min(n, need[split][cell]) for cell, n in cells.items()) for split in SPLITS
        }
        preferred = split_of(name, seed, shares)
        chosen = max(SPLITS, key=lambda split: (fits[split], split == preferred))
        need[chosen].subtract({c: min(n, need[chosen][c]) for c, n in cells.items()})
        splits[chosen].append(rows)
    if both_labels:
        _give_missing_labels(splits)
    return {
        split: sorted(chain.from_iterable(parts), key=attrgetter("order_key"))
        for split, parts in splits.items()
    }


def _give_missing_labels(splits: Mapping[str, list[Sequence[Candidate]]]) -> None:
    """Move the least component with a label from the training rows to each split that lacks it."""

    def with_label(name: str, label: int) -> list[int]:
        parts = splits[name]
        places = [at for at, rows in enumerate(parts) if label in {r.values["label"] for r in rows}]
        return sorted(places, key=lambda at: len(parts[at]))

    for name in SPLITS[1:]:
        for label in ID2LABEL:
            donors = with_label(SPLITS[0], label)
            if not with_label(name, label) and len(donors) > 1:
                splits[name].append(splits[SPLITS[0]].pop(donors[0]))


def _place_in_order(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|order|{name}".encode()).hexdigest()


def leaks(splits: Mapping[str, Sequence[Candidate]]) -> dict[str, int]:
    """How many conversations, texts and users stand in more than one split; each should be 0.

    A text is what the encoder reads, message and context, in normal form.
    """
    rows = [row for split in splits.values() for row in split]
    split_of_row = [name for name, split in splits.items() for _ in split]

    def crossing(names: Iterable[Hashable]) -> int:
        places = set(zip(names, split_of_row, strict=True))
        return sum(n > 1 for n in Counter(name for name, _ in places if name is not None).values())

    return {
        "conversations": crossing(row.group for row in rows),
        "texts": crossing(input_keys(rows)),
        "users": crossing(row.values["user_id"] for row in rows),
    }
