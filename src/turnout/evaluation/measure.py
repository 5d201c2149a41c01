"""Measures a router and its baselines on test rows, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from turnout.buckets import turn_buckets
from turnout.routing import Priors
from turnout.samples import Samples
from turnout.stats import metrics
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.calibration import (
    Calibration,
    calibration,
    calibration_error,
    equal_mass_bins,
    expected_calibration_error,
)

Floats = NDArray[np.float64]
Kind = Literal["router", "ablation", "baseline", "oracle"]

# A part with fewer rows of a class is counted and not measured.
MIN_ROWS_A_CLASS = 10
# Names of the main metrics.
MAIN_METRICS = {"auroc": "AUROC", "apgr": "APGR"}


@dataclass(frozen=True, slots=True)
class Reference:
    """Labels, or measured gaps, that scores are compared with.

    Attributes:
        name: For tables.
        positive: Rows that need reasoning, shape `(n,)`.
        known: Rows whose need is known, shape `(n,)`.
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


@dataclass(frozen=True, slots=True)
class Method:
    """The measurements of one method.

    Attributes:
        name: For tables.
        kind: `router`, `ablation` (the router with less input), `baseline`, or `oracle`.
        metrics: Name → estimate: auroc, brier, ece, share_for_50, share_for_80,
            and apgr where gaps were measured.
        lead: The router's lead in the main metric; None for the router itself.
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
        name: Of the bucket or group.
        rows: Its rows whose need is known.
        reasoning: Those of them that need reasoning.
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
    """Rows of similar score: the mean score, and the share that needed reasoning, in [0, 1]."""

    mean_score: float
    observed: Estimate
    rows: int


@dataclass(frozen=True, slots=True)
class LogResult:
    """Scores for the log's population, measured on rows weighted as that population is.

    Attributes:
        prior: Share of reasoning in the log.
        mean_score: Mean score for the log; close to `prior` if the scores are right.
        mean_balanced_score: Mean of the scores for balanced rows there.
        uncorrected: Calibration error of the scores for balanced rows there.
        calibration: Of the scores for the log.
        share_at_threshold: Share of those messages that the router sends to reasoning.
    """

    prior: float
    mean_score: float
    mean_balanced_score: float
    uncorrected: float
    calibration: Calibration
    share_at_threshold: Estimate


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """All methods, compared with one reference.

    Attributes:
        reference: Its name.
        main_metric: `auroc` or `apgr`.
        rows: Rows compared.
        reasoning: Those of them that need reasoning.
        conversations: Their conversations (or prompts).
        groups: What intervals resample: groups of rows (`cv_group`), else conversations.
        methods: The router first.
        parts: By turn index or group.
        within_groups: Mean AUROC of the parts that have enough rows, by router and linear
            baseline; None where rows have no groups.
        reliability: The router's.
        calibration: The router's, over the rows whose need is known.
        log: The router's scores for the log, on rows weighted to its share of reasoning; None
            where that share is not known for this reference.
        share_at_threshold: Share of rows that the router sends to reasoning as it is served.
        recall_at_threshold: Share of the rows needing reasoning that are sent there.
    """

    reference: str
    main_metric: str
    rows: int
    reasoning: int
    conversations: int
    groups: int
    methods: list[Method]
    parts: list[Part]
    within_groups: dict[str, float] | None
    reliability: list[ReliabilityBin]
    calibration: Calibration
    log: LogResult | None
    share_at_threshold: Estimate
    recall_at_threshold: Estimate


def compare_methods(
    reference: Reference,
    scored: Sequence[Scored],
    test: Samples,
    sent: NDArray[np.bool_],
    seed: int,
    priors: Priors | None = None,
    factors: Floats | None = None,
) -> ReferenceResult:
    """Measure every method against one reference.

    Args:
        reference: What the scores are compared with.
        scored: The router first; scores for balanced rows.
        test: The test rows.
        sent: Rows that the router sends to reasoning at its threshold, shape `(n,)`.
        seed: Decides the resampling.
        priors: The router's priors, to measure its scores for the log too.
        factors: How much each row counts among balanced rows, shape `(n,)`; by default equally.
    """
    rows = np.flatnonzero(reference.known) if reference.gap is None else np.arange(len(test))
    reference = _of_rows(reference, rows)
    methods = [Scored(s.name, s.kind, s.scores[rows]) for s in scored]
    router, sent = methods[0], sent[rows]
    clusters = test.clusters_of(rows)
    factors = np.ones(len(rows)) if factors is None else factors[rows]
    resampling = Resampling(clusters, seed, factors=factors)
    parts = _parts(reference, methods, test, rows, factors, seed)
    by_group = [part for part in parts if part.by == "group" and part.router and part.linear]
    return ReferenceResult(
        reference=reference.name,
        main_metric=reference.main_metric,
        rows=len(rows),
        reasoning=int((reference.positive & reference.known).sum()),
        conversations=len({test.conversation_ids[row] for row in rows}),
        groups=len(set(clusters)),
        methods=[method_result(method, router, reference, resampling) for method in methods],
        parts=parts,
        within_groups=_within(by_group) if by_group else None,
        reliability=_reliability(reference, router.scores, resampling, factors),
        calibration=_calibration_of(reference, router, clusters, factors, seed),
        log=None if priors is None else _in_log(reference, router, sent, clusters, seed, priors),
        share_at_threshold=resampling.estimate(lambda w: metrics.share(sent, w)),
        recall_at_threshold=resampling.estimate(
            lambda w: metrics.recall(sent, reference.positive, w * reference.known)
        ),
    )


def _of_rows(reference: Reference, rows: NDArray[np.intp]) -> Reference:
    gap = None if reference.gap is None else reference.gap[rows]
    return Reference(reference.name, reference.positive[rows], reference.known[rows], gap)


def _main(reference: Reference, scores: Floats, weights: Floats) -> Floats:
    if reference.gap is None:
        return metrics.auroc(scores, reference.positive, weights * reference.known)
    return metrics.apgr(scores, reference.gap, weights)


def method_result(
    scored: Scored, router: Scored, reference: Reference, resampling: Resampling
) -> Method:
    """Every metric of a method, and the router's lead over it."""
    needed = (reference.positive & reference.known).astype(np.float64)
    gain = needed if reference.gap is None else reference.gap
    names = ["auroc", "brier", "ece", "share_for_50", "share_for_80"]

    def measured(weights: Floats) -> Floats:
        labelled = weights * reference.known
        curves = metrics.recovered(scored.scores, gain, weights)
        columns = [
            metrics.auroc(scored.scores, reference.positive, labelled),
            metrics.brier(scored.scores, reference.positive, labelled),
            expected_calibration_error(scored.scores, reference.positive, labelled),
            metrics.share_for(curves, 0.5),
            metrics.share_for(curves, 0.8),
        ]
        if reference.gap is not None:
            columns.append(metrics.area(curves))
        return np.column_stack([*columns, curves])

    estimates = resampling.estimates(measured)
    named = names + (["apgr"] if reference.gap is not None else [])
    curve = estimates[len(named) :]
    lead = None
    if scored is not router:
        lead = resampling.estimate(
            lambda w: _main(reference, router.scores, w) - _main(reference, scored.scores, w)
        )
    return Method(
        name=scored.name,
        kind=scored.kind,
        metrics=dict(zip(named, estimates, strict=False)),
        lead=lead,
        curve=[point.value for point in curve],
        band=([p.low for p in curve], [p.high for p in curve]) if scored is router else None,
    )


def _parts(
    reference: Reference,
    scored: Sequence[Scored],
    test: Samples,
    rows: NDArray[np.intp],
    factors: Floats,
    seed: int,
) -> list[Part]:
    """Parts by turn index and by group, if there are at least two."""
    groups = np.asarray([test.groups[row] or "" for row in rows])
    by_group = {name: np.flatnonzero(groups == name) for name in sorted(set(groups.tolist()))}
    parts = []
    for by, members in (
        ("turn index", turn_buckets(np.asarray(test.turn_indices)[rows])),
        ("group", by_group),
    ):
        for name, inside in members.items() if len(members) > 1 else ():
            inside = inside[reference.known[inside]]
            clusters = test.clusters_of(rows[inside])
            parts.append(_part(by, name, reference, scored, inside, clusters, factors, seed))
    return parts


def _part(
    by: str,
    name: str,
    reference: Reference,
    scored: Sequence[Scored],
    inside: NDArray[np.intp],
    clusters: Sequence[str],
    factors: Floats,
    seed: int,
) -> Part:
    positive = reference.positive[inside]
    reasoning = int(positive.sum())
    if min(reasoning, len(inside) - reasoning) < MIN_ROWS_A_CLASS:
        return Part(by, name, len(inside), reasoning, None, None, None)
    resampling = Resampling(clusters, seed)
    linear = next(method for method in scored if method.name.startswith("TF-IDF"))
    router_auroc, linear_auroc = (
        _auroc(method.scores[inside], positive, resampling) for method in (scored[0], linear)
    )
    calibrated = calibration(scored[0].scores[inside], positive, resampling, seed, factors[inside])
    return Part(by, name, len(inside), reasoning, router_auroc, linear_auroc, calibrated)


def _calibration_of(
    reference: Reference, router: Scored, clusters: Sequence[str], factors: Floats, seed: int
) -> Calibration:
    labelled = np.flatnonzero(reference.known)
    resampling = Resampling([clusters[int(row)] for row in labelled], seed)
    return calibration(
        router.scores[labelled], reference.positive[labelled], resampling, seed, factors[labelled]
    )


def _in_log(
    reference: Reference,
    router: Scored,
    sent: NDArray[np.bool_],
    clusters: Sequence[str],
    seed: int,
    priors: Priors,
) -> LogResult | None:
    labelled = np.flatnonzero(reference.known)
    positive, share = reference.positive[labelled], reference.positive[labelled].mean()
    if priors.log is None or not 0 < share < 1:
        return None
    weights = np.where(positive, priors.log / share, (1 - priors.log) / (1 - share))
    balanced = router.scores[labelled]
    scores = expit(logit(balanced) + priors.shift("log"))
    resampling = Resampling([clusters[int(row)] for row in labelled], seed)
    return LogResult(
        prior=priors.log,
        mean_score=float(np.average(scores, weights=weights)),
        mean_balanced_score=float(np.average(balanced, weights=weights)),
        uncorrected=calibration_error(balanced, positive, weights),
        calibration=calibration(scores, positive, resampling, seed, weights),
        share_at_threshold=resampling.estimate(
            lambda w: metrics.share(sent[labelled], w * weights)
        ),
    )


def _auroc(scores: Floats, positive: NDArray[np.bool_], draws: Resampling) -> Estimate:
    return draws.estimate(lambda weights: metrics.auroc(scores, positive, weights))


def _within(parts: Sequence[Part]) -> dict[str, float]:
    return {
        "groups": len(parts),
        "router": float(np.mean([part.router.value for part in parts if part.router])),
        "linear": float(np.mean([part.linear.value for part in parts if part.linear])),
    }


def _reliability(
    reference: Reference, scores: Floats, resampling: Resampling, factors: Floats
) -> list[ReliabilityBin]:
    labelled = np.flatnonzero(reference.known)
    bins = []
    for inside in equal_mass_bins(scores[labelled], 10):
        member = np.zeros(len(scores))
        member[labelled[inside]] = 1.0

        def observed(weights: Floats, member: Floats = member) -> Floats:
            mass = weights @ member
            needed = weights @ (member * reference.positive)
            share = np.full(len(mass), np.nan)
            np.divide(needed, mass, out=share, where=mass > 0)
            return share

        mean = float(np.average(scores[labelled[inside]], weights=factors[labelled[inside]]))
        bins.append(ReliabilityBin(mean, resampling.estimate(observed), len(inside)))
    return bins
