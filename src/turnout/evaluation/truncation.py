"""What the token budget leaves out of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.records import ModelInput
from turnout.routing.scorer import OnnxScorer


@dataclass(frozen=True, slots=True)
class Truncation:
    """How much did not fit.

    Attributes:
        max_tokens: The router's budget.
        rows_share: Share of rows in [0, 1] of which anything was cut.
        messages_share: Share of rows whose message itself was cut, all but its head and tail.
        tokens_share: Share of all tokens of all rows that were cut.
    """

    max_tokens: int
    rows_share: float
    messages_share: float
    tokens_share: float


def truncation_of(scorer: OnnxScorer, inputs: Sequence[ModelInput], max_tokens: int) -> Truncation:
    """Tokenise every row as the router reads it, and count what did not fit.

    Args:
        scorer: The router's.
        inputs: At least one row.
        max_tokens: The router's budget.
    """
    rows = messages = cut = read = 0
    for row in inputs:
        tokens = scorer.encode(row)
        cut += tokens.truncated_tokens
        read += len(tokens.ids)
        if tokens.truncated_tokens:
            rows += 1
            messages += scorer.encode(ModelInput(row.message)).truncated_tokens > 0
    return Truncation(max_tokens, rows / len(inputs), messages / len(inputs), cut / (cut + read))
