"""Counts of characters, words, numbers and symbols in a text."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_FIRST_OPTION = re.compile(r"\n\(?A[.)]")
_OPERATOR = re.compile(r"[-+*/=^<>]")
# A longer run of digits is an identifier or a grid, not a quantity.
_MAX_DIGITS = 8
_LARGE = 100.0


class Surface(NamedTuple):
    """Eighteen counts of a text, all ≥ 0; logarithms are of 1 + the count.

    Attributes:
        log_chars: Characters, at least one.
        log_words: Words, at least one.
        log_numbers: Numbers.
        numbers_a_word: Numbers for every word.
        letters_a_word: Mean length of a word, in characters.
        lines_a_word: Line breaks for every word.
        log_lines: Line breaks.
        operators: Share of characters that are arithmetic signs.
        dollars: Share of characters that are dollar signs.
        backslashes: Share of characters that are backslashes.
        questions: Question marks.
        capitals: Share of characters that are upper case.
        distinct_words: Share of words that are distinct.
        has_options: 1 where a line begins with option A, else 0.
        has_large_number: 1 where a number exceeds 100, else 0.
        log_largest: The largest number of at most eight characters.
        sentences: Sentence ends.
        words_a_sentence: Words for every sentence.
    """

    log_chars: float
    log_words: float
    log_numbers: float
    numbers_a_word: float
    letters_a_word: float
    lines_a_word: float
    log_lines: float
    operators: float
    dollars: float
    backslashes: float
    questions: float
    capitals: float
    distinct_words: float
    has_options: float
    has_large_number: float
    log_largest: float
    sentences: float
    words_a_sentence: float


def surface_of(text: str) -> Surface:
    """Count; an empty text counts as one character and one word."""
    words, numbers = _WORD.findall(text), _NUMBER.findall(text)
    n_chars, n_words = max(1, len(text)), max(1, len(words))
    lines, sentences = text.count("\n"), len(_SENTENCE_END.findall(text))
    largest = max((float(n) for n in numbers if len(n) <= _MAX_DIGITS), default=0.0)
    return Surface(
        log_chars=math.log1p(n_chars),
        log_words=math.log1p(n_words),
        log_numbers=math.log1p(len(numbers)),
        numbers_a_word=len(numbers) / n_words,
        letters_a_word=sum(map(len, words)) / n_words,
        lines_a_word=lines / n_words,
        log_lines=math.log1p(lines),
        operators=len(_OPERATOR.findall(text)) / n_chars,
        dollars=text.count("$") / n_chars,
        backslashes=text.count("\\") / n_chars,
        questions=float(text.count("?")),
        capitals=sum(map(str.isupper, text)) / n_chars,
        distinct_words=len(set(words)) / n_words,
        has_options=float(_FIRST_OPTION.search(text) is not None),
        has_large_number=float(largest > _LARGE),
        log_largest=math.log1p(largest),
        sentences=float(sentences),
        words_a_sentence=n_words / max(1, sentences),
    )
