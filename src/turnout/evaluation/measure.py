"""A router and its baselines on test rows → measurements with intervals; knows no page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnout.buckets import turn_buckets
from turnout.evaluation.baselines import Baseline
from turnout.samples import Samples
from turnout.stats import metrics
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.calibration import (
    Calibration,
    calibration,
    equal_mass_bins,
    expected_calibration_error,
)

Floats = NDArray[np.float64]
Kind = Literal["router", "ablation", "baseline", "oracle"]

# A part with fewer rows of a class is counted and not judged.
MIN_ROWS_A_CLASS = 10
# Turn-index buckets: least index of each.
# What a main metric is called.
MAIN_METRICS = {"auroc": "AUROC", "apgr": "APGR"}


@dataclass(frozen=True, slots=True)
class Judge:
    """What scores are judged by.

    Attributes:
        name: For tables.
        positive: Rows that need reasoning, shape `(n,)`.
        known: Rows where that is known.
        gap: What reasoning adds, in [−1, 1]; None where only labels are known.
    """

    name: str
    positive: NDArray[np.bool_]
    known: NDArray[np.bool_]
    gap: Floats | None = None

    @property
    def main_metric(self) -> str:
        """The metric that methods are compared by."""
        return "auroc" if self.gap is None else "apgr"


@dataclass(frozen=True, slots=True)
class Scored:
    """One way to score the test rows."""

    name: str
    kind: Kind
    scores: Floats

    @classmethod
    def of_baseline(cls, baseline: Baseline) -> Scored:
        """A baseline as a method."""
        return cls(baseline.name, "baseline", baseline.scores)


@dataclass(frozen=True, slots=True)
class Method:
    """How a way to score did.

    Attributes:
        name: For tables.
        kind: `router`, `ablation` (the router, shown less), `baseline`, or `oracle`.
        metrics: Name → estimate: auroc, average_precision, brier, ece, share_for_50,
            share_for_80, and apgr where gaps were measured.
        lead: By how much the router is ahead in the main metric; None for the router itself.
        curve: Gain recovered at `metrics.SHARES`.
        band: Lower and upper bound of the router's curve; None for the others.
    """

    name: str
    kind: Kind
    metrics: dict[str, Estimate]
    lead: Estimate | None
    curve: list[float]
    band: tuple[list[float], list[float]] | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the test rows: a turn-index bucket or a group.

    Attributes:
        by: `turn index` or `group`.
        name: Which.
        rows: Judged rows in it.
        reasoning: Of which need reasoning.
        router: AUROC of the router; None where a class has too few rows.
        linear: AUROC of the linear baseline that reads the last message alone.
        calibration: The router's.
    """

    by: str
    name: str
    rows: int
    reasoning: int
    router: Estimate | None
    linear: Estimate | None
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of like score: the mean score, and the share that needed reasoning, in [0, 1]."""

    mean_score: float
    observed: Estimate
    rows: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """All methods by one judge.

    Attributes:
        judge: Its name.
        main_metric: `auroc` or `apgr`.
        rows: Judged rows.
        reasoning: Of which need reasoning.
        conversations: Of how many conversations (or prompts).
        methods: The router first.
        parts: By turn index or group.
        within_groups: Mean AUROC of the parts that could be judged, by router and linear
            baseline; None where rows have no groups.
        reliability: The router's.
        calibration: The router's, over the rows whose need is known.
        share_at_threshold: Share of rows that the router sends to reasoning as it is served.
        recall_at_threshold: Share of the rows needing reasoning that are sent there.
    """

    judge: str
    main_metric: str
    rows: int
    reasoning: int
    conversations: int
    methods: list[Method]
    parts: list[Part]
    within_groups: dict[str, float] | None
    reliability: list[ReliabilityBin]
    calibration: Calibration
    share_at_threshold: Estimate
    recall_at_threshold: Estimate


def judge_methods(
    judge: Judge, scored: Sequence[Scored], test: Samples, threshold: float, seed: int
) -> Judgement:
    """Measure every method by one judge.

    Args:
        judge: What is so.
        scored: The router first.
        test: The rows.
        threshold: The router's.
        seed: Decides the resampling.
    """
    rows = np.flatnonzero(judge.known) if judge.gap is None else np.arange(len(test))
    resampling = Resampling([test.conversation_ids[row] for row in rows], seed)
    judge = _of_rows(judge, rows)
    here = [Scored(s.name, s.kind, s.scores[rows]) for s in scored]
    router = here[0]
    parts = _parts(judge, here, test, rows, seed)
    by_group = [part for part in parts if part.by == "group" and part.router and part.linear]
    return Judgement(
        judge=judge.name,
        main_metric=judge.main_metric,
        rows=len(rows),
        reasoning=int((judge.positive & judge.known).sum()),
        conversations=len({test.conversation_ids[row] for row in rows}),
        methods=[_method(one, router, judge, resampling) for one in here],
        parts=parts,
        within_groups=_within(by_group) if by_group else None,
        reliability=_reliability(judge, router.scores, resampling),
        calibration=_calibration_of(judge, router, [test.conversation_ids[r] for r in rows], seed),
        share_at_threshold=resampling.estimate(
            lambda w: metrics.share(router.scores, threshold, w)
        ),
        recall_at_threshold=resampling.estimate(
            lambda w: metrics.recall(router.scores, judge.positive, threshold, w * judge.known)
        ),
    )


def _of_rows(judge: Judge, rows: NDArray[np.intp]) -> Judge:
    gap = None if judge.gap is None else judge.gap[rows]
    return Judge(judge.name, judge.positive[rows], judge.known[rows], gap)


def _main(judge: Judge, scores: Floats, weights: Floats) -> Floats:
    if judge.gap is None:
        return metrics.auroc(scores, judge.positive, weights * judge.known)
    return metrics.apgr(scores, judge.gap, weights)


def _method(one: Scored, router: Scored, judge: Judge, resampling: Resampling) -> Method:
    needed = (judge.positive & judge.known).astype(np.float64)
    gain = needed if judge.gap is None else judge.gap
    names = ["auroc", "average_precision", "brier", "ece", "share_for_50", "share_for_80"]

    def measured(weights: Floats) -> Floats:
        known = weights * judge.known
        curves = metrics.recovered(one.scores, gain, weights)
        columns = [
            metrics.auroc(one.scores, judge.positive, known),
            metrics.average_precision(one.scores, judge.positive, known),
            metrics.brier(one.scores, judge.positive, known),
            expected_calibration_error(one.scores, judge.positive, known),
            metrics.share_for(curves, 0.5),
            metrics.share_for(curves, 0.8),
        ]
        if judge.gap is not None:
            columns.append(metrics.area(curves))
        return np.column_stack([*columns, curves])

    estimates = resampling.estimates(measured)
    named = names + (["apgr"] if judge.gap is not None else [])
    curve = estimates[len(named) :]
    lead = None
    if one is not router:
        lead = resampling.estimate(
            lambda w: _main(judge, router.scores, w) - _main(judge, one.scores, w)
        )
    return Method(
        name=one.name,
        kind=one.kind,
        metrics=dict(zip(named, estimates, strict=False)),
        lead=lead,
        curve=[point.value for point in curve],
        band=([p.low for p in curve], [p.high for p in curve]) if one is router else None,
    )


def _parts(
    judge: Judge, scored: Sequence[Scored], test: Samples, rows: NDArray[np.intp], seed: int
) -> list[Part]:
    """By turn index and by group, wherever there are at least two."""
    groups = np.asarray([test.groups[row] or "" for row in rows])
    by_group = {name: np.flatnonzero(groups == name) for name in sorted(set(groups.tolist()))}
    found = []
    for by, members in (
        ("turn index", turn_buckets(np.asarray(test.turn_indices)[rows])),
        ("group", by_group),
    ):
        for name, inside in members.items() if len(members) > 1 else ():
            inside = inside[judge.known[inside]]
            clusters = [test.conversation_ids[rows[at]] for at in inside]
            found.append(_part(by, name, judge, scored, inside, clusters, seed))
    return found


def _part(
    by: str,
    name: str,
    judge: Judge,
    scored: Sequence[Scored],
    inside: NDArray[np.intp],
    clusters: Sequence[str],
    seed: int,
) -> Part:
    positive = judge.positive[inside]
    reasoning = int(positive.sum())
    if min(reasoning, len(inside) - reasoning) < MIN_ROWS_A_CLASS:
        return Part(by, name, len(inside), reasoning, None, None, None)
    resampling = Resampling(clusters, seed)
    linear = next(one for one in scored if one.name.startswith("TF-IDF"))
    router_auroc, linear_auroc = (
        _auroc(one.scores[inside], positive, resampling) for one in (scored[0], linear)
    )
    calibrated = calibration(scored[0].scores[inside], positive, resampling, seed)
    return Part(by, name, len(inside), reasoning, router_auroc, linear_auroc, calibrated)


def _calibration_of(
    judge: Judge, router: Scored, clusters: Sequence[str], seed: int
) -> Calibration:
    known = np.flatnonzero(judge.known)
    resampling = Resampling([clusters[int(row)] for row in known], seed)
    return calibration(router.scores[known], judge.positive[known], resampling, seed)


def _auroc(scores: Floats, positive: NDArray[np.bool_], draws: Resampling) -> Estimate:
    return draws.estimate(lambda weights: metrics.auroc(scores, positive, weights))


def _within(parts: Sequence[Part]) -> dict[str, float]:
    return {
        "groups": len(parts),
        "router": float(np.mean([part.router.value for part in parts if part.router])),
        "linear": float(np.mean([part.linear.value for part in parts if part.linear])),
    }


def _reliability(judge: Judge, scores: Floats, resampling: Resampling) -> list[ReliabilityBin]:
    known = np.flatnonzero(judge.known)
    found = []
    for inside in equal_mass_bins(scores[known], 10):
        member = np.zeros(len(scores))
        member[known[inside]] = 1.0

        def observed(weights: Floats, member: Floats = member) -> Floats:
            mass = weights @ member
            needed = weights @ (member * judge.positive)
            share = np.full(len(mass), np.nan)
            np.divide(needed, mass, out=share, where=mass > 0)
            return share

        mean = float(scores[known[inside]].mean())
        found.append(ReliabilityBin(mean, resampling.estimate(observed), len(inside)))
    return found
