"""Facts of messages that show whether traffic has changed: length, script, kinds of words.

They contain no words: word pieces are hashed into groups.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float64]

# Groups that word pieces are hashed into; some thirty pieces of an encoder's vocabulary share one.
BUCKETS = 1024
# Dimensions of the random projection.
DIRECTIONS = 32
# The script of a long message is that of its beginning.
_SCRIPT_CHARS = 2000
_NO_LETTERS = "no letters"
_JAPANESE = ("HIRAGANA", "KATAKANA")
_BATCH_MESSAGES = 256
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class WordGroups:
    """How usual words are, and the kinds of messages.

    Attributes:
        surprise: −log of the frequency of each bucket of word pieces, shape `(BUCKETS,)`, in nats.
        centres: Projected centres of the kinds of messages, shape `(m, DIRECTIONS)`.
    """

    surprise: Floats
    centres: Floats

    def rounded(self) -> WordGroups:
        """With the precision of the file, so that facts before and after storing are the same."""
        return WordGroups(self.surprise.round(_DIGITS), self.centres.round(_DIGITS))


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """Facts of n messages, each of shape `(n,)`.

    Attributes:
        chars: Length in characters.
        piece_chars: Characters per word piece; low for code and for foreign scripts.
        surprise: Mean surprise of the word pieces, in nats; 0 for an empty message.
        kind: The nearest centre of the `WordGroups`.
        script: Unicode's name of the script of most letters, or `no letters`.
    """

    chars: Floats
    piece_chars: Floats
    surprise: Floats
    kind: NDArray[np.int64]
    script: list[str]


def message_facts(messages: Sequence[str], tokenizer: Tokenizer, words: WordGroups) -> MessageFacts:
    """Compute the facts of messages, as a router's formatter gives them.

    Args:
        messages: n texts.
        tokenizer: The router's tokenizer.
        words: Word groups of the same tokenizer.
    """
    counts = bucket_counts(messages, tokenizer)
    pieces = np.array([count.sum() for _, count in counts], np.float64)
    chars = np.array([len(message) for message in messages], np.float64)
    surprise = np.array(
        [float(words.surprise[buckets] @ count) for buckets, count in counts], np.float64
    )
    projected = projections(counts, words.surprise)
    return MessageFacts(
        chars=chars,
        piece_chars=chars / np.maximum(pieces, 1),
        surprise=surprise / np.maximum(pieces, 1),
        kind=_nearest(projected, words.centres),
        script=[script_of(message) for message in messages],
    )


BucketCounts = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""For each message, the buckets of its word pieces and the number in each."""


def bucket_counts(messages: Sequence[str], tokenizer: Tokenizer) -> BucketCounts:
    """Hash the word pieces of messages; special tokens are left out."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts: BucketCounts = []
    for start in range(0, len(messages), _BATCH_MESSAGES):
        part = list(messages[start : start + _BATCH_MESSAGES])
        for encoded in tokenizer.encode_batch(part, add_special_tokens=False):
            buckets = _bucket(np.asarray(encoded.ids, np.uint64))
            counts.append(np.unique(buckets, return_counts=True))
    return counts


def surprises(counts: BucketCounts) -> Floats:
    """−log of the frequency of each bucket in some messages, shape `(BUCKETS,)`."""
    totals = np.ones(BUCKETS)  # a bucket that never occurred is rare, not impossible
    for buckets, count in counts:
        totals[buckets] += count
    return np.asarray(-np.log(totals / totals.sum()))


def projections(counts: BucketCounts, surprise: Floats) -> Floats:
    """Messages as short vectors, which are close if their rarer words are similar.

    Returns:
        Shape `(n, DIRECTIONS)`; length about 1, or 0 for an empty message.

    Source:
        Achlioptas (2003), "Database-friendly random projections", signs in place of normal numbers.
    """
    signs = _signs()
    rarity = surprise - surprise.min()
    projected = np.zeros((len(counts), DIRECTIONS))
    for row, (buckets, count) in enumerate(counts):
        values = (1 + np.log(count)) * rarity[buckets]
        norm = float(np.sqrt(values @ values))
        if norm > 0:
            projected[row] = values @ signs[buckets] / norm
    return projected


def script_of(message: str) -> str:
    """Unicode's name of the script of most letters of a message."""
    text = message[:_SCRIPT_CHARS]
    counts: dict[str, int] = {}
    for character in text:
        if character.isalpha():
            name = _script(character)
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: (counts[name], name)) if counts else _NO_LETTERS


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    name = unicodedata.name(character, "OTHER").partition(" ")[0]
    return "JAPANESE" if name in _JAPANESE else name


def _bucket(ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    # Knuth's multiplicative hash.
    mixed = ids * np.uint64(2654435761) % np.uint64(2**32)
    buckets: NDArray[np.int64] = (mixed >> np.uint64(22)).astype(np.int64)
    return buckets


@lru_cache(maxsize=1)
def _signs() -> Floats:
    """Signs of every bucket, shape `(BUCKETS, DIRECTIONS)`, over √DIRECTIONS; always the same."""
    digests = b"".join(
        hashlib.sha256(str(bucket).encode()).digest()[: DIRECTIONS // 8]
        for bucket in range(BUCKETS)
    )
    bits = np.unpackbits(np.frombuffer(digests, np.uint8)).reshape(BUCKETS, DIRECTIONS)
    return np.asarray((2.0 * bits - 1.0) / np.sqrt(DIRECTIONS))


def _nearest(projected: Floats, centres: Floats) -> NDArray[np.int64]:
    distances = (centres**2).sum(1) - 2 * projected @ centres.T
    nearest: NDArray[np.int64] = np.argmin(distances, axis=1).astype(np.int64)
    return nearest
