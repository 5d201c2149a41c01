"""Rows that say the same, exactly or nearly; knows no label and no split.

Seen to before splitting, so that no text stands on both sides of a split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rensa import RMinHash, RMinHashLSH

from turnout.dataset.candidates import Candidate

EMPTY = "empty message"
EXACT = "exact duplicate of another row"
NEAR = "near duplicate of a message in another conversation"

# Messages with this share of their word triples in common are one message.
SIMILARITY = 0.8
# Shorter ones ("yes, do it") are alike by chance.
MIN_WORDS = 8
_WORDS = re.compile(r"\w+")
_PERMUTATIONS = 128
# Bands of eight: of pairs at the similarity above one in twenty is missed, at 0.9 one in 10,000.
_BANDS = 16
# A template gives thousands of messages that are alike: so many of them stand for all, or every
# message would be compared with every other.
_ENOUGH_ALIKE = 200
_SEED = 1


def deduplicated(candidates: Sequence[Candidate], dropped: Counter[str]) -> list[Candidate]:
    """One candidate for each distinct text, that with the least order key; empty ones left out.

    Args:
        candidates: In any order.
        dropped: Reason → rows, added to.

    Returns:
        In order of their order keys.
    """
    kept: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.order_key):
        if not candidate.values["message"].strip():
            dropped[EMPTY] += 1
        elif candidate.text_key in kept:
            dropped[EXACT] += 1
        else:
            kept[candidate.text_key] = candidate
    return list(kept.values())


def without_near(candidates: Sequence[Candidate], dropped: Counter[str]) -> list[Candidate]:
    """Every candidate but those that come after a nearly equal message of another group.

    Judged by the message alone: turns of one conversation share their context.

    Args:
        candidates: In order of their order keys.
        dropped: Reason → rows, added to.
    """
    finder = _NearFinder(candidates)
    kept = []
    for row, candidate in enumerate(candidates):
        if any(candidates[other].group != candidate.group for other in finder.near(row)):
            dropped[NEAR] += 1
        else:
            kept.append(candidate)
    return kept


def grouped_by_near(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same candidates, those with nearly equal messages in one group.

    For rows too dear to leave out: they fall into one split instead.
    """
    finder = _NearFinder(candidates)
    leader: dict[str, str] = {}

    def led(group: str) -> str:
        while leader.get(group, group) != group:
            group = leader[group]
        return group

    for row, candidate in enumerate(candidates):
        for other in finder.near(row):
            leader[led(candidate.group)] = led(candidates[other].group)
    return [replace(candidate, group=led(candidate.group)) for candidate in candidates]


class _NearFinder:
    """Finds nearly equal messages among the rows asked about so far.

    MinHash (Broder 1997) finds rows to look at; the pair itself is compared exactly.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._triples = [_triples(candidate.values["message"]) for candidate in candidates]
        self._sketches = RMinHash.from_token_sets(
            [sorted(triples) for triples in self._triples], _PERMUTATIONS, _SEED
        )
        self._index = RMinHashLSH(SIMILARITY, _PERMUTATIONS, _BANDS)

    def near(self, row: int) -> list[int]:
        """The rows added so far that are nearly equal to this one; it is added then."""
        if not self._triples[row]:
            return []
        alike = self._index.query(self._sketches[row])
        if len(alike) < _ENOUGH_ALIKE:
            self._index.insert(row, self._sketches[row])
        return [
            other
            for other in alike
            if _similarity(self._triples[row], self._triples[other]) >= SIMILARITY
        ]


def _triples(message: str) -> frozenset[str]:
    words = _WORDS.findall(message.lower())
    if len(words) < MIN_WORDS:
        return frozenset()
    return frozenset(" ".join(words[at : at + 3]) for at in range(len(words) - 2))


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity in [0, 1] of two sets that are not empty."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)
