"""Which model serves: the encoder, or the linear model on words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from turnout.records import LABEL_REASONING
from turnout.samples import FEW_LABELS, Samples
from turnout.stats import metrics
from turnout.stats.bootstrap import Estimate, Resampling

Floats = NDArray[np.float64]
Served: TypeAlias = Literal["encoder", "words"]

# With fewer validation rows of a label, they do not tell which model is better.
MIN_ROWS_A_LABEL = 10


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Both models on the labelled validation rows, and the one that serves.

    Attributes:
        served: Which.
        trained: Labelled training rows.
        rows: Labelled validation rows.
        reasoning: Of which need reasoning.
        encoder: AUROC of the encoder.
        words: AUROC of the linear model on words.
        lead: AUROC of the encoder minus that of the linear model, on the same resamplings.
    """

    served: Served
    trained: int
    rows: int
    reasoning: int
    encoder: Estimate
    words: Estimate
    lead: Estimate

    @property
    def judged(self) -> bool:
        """Whether the rows were enough to choose by."""
        return min(self.reasoning, self.rows - self.reasoning) >= MIN_ROWS_A_LABEL

    @property
    def text(self) -> str:
        """Both scores and the reason for the choice, for a person."""
        name = "encoder" if self.served == "encoder" else "linear model on words"
        shown = (
            f"AUROC encoder {_shown(self.encoder)}, words {_shown(self.words)}, "
            f"difference {_shown(self.lead, '+.3f')} on {self.rows:,} validation rows"
        )
        if not self.judged:
            fewer = min(self.reasoning, self.rows - self.reasoning)
            return (
                f"{shown}: {fewer} rows of a label are too few to judge; the {name} serves, which "
                "needs fewer rows"
            )
        if self.lead.low <= 0 <= self.lead.high:
            few = ""
            if self.trained < FEW_LABELS:
                few = f", and {self.trained:,} labelled training rows are few for an encoder"
            return f"{shown}: within chance{few}; the {name} serves"
        return f"{shown}: the {name} serves"

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ModelChoice:
        """Read what `to_json` wrote."""
        estimates = {name: Estimate(**stored[name]) for name in ("encoder", "words", "lead")}
        return cls(**{**stored, **estimates})


def choose_model(
    trained: int, validation: Samples, encoder: Floats, words: Floats, seed: int
) -> ModelChoice:
    """The model with the higher AUROC on validation; at a tie the encoder.

    Either may be better within chance: the higher one is then the better guess. With fewer than
    `FEW_LABELS` labelled training rows, or too few validation rows to judge, the better guess is
    the linear model, as fine-tuning needs more rows than counting words does; only an encoder that
    is ahead beyond chance then serves.

    Args:
        trained: Labelled training rows of both.
        validation: n rows.
        encoder: Scores, shape `(n,)`.
        words: Scores, shape `(n,)`.
        seed: Decides the resampling.
    """
    rows = np.flatnonzero(validation.labelled)
    needs = validation.labels[rows] == LABEL_REASONING

    def both(weights: Floats) -> Floats:
        scores = [metrics.auroc(each[rows], needs, weights) for each in (encoder, words)]
        return np.column_stack([*scores, scores[0] - scores[1]])

    estimates = Resampling(validation.clusters_of(rows), seed).estimates(both)
    reasoning = int(needs.sum())
    choice = ModelChoice("encoder", trained, len(rows), reasoning, *estimates)
    ahead = choice.lead.low > 0 if trained < FEW_LABELS else choice.lead.value >= 0
    if choice.judged and ahead:
        return choice
    return replace(choice, served="words")


def _shown(estimate: Estimate, form: str = ".3f") -> str:
    if np.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} … {estimate.high:{form}})"
