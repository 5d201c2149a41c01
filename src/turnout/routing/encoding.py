"""Encoder text → token ids within a budget; knows no model and no message format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

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
    """Cuts and tokenises a `ModelInput` the way training and serving both see it.

    The context gives way first: the message takes what it needs of the budget, and of a message
    longer than the budget head (three quarters) and tail are kept.

    Args:
        tokenizer: A fast tokenizer; its own truncation and padding are switched off.
        max_tokens: The budget in tokens, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def from_file(cls, path: Path, max_tokens: int) -> InputEncoder:
        """Read a `tokenizer.json`.

        Raises:
            ArtifactError: If the file cannot be read as a tokenizer.
        """
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises Exception itself
            raise ArtifactError(
                f"{path}: not readable as a tokenizer ({error}); expected a tokenizer.json. "
                "Use an encoder that has a fast tokenizer."
            ) from error
        return cls(tokenizer, max_tokens)

    def encode(self, model_input: ModelInput) -> TokenIds:
        """Tokenise one input; an empty message gives the special tokens alone."""
        pair = bool(model_input.context)
        budget = self.max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=pair)
        message, cut = self._message(model_input.message, budget)
        context = None
        if pair:
            context = self._segment(model_input.context)
            room = max(0, budget - len(message.ids))
            cut += max(0, len(context.ids) - room)
            context.truncate(room)
        whole = self._tokenizer.post_process(message, context)
        return TokenIds(list(whole.ids), list(whole.type_ids), cut)

    def _segment(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _message(self, text: str, budget: int) -> tuple[Encoding, int]:
        head = self._segment(text)
        cut = len(head.ids) - budget
        if cut <= 0:
            return head, 0
        tail = self._segment(text)
        tail.truncate(budget // 4, direction="left")
        head.truncate(budget - budget // 4)
        return Encoding.merge([head, tail]), cut
