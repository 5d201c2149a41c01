"""A conversation router, shown less or more of the conversation than it is served with.

What is measured is the trained router as it is: a view that it was not trained on may do worse than
a router that was.
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
from turnout.samples import Samples
from turnout.stats import metrics
from turnout.stats.bootstrap import Estimate, Resampling

# Every row is scored once a view: more rows than these would take many minutes.
MAX_ROWS = 2000
_PREVIOUS_TURNS = (0, 1, 2, 3)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """How much of a conversation is shown.

    Attributes:
        formatter: Shows it.
        as_served: Whether it is what the router was trained with and is served with.
    """

    formatter: Formatter
    as_served: bool

    @property
    def previous_turns(self) -> int | None:
        """At most so many; None for all that the data set has."""
        shown = self.formatter.previous_turns
        return None if shown == MAX_STORED_TURNS else shown

    @property
    def name(self) -> str:
        """For tables."""
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
    """How the router does in one view.

    Attributes:
        name: For tables.
        previous_turns: At most so many previous turns are shown; None for all.
        as_served: Whether it is the router's own view.
        truncated_share: Share of rows in [0, 1] that the token budget truncated.
        auroc: Over all rows.
        gain: Ahead of the view without previous turns, paired; None for that view itself.
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
    """What previous turns are worth to a router.

    Attributes:
        reference: What the scores were compared with.
        rows: Rows measured, evenly spaced where there are more than `MAX_ROWS`.
        most_turns: Most previous turns that "all" means; the token budget may end before.
        views: The one without previous turns first.
    """

    reference: str
    rows: int
    most_turns: int
    views: list[ViewResult]


def views_of(formatter: Formatter) -> list[View]:
    """None, 1, 2, 3, the router's own number, and all previous turns."""
    numbers = sorted({*_PREVIOUS_TURNS, formatter.previous_turns, MAX_STORED_TURNS})
    shown = [replace(formatter, previous_turns=n) for n in numbers]
    return [View(view, view == formatter) for view in shown]


def seen(
    formatter: Formatter, message: str, turn_index: int, previous: Sequence[Turn]
) -> ModelInput:
    """A row as a formatter shows it.

    Args:
        formatter: The view.
        message: As the data set has it: already shortened.
        turn_index: 1-based.
        previous: Newest first.
    """
    shown = formatter.format([*reversed(previous), Turn(message)], turn_index)
    return ModelInput(message, shown.context)


def context_ablation(
    scorer: OnnxScorer,
    formatter: Formatter,
    test: Samples,
    previous: Sequence[Sequence[Turn]],
    reference: Reference,
    seed: int,
    on_progress: OnProgress = silent,
) -> ContextAblation:
    """Score the test rows in every view, and reference.

    Args:
        scorer: The router's.
        formatter: The router's own.
        test: The rows.
        previous: The turns before each row, newest first.
        reference: What the scores are compared with.
        seed: Decides the resampling.
        on_progress: Called for every view.
    """
    known = np.flatnonzero(reference.known)
    rows = known[np.linspace(0, len(known) - 1, min(MAX_ROWS, len(known))).astype(int)]
    views = views_of(formatter)
    memory: dict[ModelInput, tuple[float, bool]] = {}
    scored = []
    for number, view in enumerate(views):
        on_progress("context", number, len(views))
        inputs = [
            seen(
                view.formatter, test.inputs[row].message, int(test.turn_indices[row]), previous[row]
            )
            for row in rows
        ]
        scored.append(_scores(scorer, inputs, memory))
    on_progress("context", len(views), len(views))
    results = _view_results(views, scored, test, rows, reference.positive[rows], seed)
    return ContextAblation(reference.name, len(rows), MAX_STORED_TURNS, results)


def _scores(
    scorer: OnnxScorer, inputs: Sequence[ModelInput], memory: dict[ModelInput, tuple[float, bool]]
) -> tuple[Floats, float]:
    """Scores, and the share of inputs that were cut; `memory` has what other views showed alike."""
    new = [row for row in dict.fromkeys(inputs) if row not in memory]
    cut = [scorer.encode(row).truncated_tokens > 0 for row in new]
    memory |= dict(zip(new, zip(map(float, scorer.score(new)), cut, strict=True), strict=True))
    scores = np.asarray([memory[row][0] for row in inputs])
    return scores, float(np.mean([memory[row][1] for row in inputs]))


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
                lambda w, own=scores: (
                    metrics.auroc(own, positive, w)  # type: ignore[misc]
                    - metrics.auroc(blind, positive, w)
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
