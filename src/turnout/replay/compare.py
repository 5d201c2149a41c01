"""Compares policies on the same turns: as served, at equal misses, and as curves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from turnout.records import Architecture, ModelClass
from turnout.replay.columns import Bools, Floats
from turnout.replay.decisions import Decided
from turnout.replay.log import ScoredLog
from turnout.replay.measures import (
    COST_TURNS,
    LoggedSums,
    Sums,
    measured,
    saving,
    sums_of,
)
from turnout.replay.ranking import MIN_TURNS_A_CLASS, ranking_of
from turnout.replay.results import (
    AtMissed,
    BySegment,
    Comparison,
    Curve,
    MatchedOn,
    PolicyRow,
    Recommendation,
    SegmentRows,
)
from turnout.replay.walk import walk
from turnout.routing.policies import (
    FixedPolicy,
    Policy,
    PricedPolicy,
    Target,
    policy_of,
)
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import ratio

# From the simplest on: where costs do not differ, the first one is recommended.
ROUTED = ("session", "boundary", "conversation", "priced")
MISSED_LEVELS = (0.05, 0.10, 0.20)
# Curves and equal misses are computed on so many turns of conversations drawn at random.
SAMPLE_TURNS = 200_000
_PRICED = PricedPolicy()
_CURVE_POINTS = 25
_LEVELS = 256


@dataclass(frozen=True, slots=True)
class _Placed:
    """A policy that misses a given share."""

    name: str
    kind: str
    threshold: float
    matched_on: MatchedOn
    sums: Sums


@dataclass(frozen=True)
class Comparing:
    """A log, what its models cost, and the policies to compare.

    Attributes:
        log: The scored log.
        thresholds: Architecture → the threshold that its router is served with.
        targets: What each class costs.
        priced: The `priced` policy, with the expected turns left. With a price of a miss it stands
            at its router's own threshold alone: the price decides in the threshold's place.
        is_truth: Whether the log's evidence is the simulated truth.
    """

    log: ScoredLog
    thresholds: Mapping[Architecture, float]
    targets: Mapping[ModelClass, Target]
    priced: PricedPolicy = _PRICED
    is_truth: bool = False

    def compared(self, max_miss: float) -> Comparison:
        """Walk every policy.

        Args:
            max_miss: The share of misses at which a policy is recommended, in (0, 1).
        """
        sample = self._sample()
        levels = sorted({*MISSED_LEVELS, max_miss})
        placed = {level: sample._placed_at(level) for level in levels}
        reasoning, everything = sample._fixed("reasoning"), np.ones(sample._conversations, bool)
        return Comparison(
            today=self._logged.today(is_truth=self.is_truth),
            served=self._served(),
            at_missed=[
                sample._at_missed(level, policies, reasoning, everything)
                for level, policies in placed.items()
            ],
            ranking=ranking_of(sample.log, sample._compared_scores()),
            by_segment=sample._by_segment(placed, reasoning),
            curves=sample._curves(),
            recommendation=sample._recommendation(max_miss, placed[max_miss], reasoning),
            sampled_turns=len(sample.log.turns),
        )

    def decided(self, comparison: Comparison, max_miss: float) -> Iterator[Decided]:
        """Every policy at its threshold for `max_miss`, with its reasons, one walk at a time.

        Args:
            comparison: What `compared` gave.
            max_miss: As for `compared`. A policy that cannot miss so little, and `priced` with a
                price of a miss, decide by their router's own threshold.
        """
        chosen = {row.name: row.threshold for row in comparison.level(max_miss).rows}
        for name in self.routed:
            router = self.architecture_of(name)
            has_own_price = name == "priced" and self.priced.miss_usd is not None
            threshold = None if has_own_price else chosen.get(name)
            if threshold is None:
                threshold = self.thresholds[router]
            walked = walk(
                self.log.turns, self.log.scores[router], threshold, self._policy(name),
                self.targets, with_reasons=True,
            )  # fmt: skip
            yield Decided(name, router, threshold, walked)

    @property
    def routed(self) -> tuple[str, ...]:
        """The policies that the scores allow: a session router alone scores only first turns."""
        return ROUTED if "conversation" in self.log.scores else ROUTED[:1]

    def architecture_of(self, policy: str) -> Architecture:
        """The architecture of the router whose scores a policy reads."""
        if policy == "session" and "session" in self.log.scores:
            return "session"
        return "conversation"

    @property
    def _need(self) -> Floats:
        best: Architecture = "conversation" if "conversation" in self.log.scores else "session"
        return self.log.scores[best].astype(np.float64)

    def _sample(self) -> Comparing:
        # At equal misses the threshold is varied, and the price of a miss follows from it.
        sample = replace(self, priced=replace(self.priced, miss_usd=None))
        lengths = np.diff(self.log.turns.starts)
        if lengths.sum() <= SAMPLE_TURNS:
            return sample
        order = np.random.default_rng(0).permutation(len(lengths))
        enough = int(np.searchsorted(np.cumsum(lengths[order]), SAMPLE_TURNS)) + 1
        return replace(sample, log=self.log.part(np.sort(order[:enough])))

    def _policy(self, name: str) -> Policy:
        return policy_of(name, priced=self.priced)

    def _sums(self, policy: Policy, scores: NDArray[np.float32], threshold: float) -> Sums:
        walked = walk(self.log.turns, scores, threshold, policy, self.targets)
        return sums_of(self.log, walked, self.targets, self._need)

    def _routed_sums(self, name: str, threshold: float) -> Sums:
        scores = self.log.scores[self.architecture_of(name)]
        return self._sums(self._policy(name), scores, threshold)

    def _fixed(self, name: ModelClass) -> Sums:
        anything = next(iter(self.log.scores.values()))
        return self._sums(FixedPolicy(name), anything, 0.5)

    @property
    def _conversations(self) -> int:
        return self.log.turns.conversations

    @cached_property
    def _logged(self) -> LoggedSums:
        return LoggedSums.from_log(self.log, self._need)

    def _row(
        self, name: str, kind: str, threshold: float | None, sums: Sums, reasoning: Sums
    ) -> PolicyRow:
        everything = np.ones(self._conversations, bool)
        return self._row_of(everything, name, kind, threshold, None, sums, reasoning)

    def _row_of(
        self,
        conversations: Bools,
        name: str,
        kind: str,
        threshold: float | None,
        matched_on: MatchedOn | None,
        sums: Sums,
        reasoning: Sums,
    ) -> PolicyRow:
        """The row of some conversations."""
        logged, own = self._logged.of(conversations), sums.of(conversations)
        today = None
        if logged.priced.any():
            today = ratio(COST_TURNS * (logged.usd - own.paid_usd), logged.priced)
        against = saving(own, reasoning.of(conversations))
        return PolicyRow(name, kind, threshold, matched_on, measured(own), against, today)

    def _at_missed(
        self, level: float, placed: Sequence[_Placed], reasoning: Sums, conversations: Bools
    ) -> AtMissed:
        rows = [
            self._row_of(
                conversations, p.name, p.kind, p.threshold, p.matched_on, p.sums, reasoning
            )
            for p in placed
        ]
        return AtMissed(
            level,
            [row for row in rows if row.kind == "policy"],
            [row for row in rows if row.kind != "policy"],
        )

    def _by_segment(
        self, placed: Mapping[float, Sequence[_Placed]], reasoning: Sums
    ) -> BySegment | None:
        segments = self.log.segments
        if segments is None:
            return None
        fast, rows = self._fixed("fast"), []
        for number, name in enumerate(segments.names):
            own = segments.of == number
            if not own.any():  # none was drawn
                continue
            logged = self._logged.of(own)
            fixed = [
                self._row_of(own, f"always {to}", "baseline", None, None, sums, reasoning)
                for to, sums in (("reasoning", reasoning), ("fast", fast))
            ]
            levels = [
                self._at_missed(level, policies, reasoning, own)
                for level, policies in placed.items()
            ]
            turns = int(reasoning.turns[own].sum())
            today = logged.today(is_truth=self.is_truth)
            rows.append(SegmentRows(name, int(own.sum()), turns, today, fixed, levels))
        return BySegment(segments.column, rows, segments.grouped)

    def _served(self) -> list[PolicyRow]:
        reasoning = self._fixed("reasoning")
        rows = [
            self._row("always reasoning", "baseline", None, reasoning, reasoning),
            self._row("always fast", "baseline", None, self._fixed("fast"), reasoning),
        ]
        shares = {}
        for name in self.routed:
            threshold = self.thresholds[self.architecture_of(name)]
            sums = self._routed_sums(name, threshold)
            rows.append(self._row(name, "policy", threshold, sums, reasoning))
            shares[name] = float(sums.reasoning.sum() / sums.turns.sum())
        like = self._turn_by_turn
        for name, scores in self._trivial_scores().items():
            cut = float(np.quantile(scores, 1 - shares[like])) if shares[like] else np.inf
            policy = self._policy(like)
            sums = self._sums(policy, scores, cut)
            rows.append(self._row(f"{name}, share of {like}", "baseline", None, sums, reasoning))
        return rows

    def _trivial_scores(self) -> dict[str, NDArray[np.float32]]:
        n = len(self.log.turns)
        draw = np.random.default_rng(0)
        length = self.log.message_chars + draw.random(n, np.float32)  # no ties
        return {"random": draw.random(n, np.float32), "length": length.astype(np.float32)}

    def _levels(self, name: str) -> Floats:
        """Thresholds from one that sends everything up to one that sends nothing."""
        return _levels(self.log.scores[self.architecture_of(name)])

    def _placed_at(self, level: float) -> list[_Placed]:
        placed = []
        for name in self.routed:
            sums_at = functools.partial(self._routed_sums, name)
            highest = _highest(self._levels(name), sums_at, lambda sums: _expected(sums) <= level)
            if highest is not None:
                placed.append(_Placed(name, "policy", highest[0], "scores", highest[1]))
        reference = next((p for p in placed if p.name == self._turn_by_turn), None)
        if reference is None or reference.sums.needs.sum() < MIN_TURNS_A_CLASS:
            return placed
        policy, most = self._policy(self._turn_by_turn), _shown(reference.sums)
        for name, scores in self._compared_scores().items():
            sums_at = functools.partial(self._sums, policy, scores)
            highest = _highest(_levels(scores), sums_at, lambda sums: _shown(sums) <= most)
            if highest is not None:
                placed.append(_Placed(name, "baseline", highest[0], "evidence", highest[1]))
        return placed

    @property
    def _turn_by_turn(self) -> str:
        """The policy that other scorers are given."""
        return "conversation" if "conversation" in self.routed else "session"

    def _compared_scores(self) -> dict[str, NDArray[np.float32]]:
        return {**self.log.others, "length": self._trivial_scores()["length"]}

    def _curves(self) -> list[Curve]:
        curves = [
            self._curve(name, functools.partial(self._routed_sums, name), self._levels(name))
            for name in self.routed
        ]
        policy = self._policy(self._turn_by_turn)
        for name, scores in self._trivial_scores().items():
            levels = np.quantile(scores, np.linspace(0, 1, _CURVE_POINTS)).astype(np.float64)
            sums_at = functools.partial(self._sums, policy, scores)
            curves.append(self._curve(name, sums_at, np.append(levels, levels[-1] + 1)))
        return curves

    def _curve(self, name: str, sums_at: Callable[[float], Sums], levels: Floats) -> Curve:
        positions = np.unique(np.linspace(0, len(levels) - 1, _CURVE_POINTS).round().astype(int))
        thresholds = [float(levels[index]) for index in positions]
        sums = [sums_at(threshold) for threshold in thresholds]
        return Curve(
            name,
            thresholds,
            [float(COST_TURNS * s.total_usd.sum() / s.turns.sum()) for s in sums],
            [float(s.missed.sum() / max(s.needed.sum(), 1e-12)) for s in sums],
            [float(s.reasoning.sum() / s.turns.sum()) for s in sums],
        )

    def _recommendation(
        self, max_miss: float, placed: Sequence[_Placed], reasoning: Sums
    ) -> Recommendation | None:
        policies = [p for p in placed if p.kind == "policy"]
        if not policies:
            return None
        chosen = policies[0]
        for other in policies[1:]:
            if saving(other.sums, chosen.sums).low > 0:
                chosen = other
        return Recommendation(
            _verdict(saving(chosen.sums, reasoning)),
            chosen.name,
            self.architecture_of(chosen.name),
            chosen.threshold,
            max_miss,
            [
                _beside(chosen.name, other.name, saving(chosen.sums, other.sums))
                for other in policies
                if other.name != chosen.name
            ],
        )


def _levels(scores: NDArray[np.float32]) -> Floats:
    """Thresholds from one that sends everything up to one that sends nothing."""
    known = scores[np.isfinite(scores)].astype(np.float64)
    levels = np.unique(np.quantile(known, np.linspace(0, 1, _LEVELS), method="nearest"))
    return np.append(levels, np.nextafter(np.float32(levels[-1]), np.float32(np.inf)))


def _highest(
    levels: Floats, sums_at: Callable[[float], Sums], misses_little: Callable[[Sums], bool]
) -> tuple[float, Sums] | None:
    """The highest threshold that misses little enough, with its sums; None where none does."""
    low, high, highest = 0, len(levels) - 1, None
    while low <= high:
        middle = (low + high) // 2
        sums = sums_at(float(levels[middle]))
        if misses_little(sums):
            highest, low = (float(levels[middle]), sums), middle + 1
        else:
            high = middle - 1
    return highest


def _expected(sums: Sums) -> float:
    """The share of misses that the scores expect."""
    needed = float(sums.needed.sum())
    return float(sums.missed.sum()) / needed if needed else 0.0


def _shown(sums: Sums) -> float:
    """The share of misses that evidence shows."""
    return float(sums.under.sum() / sums.needs.sum())


def _verdict(against_reasoning: Estimate) -> str:
    if against_reasoning.low > 0:
        return "route"
    return "do not route" if against_reasoning.high <= 0 else "cannot tell"


def _beside(chosen: str, other: str, lead: Estimate) -> str:
    span = f"{lead.value:+.2f} USD ({lead.low:+.2f} to {lead.high:+.2f}) for 1,000 turns"
    if lead.low > 0:
        return f"{chosen} is cheaper than {other} by {span}"
    if lead.high < 0:
        return f"{chosen} is dearer than {other}, by {span}"
    return f"{chosen} beside {other}: {span}, no difference shown; the simpler one is taken"
