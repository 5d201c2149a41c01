"""How much of the rows the token budget truncates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.records import ModelInput
from turnout.routing.scorer import OnnxScorer


@dataclass(frozen=True, slots=True)
class Truncation:
    """Shares of truncated rows, messages and tokens.

    Attributes:
        max_tokens: The router's budget.
        rows_share: Share of truncated rows, in [0, 1].
        messages_share: Share of rows whose message itself was truncated to its head and tail.
        tokens_share: Share of all tokens that were removed.
    """

    max_tokens: int
    rows_share: float
    messages_share: float
    tokens_share: float


def truncation_of(scorer: OnnxScorer, inputs: Sequence[ModelInput], max_tokens: int) -> Truncation:
    """Tokenise every row as the router reads it, and count what does not fit.

    Args:
        scorer: The router's scorer.
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
