"""The report of a labelling run: each source's votes, and the labels they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from turnout.labels.aggregation import CheckedVotes, SourceAccuracies, probability
from turnout.labels.evidence import SOURCES
from turnout.labels.vote_patterns import VotePatterns
from turnout.stats.intervals import wilson


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A source of evidence and its votes on the log.

    Attributes:
        code: Its name.
        reason: What it is.
        turns: Turns with a vote of it.
        coverage: Their share of all turns, in [0, 1].
        for_reasoning: Share of its votes that are for reasoning.
        agreement: Share of its votes with which the other sources together agree; None where no
            other source votes on its turns.
        known: Its votes on turns of known truth.
        right: Share of those that are right; None where there are none.
        accuracy: Assumed share of its votes that are right: stated, or fitted on known truth.
        low: Lower end of the accuracy's 95 % interval.
        high: Its upper end.
        weight: Log-odds of one vote.
    """

    code: str
    reason: str
    turns: int
    coverage: float
    for_reasoning: float
    agreement: float | None
    known: int
    right: float | None
    accuracy: float
    low: float
    high: float
    weight: float


@dataclass(frozen=True, slots=True)
class ExternalFileReport:
    """A file of external votes and how much of it was used.

    Attributes:
        path: The file.
        rows: Its rows.
        unused: Rows without a vote: no label yet, no usable answer.
        unmatched: Turns or prompts in it that the log does not have.
        annotators: How many people labelled; 0 where the file does not name them.
        annotator_agreement: Share of pairs of people on one turn that agree; None without pairs.
    """

    path: str
    rows: int
    unused: int
    unmatched: int
    annotators: int
    annotator_agreement: float | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The labels of a log, and where they come from.

    Attributes:
        turns: Rows of the log.
        labelled: Of them, those with any evidence.
        reasoning: Labelled turns with p_reasoning of at least 0.5.
        prior: Assumed share of turns that need reasoning, before any evidence.
        known_turns: Turns of known truth that the accuracies were fitted on; 0 where none.
        fitted_on: Where the source accuracies come from: truth, human or stated.
        sources: In the order of `evidence.SOURCES`.
        external: In the order of `ExternalFiles`.
        not_chosen: Turns whose model a router or the product chose, so that it is no evidence.
        fresh: False where the report is that of an earlier run on the same input.
    """

    turns: int
    labelled: int
    reasoning: int
    prior: float
    known_turns: int
    fitted_on: str
    sources: list[SourceReport]
    external: list[ExternalFileReport] = field(default_factory=list)
    not_chosen: int = 0
    fresh: bool = True


def label_report(
    patterns: VotePatterns,
    accuracies: SourceAccuracies,
    checked: CheckedVotes | None,
    fitted_on: str,
    external: Sequence[ExternalFileReport],
    not_chosen: int,
) -> LabelReport:
    """Count votes and labels.

    Args:
        patterns: The turns by their votes.
        accuracies: The weights of the sources.
        checked: Votes on turns of known truth; None without any.
        fitted_on: As in `LabelReport`.
        external: As in `LabelReport`.
        not_chosen: As in `LabelReport`.
    """
    has_vote = patterns.has_vote
    leaning = probability(patterns.votes[has_vote], accuracies) >= 0.5
    return LabelReport(
        turns=int(patterns.turns.sum()),
        labelled=int(patterns.turns[has_vote].sum()),
        reasoning=int(patterns.turns[has_vote][leaning].sum()),
        prior=accuracies.prior,
        known_turns=checked.turns if checked else 0,
        fitted_on=fitted_on,
        sources=[_source(patterns, accuracies, checked, s) for s in range(len(SOURCES))],
        external=list(external),
        not_chosen=not_chosen,
    )


def _source(
    patterns: VotePatterns, accuracies: SourceAccuracies, checked: CheckedVotes | None, s: int
) -> SourceReport:
    votes, turns = patterns.votes[:, s], patterns.turns
    other_votes = patterns.votes.copy()
    other_votes[:, s] = 0
    voted = int(turns[votes != 0].sum())
    compared = (votes != 0) & (other_votes != 0).any(axis=1)
    agrees = (probability(other_votes[compared], accuracies) >= 0.5) == (votes[compared] > 0)
    n_compared = int(turns[compared].sum())
    known = int(checked.votes[s]) if checked else 0
    accuracy = float(accuracies.accuracy[s])
    low, high = wilson(accuracy, float(accuracies.votes[s]))
    return SourceReport(
        code=SOURCES[s].code,
        reason=SOURCES[s].reason,
        turns=voted,
        coverage=voted / int(turns.sum()),
        for_reasoning=int(turns[votes > 0].sum()) / max(1, voted),
        agreement=int(turns[compared][agrees].sum()) / n_compared if n_compared else None,
        known=known,
        right=float(checked.right[s] / known) if checked and known else None,
        accuracy=accuracy,
        low=low,
        high=high,
        weight=float(accuracies.log_odds[s]),
    )
