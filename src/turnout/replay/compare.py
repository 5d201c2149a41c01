"""Policies beside one another on the same turns: as served, at equal misses, and as curves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from turnout.records import Architecture, ModelClass
from turnout.replay.columns import Floats
from turnout.replay.decisions import Decided
from turnout.replay.log import ScoredLog
from turnout.replay.measures import COST_TURNS, Measured, Sums, measured, saving, sums_of
from turnout.replay.walk import walk
from turnout.routing.policies import (
    FixedPolicy,
    Policy,
    PricedPolicy,
    Target,
    TurnsLeft,
    policy_of,
)
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import ratio

# From the simplest on: where costs do not differ, the first one is recommended.
ROUTED = ("session", "boundary", "conversation", "priced")
MISSED_LEVELS = (0.05, 0.10, 0.20)
# Curves and equal misses are computed on so many turns of conversations drawn at random.
SAMPLE_TURNS = 200_000
_CURVE_POINTS = 25
_LEVELS = 256


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy on the log.

    Attributes:
        name: Of the policy or the baseline.
        kind: `policy`, or `baseline`.
        threshold: The least score for reasoning; None where none is used.
        measured: What it did.
        against_reasoning: USD for 1,000 turns that it saves beside always reasoning.
        against_today: The same beside what the log paid, on the turns whose model has a price;
            None where none has.
    """

    name: str
    kind: str
    threshold: float | None
    measured: Measured
    against_reasoning: Estimate
    against_today: Estimate | None


@dataclass(frozen=True, slots=True)
class AtMissed:
    """Policies with thresholds at which they miss the same share, those that can."""

    missed: float
    rows: list[PolicyRow]


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
class Comparison:
    """All of it."""

    served: list[PolicyRow]
    at_missed: list[AtMissed]
    curves: list[Curve]
    recommendation: Recommendation | None
    sampled_turns: int


@dataclass(frozen=True)
class Comparing:
    """A log, what its models cost, and the policies to compare.

    Attributes:
        log: The scored log.
        thresholds: Architecture → the threshold that its router is served with.
        targets: What each class costs.
        miss_usd: The price of a miss of `priced`; None derives it from the threshold.
    """

    log: ScoredLog
    thresholds: Mapping[Architecture, float]
    targets: Mapping[ModelClass, Target]
    miss_usd: float | None = None
    _turns_left: TurnsLeft = field(init=False)

    def __post_init__(self) -> None:
        lengths: list[int] = np.diff(self.log.turns.starts).tolist()
        object.__setattr__(self, "_turns_left", TurnsLeft.from_turn_counts(lengths))

    def compared(self, max_missed: float) -> Comparison:
        """Walk every policy.

        Args:
            max_missed: The share of misses at which a policy is recommended, in (0, 1).
        """
        sample = self._sample()
        levels = sorted({*MISSED_LEVELS, max_missed})
        at_missed = [AtMissed(level, sample._rows_at(level)) for level in levels]
        recommended = next(a for a in at_missed if a.missed == max_missed)
        return Comparison(
            served=self._served(),
            at_missed=at_missed,
            curves=sample._curves(),
            recommendation=sample._recommendation(recommended),
            sampled_turns=len(sample.log.turns),
        )

    def decided(self, comparison: Comparison, max_missed: float) -> Iterator[Decided]:
        """Every policy at its threshold for `max_missed`, with its reasons, one walk at a time.

        Args:
            comparison: What `compared` gave.
            max_missed: As for `compared`. A policy that cannot miss so little decides by its
                router's own threshold.
        """
        at = next(at for at in comparison.at_missed if at.missed == max_missed)
        chosen = {row.name: row.threshold for row in at.rows}
        for name in self.routed:
            router = self.architecture_of(name)
            threshold = chosen.get(name)
            if threshold is None:
                threshold = self.thresholds[router]
            walked = walk(
                self.log.turns, self.log.scores[router], threshold, self._policy(name),
                self.targets, with_reasons=True,
            )  # fmt: skip
            yield Decided(name, router, threshold, walked)

    @property
    def routed(self) -> tuple[str, ...]:
        """Policies that the scores allow: a session router scores first turns alone."""
        return ROUTED if "conversation" in self.log.scores else ROUTED[:1]

    def architecture_of(self, policy: str) -> Architecture:
        """Whose scores a policy reads."""
        if policy == "session" and "session" in self.log.scores:
            return "session"
        return "conversation"

    @property
    def _need(self) -> Floats:
        best: Architecture = "conversation" if "conversation" in self.log.scores else "session"
        return self.log.scores[best].astype(np.float64)

    def _sample(self) -> Comparing:
        lengths = np.diff(self.log.turns.starts)
        if lengths.sum() <= SAMPLE_TURNS:
            return Comparing(self.log, self.thresholds, self.targets)
        order = np.random.default_rng(0).permutation(len(lengths))
        enough = int(np.searchsorted(np.cumsum(lengths[order]), SAMPLE_TURNS)) + 1
        part = self.log.part(np.sort(order[:enough]))
        # At equal misses the threshold is varied, and the price of a miss follows from it.
        return Comparing(part, self.thresholds, self.targets)

    def _policy(self, name: str) -> Policy:
        priced = PricedPolicy(miss_usd=self.miss_usd, turns_left=self._turns_left)
        return policy_of(name, priced=priced)

    def _sums(self, policy: Policy, scores: NDArray[np.float32], threshold: float) -> Sums:
        walked = walk(self.log.turns, scores, threshold, policy, self.targets)
        return sums_of(self.log, walked, self.targets, self._need)

    def _routed_sums(self, name: str, threshold: float) -> Sums:
        scores = self.log.scores[self.architecture_of(name)]
        return self._sums(self._policy(name), scores, threshold)

    def _fixed(self, name: ModelClass) -> Sums:
        anything = next(iter(self.log.scores.values()))
        return self._sums(FixedPolicy(name), anything, 0.5)

    def _row(
        self, name: str, kind: str, threshold: float | None, sums: Sums, reasoning: Sums
    ) -> PolicyRow:
        return PolicyRow(
            name,
            kind,
            threshold,
            measured(sums),
            saving(sums, reasoning),
            self._against_today(sums),
        )

    def _against_today(self, sums: Sums) -> Estimate | None:
        turns = self.log.turns
        priced = np.isfinite(self.log.logged_usd)
        if not priced.any():
            return None
        paid = turns.sums(np.nan_to_num(self.log.logged_usd))
        return ratio(COST_TURNS * (paid - sums.paid_usd), turns.sums(priced))

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
        like = "conversation" if "conversation" in shares else "session"
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
        scores = self.log.scores[self.architecture_of(name)].astype(np.float64)
        known = scores[np.isfinite(scores)]
        levels = np.unique(np.quantile(known, np.linspace(0, 1, _LEVELS), method="nearest"))
        return np.append(levels, np.nextafter(np.float32(levels[-1]), np.float32(2)))

    def _rows_at(self, level: float) -> list[PolicyRow]:
        reasoning = self._fixed("reasoning")
        rows = []
        for name in self.routed:
            found = self._threshold_at(name, level)
            if found is not None:
                rows.append(self._row(name, "policy", *found, reasoning))
        return rows

    def _threshold_at(self, name: str, level: float) -> tuple[float, Sums] | None:
        """The highest threshold that misses at most the level; None where none does."""
        levels = self._levels(name)
        low, high, found = 0, len(levels) - 1, None
        while low <= high:
            middle = (low + high) // 2
            sums = self._routed_sums(name, float(levels[middle]))
            if sums.missed.sum() <= level * sums.needed.sum():
                found, low = (float(levels[middle]), sums), middle + 1
            else:
                high = middle - 1
        return found

    def _curves(self) -> list[Curve]:
        curves = [
            self._curve(name, functools.partial(self._routed_sums, name), self._levels(name))
            for name in self.routed
        ]
        policy = self._policy("conversation" if "conversation" in self.routed else "session")
        for name, scores in self._trivial_scores().items():
            levels = np.quantile(scores, np.linspace(0, 1, _CURVE_POINTS)).astype(np.float64)
            sums_at = functools.partial(self._sums, policy, scores)
            curves.append(self._curve(name, sums_at, np.append(levels, levels[-1] + 1)))
        return curves

    def _curve(self, name: str, sums_at: Callable[[float], Sums], levels: Floats) -> Curve:
        at = np.unique(np.linspace(0, len(levels) - 1, _CURVE_POINTS).round().astype(int))
        thresholds = [float(levels[index]) for index in at]
        sums = [sums_at(threshold) for threshold in thresholds]
        return Curve(
            name,
            thresholds,
            [float(COST_TURNS * s.total_usd.sum() / s.turns.sum()) for s in sums],
            [float(s.missed.sum() / max(s.needed.sum(), 1e-12)) for s in sums],
            [float(s.reasoning.sum() / s.turns.sum()) for s in sums],
        )

    def _recommendation(self, at: AtMissed) -> Recommendation | None:
        if not at.rows:
            return None
        chosen = at.rows[0]
        sums = {row.name: self._routed_sums(row.name, row.threshold or 0.0) for row in at.rows}
        reasons = []
        for row in at.rows[1:]:
            gain = saving(sums[row.name], sums[chosen.name])
            if gain.low > 0:
                chosen = row
        for row in at.rows:
            if row.name != chosen.name:
                lead = saving(sums[chosen.name], sums[row.name])
                reasons.append(_beside(chosen.name, row.name, lead))
        return Recommendation(
            _verdict(chosen.against_reasoning),
            chosen.name,
            self.architecture_of(chosen.name),
            chosen.threshold or 0.0,
            at.missed,
            reasons,
        )


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
