"""The report of a labelling run: each source's votes, and what they add up to."""

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
        turns: On how many turns it votes.
        coverage: Their share of all turns, in [0, 1].
        for_reasoning: Share of its votes that speak for reasoning.
        agreement: Share of its votes that the other sources together agree with; None where it is
            always alone.
        known: Its votes on turns of known truth.
        right: Share of those that are right; None where there are none.
        accuracy: Share of its votes taken to be right: stated, or fitted on known truth.
        low: Lower end of the accuracy's 95 % interval; the stated one counts as its prior votes.
        high: Upper end.
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
    """What the evidence adds up to.

    Attributes:
        turns: Rows of the log.
        labelled: Of them, those with any evidence.
        reasoning: Labelled turns with p_reasoning of at least 0.5.
        prior: Share of turns taken to need reasoning before any evidence.
        gold_turns: Turns of known truth that the accuracies were fitted on; 0 where none.
        fitted_on: gold, human or stated: where the source accuracies come from.
        sources: In the order of `evidence.SOURCES`.
        external: In the order of `ExternalFiles`.
        not_chosen: Turns whose model a router or the product chose: it is no evidence there.
        fresh: False where the report is that of an earlier run on the same input.
    """

    turns: int
    labelled: int
    reasoning: int
    prior: float
    gold_turns: int
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
        accuracies: What the sources are weighed by.
        checked: The votes where the truth is known; None without any.
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
        gold_turns=checked.turns if checked else 0,
        fitted_on=fitted_on,
        sources=[_source(patterns, accuracies, checked, s) for s in range(len(SOURCES))],
        external=list(external),
        not_chosen=not_chosen,
    )


def _source(
    patterns: VotePatterns, accuracies: SourceAccuracies, checked: CheckedVotes | None, s: int
) -> SourceReport:
    own, turns = patterns.votes[:, s], patterns.turns
    others = patterns.votes.copy()
    others[:, s] = 0
    voted = int(turns[own != 0].sum())
    compared = (own != 0) & (others != 0).any(axis=1)
    agrees = (probability(others[compared], accuracies) >= 0.5) == (own[compared] > 0)
    in_company = int(turns[compared].sum())
    known = int(checked.votes[s]) if checked else 0
    accuracy = float(accuracies.accuracy[s])
    low, high = wilson(accuracy, float(accuracies.votes[s]))
    return SourceReport(
        code=SOURCES[s].code,
        reason=SOURCES[s].reason,
        turns=voted,
        coverage=voted / int(turns.sum()),
        for_reasoning=int(turns[own > 0].sum()) / max(1, voted),
        agreement=int(turns[compared][agrees].sum()) / in_company if in_company else None,
        known=known,
        right=float(checked.right[s] / known) if checked and known else None,
        accuracy=accuracy,
        low=low,
        high=high,
        weight=float(accuracies.log_odds[s]),
    )
