"""Rows the router has not seen → a threshold with what it promises; knows no price."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from turnout.errors import RecordError, SettingsError
from turnout.evaluation.bootstrap import Estimate, Resampling
from turnout.evaluation.metrics import recall, share
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING
from turnout.routing import RouterFolder
from turnout.routing.folder import set_threshold
from turnout.samples import DatasetFolder, Samples

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """What was chosen, and what it does on the rows it was chosen on.

    Attributes:
        value: The threshold, in [0, 1].
        origin: How it was chosen, for a person; stored in the router folder.
        before: The threshold that the folder had.
        rows: Rows looked at.
        share: Share of them sent to the reasoning class.
        recall: Share of those that need reasoning which are sent there.
    """

    value: float
    origin: str
    before: float
    rows: int
    share: Estimate
    recall: Estimate


def choose_threshold(
    router: Path,
    data: Path,
    *,
    wanted_share: float | None = None,
    max_miss: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> ThresholdReport:
    """Choose a threshold on the test rows of a data set and write it into the router folder.

    Args:
        router: A router folder; its `router.json` is replaced.
        data: A data set folder.
        wanted_share: Share in (0, 1) of messages to send to the reasoning class.
        max_miss: Bound in (0, 1) on the share of messages that need reasoning but are sent to the
            fast class; holds for new messages like these with probability `confidence`.
        confidence: In (0, 1).
        seed: Decides which turn of a conversation speaks for it.
        on_progress: Told every few rows.

    Raises:
        ArtifactError: If the router or the data set cannot be used.
        RecordError: If there are too few rows for the promise.
        SettingsError: If not exactly one goal is given, or a number is out of range.
        StorageError: If the folder cannot be written.
    """
    goal = _goal(wanted_share, max_miss, confidence)
    folder, dataset = RouterFolder.read(router), DatasetFolder.read(data)
    test = dataset.split("test")
    scores = folder.scorer().score(test.inputs, on_progress).astype(np.float64)
    needs = test.labels == LABEL_REASONING
    if wanted_share is not None:
        value = threshold_for_share(scores, wanted_share)
    else:
        speaking = _one_a_conversation(test, needs, seed)
        value = threshold_for_miss(scores[speaking], goal, confidence, where=data)
    origin = _origin(wanted_share, max_miss, confidence, data)
    set_threshold(router, value, origin)
    resampling = Resampling(test.conversation_ids, seed)
    return ThresholdReport(
        value=value,
        origin=origin,
        before=folder.spec.threshold,
        rows=len(test),
        share=resampling.estimate(lambda w: share(scores, value, w)),
        recall=resampling.estimate(lambda w: recall(scores, needs, value, w)),
    )


def threshold_for_share(scores: Floats, wanted: float) -> float:
    """The greatest threshold that sends at least the wanted share of these scores to reasoning."""
    rows = int(np.ceil(wanted * len(scores)))
    return float(np.sort(scores)[len(scores) - rows])


def threshold_for_miss(
    scores: Floats, max_miss: float, confidence: float, *, where: Path | str
) -> float:
    """The greatest threshold whose miss rate on new messages is bounded.

    With n independent scores of messages that need reasoning, the share of the distribution under
    the k-th smallest is Beta(k, n − k + 1) distributed, whatever the distribution: the greatest k
    for which it stays under the bound with the wanted confidence gives the threshold.

    Args:
        scores: Of messages that need reasoning, shape `(n,)`.
        max_miss: The bound.
        confidence: Its probability.
        where: Names the data in messages.

    Raises:
        RecordError: If n is too small for any k.

    Source:
        Wilks (1941), "Determination of sample sizes for setting tolerance limits".
    """
    n = len(scores)
    ranks = np.arange(1, n + 1)
    holds = beta.cdf(max_miss, ranks, n - ranks + 1) >= confidence
    if not holds.any():
        needed = int(np.ceil(np.log(1 - confidence) / np.log(1 - max_miss)))
        raise RecordError(
            f"{where}: {n} independent test rows that need reasoning; expected at least {needed} "
            f"to promise a miss rate of {max_miss:g} with {confidence:.0%} confidence. Build a "
            "larger data set, or allow more misses."
        )
    return float(np.sort(scores)[int(ranks[holds].max()) - 1])


def _goal(wanted_share: float | None, max_miss: float | None, confidence: float) -> float:
    goals = [goal for goal in (wanted_share, max_miss) if goal is not None]
    if len(goals) != 1:
        raise SettingsError(f"found {len(goals)} goals; expected one of --share and --max-miss.")
    for name, value in (("the goal", goals[0]), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise SettingsError(f"{name}: found {value:g}; expected more than 0 and less than 1.")
    return goals[0]


def _one_a_conversation(test: Samples, needs: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """A row that needs reasoning from each conversation: turns of one are not independent."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(needs))
    chosen: dict[str, int] = {}
    for row in order:
        chosen.setdefault(test.conversation_ids[row], int(row))
    return np.asarray(sorted(chosen.values()), dtype=np.intp)


def _origin(
    wanted_share: float | None, max_miss: float | None, confidence: float, data: Path
) -> str:
    where = f"on the test rows of {data.resolve().name}"
    if wanted_share is not None:
        return f"sends {wanted_share:.0%} to reasoning {where}"
    return f"misses at most {max_miss:.1%} with {confidence:.0%} confidence, chosen {where}"
