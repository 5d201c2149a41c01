"""Candidates → the rows of each split: split, balanced; knows no file.

Every choice follows the candidates' order keys, so the order of the input changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from turnout.dataset.candidates import Candidate
from turnout.records import ID2LABEL, LABEL_FAST, LABEL_REASONING

SPLITS = ("train", "validation", "test")
# A group with one row of a class would otherwise give that row the weight of the whole group.
_MAX_WEIGHT = 4.0

SURPLUS = "left over after balancing"


def split_of(group: str, seed: int, shares: Sequence[float]) -> str:
    """The split of a group: all its rows fall into one."""
    digest = hashlib.sha256(f"{seed}|split|{group}".encode()).hexdigest()
    place = int(digest[:8], 16) / 16**8
    for name, share in zip(SPLITS, shares, strict=True):
        place -= share
        if place < 0:
            return name
    return SPLITS[-1]


def balanced(
    candidates: Sequence[Candidate],
    size: int,
    ratio: tuple[int, int],
    *,
    stratify: bool,
    inside_strata: bool,
    dropped: Counter[str],
) -> list[Candidate]:
    """As many rows as `size` and the scarcer label allow, in the ratio, never one twice.

    Args:
        candidates: In order of their order keys.
        size: Rows wanted.
        ratio: Parts of reasoning and fast.
        stratify: Take from every turn-count bucket as equally as the rows allow.
        inside_strata: Keep the ratio inside every bucket too, so that the length of a conversation
            tells nothing of the label. Costs rows where a bucket lacks a label.
        dropped: Reason → rows, added to.
    """
    cells: dict[int, dict[str, list[Candidate]]] = {label: defaultdict(list) for label in ID2LABEL}
    for candidate in candidates:
        stratum = candidate.values["stratum"] if stratify else "all"
        cells[candidate.values["label"]][stratum].append(candidate)
    parts = dict(zip(ID2LABEL, ratio, strict=True))
    wanted = size // sum(ratio)
    if inside_strata:
        room = {
            stratum: min(len(cells[label][stratum]) // part for label, part in parts.items())
            for stratum in {s for rows in cells.values() for s in rows}
        }
        quotas = dict.fromkeys(ID2LABEL, _water_filled(room, wanted))
    else:
        have = {label: sum(map(len, cells[label].values())) for label in ID2LABEL}
        units = min(wanted, *(have[label] // part for label, part in parts.items()))
        quotas = {
            label: _water_filled({s: len(r) for s, r in cells[label].items()}, units * part)
            for label, part in parts.items()
        }
    taken = []
    for label, part in parts.items():
        for stratum, rows in cells[label].items():
            taken += rows[: quotas[label].get(stratum, 0) * (part if inside_strata else 1)]
    dropped[SURPLUS] += len(candidates) - len(taken)
    return sorted(taken, key=lambda c: c.order_key)


def weighted_within_groups(candidates: Sequence[Candidate]) -> None:
    """Give both labels the same weight inside every group, so that a group's name tells nothing.

    Rows without a label keep weight 1. Weights are capped at `_MAX_WEIGHT`.
    """
    counts = Counter((c.values["stratum"], c.values["label"]) for c in candidates)
    for candidate in candidates:
        stratum, label = candidate.values["stratum"], candidate.values["label"]
        if label is None:
            continue
        both = counts[stratum, LABEL_REASONING] + counts[stratum, LABEL_FAST]
        candidate.values["weight"] = min(_MAX_WEIGHT, both / (2 * counts[stratum, label]))


def leaks(splits: Mapping[str, Sequence[Candidate]]) -> dict[str, int]:
    """How many groups and texts stand in more than one split; both should be 0."""
    conversations = ({c.group for c in rows} for rows in splits.values())
    texts = ({c.text_key for c in rows} for rows in splits.values())
    return {"conversations": _in_several(conversations), "texts": _in_several(texts)}


def _in_several(sets: Iterable[set[str]]) -> int:
    return sum(n > 1 for n in Counter(chain.from_iterable(sets)).values())


def _water_filled(room: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Share `wanted` units among strata as equally as their room allows."""
    given = dict.fromkeys(sorted(room), 0)
    while wanted > 0:
        open_ = [stratum for stratum in given if given[stratum] < room[stratum]]
        if not open_:
            break
        each = max(1, wanted // len(open_))
        for stratum in open_:
            units = min(each, room[stratum] - given[stratum], wanted)
            given[stratum] += units
            wanted -= units
    return given
