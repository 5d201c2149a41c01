"""What a comparison of policies gives, as reports store it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnout.records import Architecture
from turnout.replay.measures import Measured, Today
from turnout.replay.ranking import Ranking
from turnout.stats.bootstrap import Estimate

MatchedOn = Literal["scores", "evidence"]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy on the log.

    Attributes:
        name: Of the policy or the baseline.
        kind: `policy`, or `baseline`.
        threshold: The least score for reasoning; None where none is used.
        matched_on: What the threshold was chosen by, where it was chosen to miss a given share:
            misses expected by the router's `scores`, or those that `evidence` shows.
        measured: What it did.
        against_reasoning: USD for 1,000 turns that it saves beside always reasoning.
        against_today: The same beside what the log paid, on the turns whose model has a price;
            None where none has.
    """

    name: str
    kind: str
    threshold: float | None
    matched_on: MatchedOn | None
    measured: Measured
    against_reasoning: Estimate
    against_today: Estimate | None


@dataclass(frozen=True, slots=True)
class AtMissed:
    """Policies at thresholds that miss at most the same share; those that cannot are left out.

    Attributes:
        missed: The expected share.
        rows: The policies.
        beside: What they are compared with, turn by turn as the conversation policy: it misses the
            share that this policy misses by evidence. Empty without enough evidence.
    """

    missed: float
    rows: list[PolicyRow]
    beside: list[PolicyRow]


@dataclass(frozen=True, slots=True)
class Curve:
    """A policy swept over thresholds: USD for 1,000 turns, missed share, share on reasoning."""

    name: str
    thresholds: list[float]
    usd: list[float]
    missed: list[float]
    share_reasoning: list[float]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to serve.

    Attributes:
        verdict: `route`, `do not route` or `cannot tell`.
        policy: The cheapest at the wanted misses, or the simplest that costs no more.
        router: The architecture whose router scores.
        threshold: Its threshold.
        missed: The share of misses that it was chosen at.
        reasons: Sentences: why, and what would change it.
    """

    verdict: str
    policy: str
    router: Architecture
    threshold: float
    missed: float
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The conversations of one segment.

    Attributes:
        name: Of the segment.
        conversations: How many.
        turns: Of so many turns.
        today: What the log did.
        fixed: All reasoning and all fast.
        at_missed: Policies with the thresholds that they have on the whole log.
    """

    name: str
    conversations: int
    turns: int
    today: Today
    fixed: list[PolicyRow]
    at_missed: list[AtMissed]


@dataclass(frozen=True, slots=True)
class BySegment:
    """The log by one column that it carries.

    Attributes:
        column: Its name in the log.
        segments: Those with most conversations first.
        grouped: Segments with too few conversations, shown as one → conversations.
    """

    column: str
    segments: list[SegmentRows]
    grouped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of policies on one log gives.

    Attributes:
        today: What the log did.
        served: Policies with the thresholds in their router folders, and baselines.
        at_missed: Policies at equal misses.
        ranking: How well scorers tell, on the same turns; None without enough evidence.
        by_segment: The log by segment; None where that is not wanted.
        curves: Policies swept over thresholds.
        recommendation: What to serve; None where no policy misses so little.
        sampled_turns: Turns that equal misses, ranking, segments and curves are computed on.
    """

    today: Today
    served: list[PolicyRow]
    at_missed: list[AtMissed]
    ranking: Ranking | None
    by_segment: BySegment | None
    curves: list[Curve]
    recommendation: Recommendation | None
    sampled_turns: int

    def level(self, missed: float) -> AtMissed:
        """The policies that miss at most this share."""
        return next(level for level in self.at_missed if level.missed == missed)
