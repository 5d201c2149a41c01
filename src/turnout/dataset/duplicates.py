"""Finds exact and near duplicates among inputs to the encoder.

This runs before splitting, so that no input is in two splits.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import compress
from math import fsum
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from turnout.dataset.candidates import Candidate, input_keys
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.normalization import normalized

EMPTY = "empty message"
EXACT = "exact duplicate of another row"
NEAR = "near duplicate of a row of another conversation"

# Messages that share so much of their word triples (Jaccard) count as one message.
SIMILARITY = 0.8
# Shorter ones ("yes, do it") are alike by chance.
MIN_WORDS = 8
# Scripts written without spaces (Thai to Khmer, kana, ideographs), and pictographs.
_SPACELESS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2600-\u27bf\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003134f"
)
_CHARACTER = re.compile(f"[{_SPACELESS}]")
# A word, or a character of a script without spaces, which counts as half a word.
_WORDS = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_PERMUTATIONS = 128
# Bands of eight: one pair in twenty is missed at SIMILARITY, one in 10,000 at 0.9.
_BANDS = 16
# A template gives thousands of similar messages. Only so many are indexed, or every message would
# be compared with every other.
_ENOUGH_ALIKE = 200
_SEED = 1


class Distinct(NamedTuple):
    """Rows without duplicates.

    Attributes:
        rows: In the order of their keys.
        alike: Pairs of groups that had a duplicate in common.
    """

    rows: list[Candidate]
    alike: list[tuple[str, str]]


def deduplicated(
    candidates: Sequence[Candidate], dropped: Counter[str], *, cutoff: float = 0.5
) -> Distinct:
    """One candidate for each distinct input; empty messages are left out.

    It is the one with the least order key. Its target is the weighted mean over its duplicates, and
    its weight is the mean of theirs: with the sum, a text that many people send would outweigh the
    rest.

    Groups that share a short text are not connected: many conversations begin with "hello".

    Args:
        candidates: In any order.
        dropped: Reason → rows, added to.
        cutoff: The least mean target that makes duplicates with both labels reasoning.
    """
    ordered = sorted(candidates, key=lambda c: c.order_key)
    copies: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for key, candidate in zip(input_keys(ordered), ordered, strict=True):
        if candidate.message:
            copies[key].append(candidate)
        else:
            dropped[EMPTY] += 1
    alike = []
    for key, (first, *duplicates) in copies.items():
        if duplicates:
            dropped[EXACT] += len(duplicates)
            if is_long(" ".join(key)):
                alike += [(first.group, duplicate.group) for duplicate in duplicates]
    return Distinct([_merged(rows, cutoff) for rows in copies.values()], alike)


def _merged(copies: Sequence[Candidate], cutoff: float) -> Candidate:
    """The first of some duplicates, with the label, target and weight of all of them."""
    first = copies[0]
    if len(copies) == 1:
        return first
    columns = [row.values for row in copies]
    total = fsum(c["weight"] for c in columns)
    # Where all weights are 0, the rows count equally.
    shares = [c["weight"] / total if total else 1 / len(copies) for c in columns]
    target = fsum(share * c["target"] for share, c in zip(shares, columns, strict=True))
    labels = {c["label"] for c in columns} - {None}
    both_labels = len(labels) > 1
    label = min(labels, default=None)
    if both_labels:
        label = LABEL_REASONING if target >= cutoff else LABEL_FAST
    values = first.values | {
        "target": target,
        "weight": total / len(copies),
        "label": label,
        "evidence": list(dict.fromkeys(code for c in columns for code in c["evidence"])),
    }
    cell = first.cell._replace(label=label)
    return replace(first, values=values, cell=cell, both_labels=both_labels)


def without_near(candidates: Sequence[Candidate], dropped: Counter[str]) -> Distinct:
    """The candidates without those that follow a nearly equal input of another group.

    Both the message, and message and context together, must be nearly equal: the same follow-up in
    another conversation is another input. Turns of one conversation may be nearly equal.

    Args:
        candidates: In order of their order keys.
        dropped: Reason → rows, added to.
    """
    finder = _NearFinder(candidates)
    rows, alike = [], []
    for row, candidate in enumerate(candidates):
        groups = (candidates[other].group for other in finder.near(row))
        other = next((group for group in groups if group != candidate.group), None)
        if other is None:
            rows.append(candidate)
        else:
            dropped[NEAR] += 1
            alike.append((other, candidate.group))
    return Distinct(rows, alike)


def near_groups(candidates: Sequence[Candidate]) -> list[tuple[str, str]]:
    """Pairs of groups that have nearly equal inputs.

    Where no row should be left out, such groups fall into one split instead.
    """
    finder = _NearFinder(candidates)
    return [
        (candidates[other].group, candidate.group)
        for row, candidate in enumerate(candidates)
        for other in finder.near(row)
        if candidates[other].group != candidate.group
    ]


def is_long(text: str) -> bool:
    """Whether a text in normal form has enough words to be compared by them."""
    return bool(_words(text))


class _NearFinder:
    """Finds nearly equal inputs among the rows given to `near` so far.

    MinHash (Broder 1997) proposes pairs, which are then compared exactly.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._index = RMinHashLSH(SIMILARITY, _PERMUTATIONS, _BANDS)
        self._sketches = self._sketched()

    def near(self, row: int) -> list[int]:
        """The earlier rows that are nearly equal to this one; then remember this one."""
        if row not in self._sketches:
            return []
        alike = sorted(self._index.query(self._sketches[row]))
        if len(alike) < _ENOUGH_ALIKE:
            self._index.insert(row, self._sketches[row])
        return [other for other in alike if self._alike(row, other)]

    def _sketched(self) -> dict[int, RMinHash]:
        """Row → sketch, for the few rows whose message shares a band with another message."""
        messages = [candidate.message for candidate in self._candidates]
        matrix = RMinHash.digest_matrix_from_token_sets(
            map(_triples, messages), _PERMUTATIONS, _SEED
        )
        shared = self._index.query_duplicate_flags_matrix_one_shot(matrix)
        # Short messages share all bands, as they have no triples.
        rows = [row for row in compress(range(len(messages)), shared) if _triples(messages[row])]
        inputs = (self._triples_of_input(row) for row in rows)
        sketches = RMinHash.from_token_sets(inputs, _PERMUTATIONS, _SEED)
        return dict(zip(rows, sketches, strict=True))

    def _alike(self, first: int, second: int) -> bool:
        return (
            _similarity(self._triples_of_message(first), self._triples_of_message(second))
            >= SIMILARITY
            <= _similarity(self._triples_of_input(first), self._triples_of_input(second))
        )

    def _triples_of_message(self, row: int) -> frozenset[str]:
        return _distinct_triples(self._candidates[row].message, "")

    def _triples_of_input(self, row: int) -> frozenset[str]:
        candidate = self._candidates[row]
        return _distinct_triples(candidate.message, candidate.values["context"])


@lru_cache(maxsize=1_000)
def _distinct_triples(message: str, context: str) -> frozenset[str]:
    """The triples of a message in normal form, and those of a context, marked as such."""
    of_context = _in_threes(_WORDS.findall(normalized(context)))
    return frozenset([*_triples(message), *(f"context {triple}" for triple in of_context)])


def _triples(text: str) -> list[str]:
    """Every three consecutive words; none of a short text."""
    return _in_threes(_words(text))


def _in_threes(words: Sequence[str]) -> list[str]:
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def _words(text: str) -> list[str]:
    """The words of a text in normal form; none of a short text."""
    words = _WORDS.findall(text)
    halves = 2 * len(words)
    if not text.isascii():
        halves -= sum(_CHARACTER.match(word) is not None for word in words)
    return words if halves >= 2 * MIN_WORDS else []


def _similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity in [0, 1] of two sets that are not empty."""
    common = len(first & second)
    return common / (len(first) + len(second) - common)
