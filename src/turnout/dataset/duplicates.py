"""Rows that say the same, exactly or nearly; knows no label and no split.

Seen to before splitting, so that no text stands on both sides of a split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from turnout.dataset.candidates import Candidate
from turnout.dataset.disjoint_set import Union

EMPTY = "empty message"
EXACT = "exact duplicate of another row"
NEAR = "near duplicate of a message in another conversation"

# Messages with this share of their word triples in common are one message.
SIMILARITY = 0.8
# Shorter ones ("yes, do it") are alike by chance.
MIN_WORDS = 8
_WORDS = re.compile(r"\w+")
_LONG = re.compile(rf"\W*+(?:\w++\W++){{{MIN_WORDS - 1}}}\w")
_PERMUTATIONS = 128
# Bands of eight: of pairs at the similarity above one in twenty is missed, at 0.9 one in 10,000.
_BANDS = 16
# A template gives thousands of messages that are alike: so many of them stand for all, or every
# message would be compared with every other.
_ENOUGH_ALIKE = 200
_SEED = 1


class Distinct(NamedTuple):
    """What is left when rows that say the same are one.

    Attributes:
        rows: In order of their order keys.
        alike: Pairs of groups, one of which lost a row to the other.
    """

    rows: list[Candidate]
    alike: list[tuple[str, str]]


def deduplicated(candidates: Sequence[Candidate], dropped: Counter[str]) -> Distinct:
    """One candidate for each distinct text, that with the least order key; empty ones left out.

    Groups that share a short text are not alike: many conversations begin with "hello".

    Args:
        candidates: In any order.
        dropped: Reason → rows, added to.
    """
    kept: dict[str, Candidate] = {}
    alike = []
    for candidate in sorted(candidates, key=lambda c: c.order_key):
        if not candidate.said:
            dropped[EMPTY] += 1
        elif candidate.text_key in kept:
            dropped[EXACT] += 1
            if is_long(candidate.said):
                alike.append((kept[candidate.text_key].group, candidate.group))
        else:
            kept[candidate.text_key] = candidate
    return Distinct(list(kept.values()), alike)


def without_near(candidates: Sequence[Candidate], dropped: Counter[str]) -> Distinct:
    """Every candidate but those that come after a nearly equal message of another group.

    Judged by the message alone: turns of one conversation share their context.

    Args:
        candidates: In order of their order keys.
        dropped: Reason → rows, added to.
    """
    finder = _NearFinder(candidates)
    # Of a template's messages the finder knows the first ones alone; equal ones are found here.
    first_of: dict[str, str] = {}
    kept, alike = [], []
    for row, candidate in enumerate(candidates):
        other = None
        if row in finder.sketches:
            groups = [candidates[other].group for other in finder.near(row)]
            if is_long(candidate.said):
                groups.append(first_of.setdefault(candidate.said, candidate.group))
            other = next((group for group in groups if group != candidate.group), None)
        if other is None:
            kept.append(candidate)
        else:
            dropped[NEAR] += 1
            alike.append((other, candidate.group))
    return Distinct(kept, alike)


def is_long(message: str) -> bool:
    """Whether a message has enough words to be told from others by them."""
    return _LONG.match(message) is not None


def grouped_by_near(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same candidates, those with nearly equal messages in one group.

    For rows too dear to leave out: they fall into one split instead.
    """
    finder = _NearFinder(candidates)
    union = Union()
    for row in finder.sketches:
        for other in finder.near(row):
            union.join(candidates[other].group, candidates[row].group)
    return [replace(candidate, group=union.least(candidate.group)) for candidate in candidates]


class _NearFinder:
    """Finds nearly equal messages among the rows asked about so far.

    MinHash (Broder 1997) finds rows to look at; the pair itself is compared exactly.

    Attributes:
        sketches: Row → its sketch, of the rows to ask about, in order; no other is near to any.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._messages = [candidate.said for candidate in candidates]
        self._index = RMinHashLSH(SIMILARITY, _PERMUTATIONS, _BANDS)
        self.sketches = _sketches(self._messages, self._index)

    def near(self, row: int) -> list[int]:
        """The rows added so far that are nearly equal to this one; it is added then."""
        alike = sorted(self._index.query(self.sketches[row]))
        if len(alike) < _ENOUGH_ALIKE:
            self._index.insert(row, self.sketches[row])
        triples = _distinct(self._messages[row])
        return [
            other
            for other in alike
            if _similarity(triples, _distinct(self._messages[other])) >= SIMILARITY
        ]


def _sketches(messages: Sequence[str], index: RMinHashLSH) -> dict[int, RMinHash]:
    """Row → sketch, of the messages that share a band with another; few where few are alike."""
    matrix = RMinHash.digest_matrix_from_token_sets(map(_triples, messages), _PERMUTATIONS, _SEED)
    shared = index.query_duplicate_flags_matrix_one_shot(matrix)
    # Short ones share all bands, as they have no triples.
    rows = [row for row in compress(range(len(messages)), shared) if _triples(messages[row])]
    made = RMinHash.from_token_sets((_triples(messages[row]) for row in rows), _PERMUTATIONS, _SEED)
    return dict(zip(rows, made, strict=True))


def _triples(message: str) -> list[str]:
    """Every three words that follow one another; none of a short message."""
    words = _WORDS.findall(message.lower())
    if len(words) < MIN_WORDS:
        return []
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


@lru_cache(maxsize=1_000)
def _distinct(message: str) -> frozenset[str]:
    return frozenset(_triples(message))


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity in [0, 1] of two sets that are not empty."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)
