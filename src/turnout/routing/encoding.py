"""Encoder text → token ids within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from turnout.errors import ArtifactError
from turnout.records import ModelInput


@dataclass(frozen=True, slots=True)
class TokenIds:
    """One encoder input.

    Attributes:
        ids: Token ids with the special tokens, length at most the budget.
        type_ids: 0 for segment A, 1 for segment B; same length.
        truncated_tokens: Tokens of the text that did not fit.
    """

    ids: list[int]
    type_ids: list[int]
    truncated_tokens: int


class InputEncoder:
    """Tokenises and truncates a `ModelInput`, the same in training and serving.

    The context is truncated first. A message longer than the budget keeps its head (three quarters)
    and its tail.

    Args:
        tokenizer: A fast tokenizer; its own truncation and padding are switched off.
        max_tokens: The budget in tokens, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._single = _Layout.of(tokenizer, pair=False)
        self._pair = _Layout.of(tokenizer, pair=True)

    @classmethod
    def from_file(cls, path: Path, max_tokens: int) -> InputEncoder:
        """Read a `tokenizer.json`.

        Raises:
            ArtifactError: If the file cannot be read as a tokenizer.
        """
        return cls(read_tokenizer(path), max_tokens)

    def encode(self, model_input: ModelInput) -> TokenIds:
        """Tokenise one input; an empty message gives only the special tokens."""
        layout = self._pair if model_input.context else self._single
        budget = self.max_tokens - len(layout.special_ids)
        message = self._ids(model_input.message)
        cut = max(0, len(message) - budget)
        if cut:
            tail = budget // 4
            message = message[: budget - tail] + message[len(message) - tail :]
        context = self._ids(model_input.context) if model_input.context else []
        room = budget - len(message)
        cut += max(0, len(context) - room)
        ids, type_ids = layout.filled(message, context[:room])
        return TokenIds(ids, type_ids, cut)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        ArtifactError: If the file cannot be read as a tokenizer.
    """
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises Exception itself
        raise ArtifactError(
            f"{path}: not readable as a tokenizer ({error}); expected a tokenizer.json. "
            "Use an encoder that has a fast tokenizer."
        ) from error


@dataclass(frozen=True, slots=True)
class _Layout:
    """The special tokens around the segments, from the tokenizer's own template.

    The tokenizer's truncation is not used: it stores every overflowing piece, which takes a hundred
    times as long as tokenising for a pasted log.
    """

    parts: tuple[tuple[int | None, int], ...]  # (special id, or None for a segment; its type id)
    special_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, pair: bool) -> _Layout:
        example = tokenizer.encode("a", add_special_tokens=False)
        example.truncate(1)
        other = tokenizer.encode("a", add_special_tokens=False) if pair else None
        if other is not None:
            other.truncate(1)
        encoded = tokenizer.post_process(example, other)
        parts = tuple(
            (token if special else None, type_id)
            for token, type_id, special in zip(
                encoded.ids, encoded.type_ids, encoded.special_tokens_mask, strict=True
            )
        )
        return cls(parts, tuple(token for token, _ in parts if token is not None))

    def filled(self, message: list[int], context: list[int]) -> tuple[list[int], list[int]]:
        segments = iter((message, context))
        ids: list[int] = []
        type_ids: list[int] = []
        for special, type_id in self.parts:
            piece = next(segments) if special is None else [special]
            ids += piece
            type_ids += [type_id] * len(piece)
        return ids, type_ids
