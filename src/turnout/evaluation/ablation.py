"""Measures a conversation router with fewer or more previous turns than it is served with.

The trained router is measured as it is. A router trained on another view might do better in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from turnout.buckets import turn_buckets
from turnout.evaluation.measure import MIN_ROWS_A_CLASS, Reference
from turnout.progress import OnProgress, silent
from turnout.records import ModelInput, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.routing.scorer import OnnxScorer
from turnout.samples import Samples, input_shown
from turnout.stats import metrics
from turnout.stats.bootstrap import Estimate, Resampling

# Every row is scored once a view; more rows would take many minutes.
MAX_ROWS = 2000
_PREVIOUS_TURNS = (0, 1, 2, 3)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """How much of a conversation is shown.

    Attributes:
        formatter: The formatter of the view.
        as_served: Whether it is the router's own formatter.
    """

    formatter: Formatter
    as_served: bool

    @property
    def previous_turns(self) -> int | None:
        """The most previous turns; None for all that the data set stores."""
        turns = self.formatter.previous_turns
        return None if turns == MAX_STORED_TURNS else turns

    @property
    def name(self) -> str:
        """A name for tables."""
        turns = self.previous_turns
        name = f"all (up to {MAX_STORED_TURNS})" if turns is None else str(turns or "none")
        return f"{name} (as served)" if self.as_served else name


@dataclass(frozen=True, slots=True)
class BucketAuroc:
    """AUROC among the rows of a turn-index bucket; None where a class has too few rows."""

    name: str
    rows: int
    auroc: Estimate | None


@dataclass(frozen=True, slots=True)
class ViewResult:
    """The measurements of one view.

    Attributes:
        name: For tables.
        previous_turns: The most previous turns; None for all.
        as_served: Whether it is the router's own view.
        truncated_share: Share of rows in [0, 1] that the token budget truncated.
        auroc: Over all rows.
        gain: Lead over the view without previous turns, paired; None for that view itself.
        buckets: By turn index.
    """

    name: str
    previous_turns: int | None
    as_served: bool
    truncated_share: float
    auroc: Estimate
    gain: Estimate | None
    buckets: list[BucketAuroc]


@dataclass(frozen=True, slots=True)
class ContextAblation:
    """The value of previous turns to a router.

    Attributes:
        reference: The name of the reference.
        rows: Rows measured, evenly spaced where there are more than `MAX_ROWS`.
        most_turns: The number of previous turns that "all" means, within the token budget.
        views: The one without previous turns first.
    """

    reference: str
    rows: int
    most_turns: int
    views: list[ViewResult]


def views_of(formatter: Formatter) -> list[View]:
    """None, 1, 2, 3, the router's own number, and all previous turns."""
    numbers = sorted({*_PREVIOUS_TURNS, formatter.previous_turns, MAX_STORED_TURNS})
    formatters = [replace(formatter, previous_turns=n) for n in numbers]
    return [View(other, other == formatter) for other in formatters]


def context_ablation(
    scorer: OnnxScorer,
    formatter: Formatter,
    test: Samples,
    previous: Sequence[Sequence[Turn]],
    reference: Reference,
    seed: int,
    on_progress: OnProgress = silent,
) -> ContextAblation:
    """Score the test rows in every view, and compare the scores with the reference.

    Args:
        scorer: The router's scorer.
        formatter: The router's formatter.
        test: The test rows.
        previous: The turns before each row, newest first.
        reference: Labels of the rows.
        seed: Decides the resampling.
        on_progress: Called for every view.
    """
    labelled = np.flatnonzero(reference.known)
    n_rows = min(MAX_ROWS, len(labelled))
    rows = labelled[np.linspace(0, len(labelled) - 1, n_rows).astype(int)]
    views = views_of(formatter)
    cache: dict[ModelInput, tuple[float, bool]] = {}
    scored = []
    for number, view in enumerate(views):
        on_progress("context", number, len(views))
        inputs = [
            input_shown(
                view.formatter, test.inputs[row].message, int(test.turn_indices[row]), previous[row]
            )
            for row in rows
        ]
        scored.append(_scores(scorer, inputs, cache))
    on_progress("context", len(views), len(views))
    results = _view_results(views, scored, test, rows, reference.positive[rows], seed)
    return ContextAblation(reference.name, len(rows), MAX_STORED_TURNS, results)


def _scores(
    scorer: OnnxScorer, inputs: Sequence[ModelInput], cache: dict[ModelInput, tuple[float, bool]]
) -> tuple[Floats, float]:
    """Scores, and the share of truncated inputs; `cache` has inputs that other views share."""
    new = [row for row in dict.fromkeys(inputs) if row not in cache]
    truncated = [scorer.encode(row).truncated_tokens > 0 for row in new]
    results = zip(map(float, scorer.score(new)), truncated, strict=True)
    cache |= dict(zip(new, results, strict=True))
    scores = np.asarray([cache[row][0] for row in inputs])
    return scores, float(np.mean([cache[row][1] for row in inputs]))


def _view_results(
    views: Sequence[View],
    scored: Sequence[tuple[Floats, float]],
    test: Samples,
    rows: NDArray[np.intp],
    positive: NDArray[np.bool_],
    seed: int,
) -> list[ViewResult]:
    clusters = test.clusters_of(rows)
    resampling = Resampling(clusters, seed)
    buckets = turn_buckets([int(test.turn_indices[row]) for row in rows])
    blind = scored[0][0]
    results = []
    for view, (scores, truncated_share) in zip(views, scored, strict=True):
        gain = None
        if scores is not blind:
            gain = resampling.estimate(
                lambda weights, scores=scores: (
                    metrics.auroc(scores, positive, weights)  # type: ignore[misc]
                    - metrics.auroc(blind, positive, weights)
                )
            )
        results.append(
            ViewResult(
                name=view.name,
                previous_turns=view.previous_turns,
                as_served=view.as_served,
                truncated_share=truncated_share,
                auroc=_auroc(scores, positive, resampling),
                gain=gain,
                buckets=[
                    _bucket(name, inside, scores, positive, clusters, seed)
                    for name, inside in buckets.items()
                ],
            )
        )
    return results


def _bucket(
    name: str,
    inside: NDArray[np.intp],
    scores: Floats,
    positive: NDArray[np.bool_],
    clusters: Sequence[str],
    seed: int,
) -> BucketAuroc:
    here = positive[inside]
    if min(here.sum(), (~here).sum()) < MIN_ROWS_A_CLASS:
        return BucketAuroc(name, len(inside), None)
    resampling = Resampling([clusters[row] for row in inside], seed)
    return BucketAuroc(name, len(inside), _auroc(scores[inside], here, resampling))


def _auroc(scores: Floats, positive: NDArray[np.bool_], resampling: Resampling) -> Estimate:
    return resampling.estimate(lambda weights: metrics.auroc(scores, positive, weights))
