"""Messages the router has not seen → a threshold with what it promises; knows no trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from turnout.buckets import turn_buckets
from turnout.catalog import Catalog, Price
from turnout.errors import RecordError, SettingsError
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING, ModelClass
from turnout.replay.traffic import Traffic, traffic_of_samples, traffic_of_turns
from turnout.routing import RouterFolder
from turnout.routing.folder import set_threshold
from turnout.samples import DatasetFolder, Samples
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import recall, share

Floats = NDArray[np.float64]
Prices = Mapping[ModelClass, Price]
# Budgets and costs are for so many messages: a log may be a day or a year long.
COST_MESSAGES = 1_000
# Sums of floats may differ in their last digits from the budget that they stand for.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold is chosen for; exactly one of the first three is given.

    Attributes:
        share: Share in (0, 1) of decisions to send to the reasoning class.
        budget_usd: USD for 1,000 messages.
        max_miss: Bound in (0, 1) on the share of messages that need reasoning but are sent to the
            fast class; holds for new messages like these with probability `confidence`.
        confidence: In (0, 1).

    Raises:
        SettingsError: If not exactly one is given, or a number is out of range.
    """

    share: float | None = None
    budget_usd: float | None = None
    max_miss: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        given = [g for g in (self.share, self.budget_usd, self.max_miss) if g is not None]
        if len(given) != 1:
            raise SettingsError(
                f"found {len(given)} goals; expected one of --share, --budget and --max-miss."
            )
        shares = {"--share": self.share, "--max-miss": self.max_miss}
        for name, value in {**shares, "--confidence": self.confidence}.items():
            if value is not None and not 0 < value < 1:
                raise SettingsError(
                    f"{name}: found {value:g}; expected more than 0 and less than 1."
                )
        if self.budget_usd is not None and not 0 < self.budget_usd < np.inf:
            raise SettingsError(
                f"--budget: found {self.budget_usd:g}; expected USD for {COST_MESSAGES:,} "
                "messages, more than 0."
            )


@dataclass(frozen=True, slots=True)
class TurnShare:
    """Of the decisions in a turn-index bucket, the share sent to the reasoning class."""

    turns: str
    decisions: int
    share: float


@dataclass(frozen=True, slots=True)
class Cost:
    """USD for 1,000 messages: at the threshold, and if one class served all of them.

    Attributes:
        usd: At the threshold.
        fast_usd: If the fast class served all.
        reasoning_usd: If the reasoning class served all.
        counted: Share of the messages whose tokens the log counts; the others are taken to need
            what `evaluation.traffic` says.
    """

    usd: float
    fast_usd: float
    reasoning_usd: float
    counted: float


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """What was chosen, and what it does on the messages it was chosen on.

    Attributes:
        value: The threshold, in [0, 1].
        origin: How it was chosen, for a person; stored in the router folder.
        before: The threshold that the folder had.
        rows: Decisions looked at: first messages for a session router, messages for the other.
        left_out: Conversations whose first turn was not captured, where that is what is decided on.
        share: Share of the decisions that go to the reasoning class.
        by_turn: The same by turn index.
        recall: Share of those that need reasoning which are sent there; None without labels.
        cost: None where no models with a price were named.
        warning: Said where the threshold never or always fires.
    """

    value: float
    origin: str
    before: float
    rows: int
    left_out: int
    share: Estimate
    by_turn: list[TurnShare]
    recall: Estimate | None
    cost: Cost | None
    warning: str | None


def choose_threshold(
    router: Path,
    source: Path,
    goal: Goal,
    *,
    catalog: Catalog,
    prices: Prices | None = None,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> ThresholdReport:
    """Choose a threshold and write it into the router folder.

    Args:
        router: A router folder; its `router.json` is replaced.
        source: A data set folder, of which the test rows are taken, or a turns table: the user's
            own traffic, which needs no labels and is not balanced as a data set is.
        goal: What it is chosen for.
        catalog: Tells which class served a logged turn.
        prices: What the model of each class costs; a budget needs both.
        seed: Decides which turn of a conversation speaks for it.
        on_progress: Told every few rows.

    Raises:
        ArtifactError: If the router or the data set cannot be used, or they do not belong together.
        RecordError: If there are too few rows for the promise, or no labels for it.
        SettingsError: If the budget cannot be kept, or has no prices.
        StorageError: If the folder cannot be written.
    """
    folder = RouterFolder.read(router)
    samples = None if source.is_file() else _test_rows(source, folder)
    if samples is not None:
        traffic = traffic_of_samples(samples)
    else:
        traffic = traffic_of_turns(source, folder.spec.formatter, catalog)
    scores = folder.scorer().score(traffic.inputs, on_progress).astype(np.float64)
    value = _chosen(scores, traffic, samples, goal, prices, seed, source)
    origin = _origin(goal, source)
    set_threshold(router, value, origin)
    resampling = Resampling(traffic.conversation_ids, seed)
    return ThresholdReport(
        value=value,
        origin=origin,
        before=folder.spec.threshold,
        rows=len(scores),
        left_out=traffic.left_out,
        share=resampling.estimate(lambda w: share(scores, value, w)),
        by_turn=_by_turn(traffic, scores >= value),
        recall=None if samples is None else _recall(resampling, samples, scores, value),
        cost=None if prices is None else _cost(traffic, prices, scores >= value),
        warning=_warning(scores >= value),
    )


def threshold_for_share(scores: Floats, wanted: float) -> float:
    """The greatest threshold that sends at least the wanted share of these scores to reasoning."""
    rows = int(np.ceil(wanted * len(scores)))
    return float(np.sort(scores)[len(scores) - rows])


def threshold_for_budget(
    scores: Floats, fast_usd: Floats, reasoning_usd: Floats, budget_usd: float
) -> float:
    """The least threshold at which these messages cost no more than the budget.

    Highest scores first: each is worth most of what the reasoning class adds.

    Args:
        scores: Shape `(n,)`; messages of one score go the same way.
        fast_usd: What each costs on the fast class.
        reasoning_usd: What each costs on the reasoning class.
        budget_usd: For all n together.

    Raises:
        SettingsError: If the fast class alone costs more.
    """
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    costs = fast_usd.sum() + np.append(0.0, np.cumsum((reasoning_usd - fast_usd)[order]))
    # A cut between equal scores is none.
    is_cut = np.append(np.append(True, descending[1:] < descending[:-1]), True)
    kept = np.flatnonzero(is_cut & (costs <= budget_usd * (1 + _ROUNDING)))
    if not len(kept):
        raise SettingsError(
            f"--budget: the fast class alone costs {costs[0] / budget_usd:.2f} times as much; "
            "expected a budget that at least serves every message fast. Raise it, or name a "
            "cheaper --fast-model."
        )
    most = int(kept.max())
    return float(descending[most - 1]) if most else float(np.nextafter(descending[0], np.inf))


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


def _test_rows(source: Path, router: RouterFolder) -> Samples:
    data = DatasetFolder.read(source)
    data.require_shown_as(router.spec.formatter, router.path)
    return data.split("test")


def _chosen(
    scores: Floats,
    traffic: Traffic,
    samples: Samples | None,
    goal: Goal,
    prices: Prices | None,
    seed: int,
    source: Path,
) -> float:
    if goal.share is not None:
        return threshold_for_share(scores, goal.share)
    if goal.budget_usd is not None:
        if prices is None:
            raise SettingsError(
                "--budget: no models were named; expected --reasoning-model and --fast-model, or "
                "a settings file with both targets."
            )
        return threshold_for_budget(
            scores,
            traffic.cost_usd("fast", prices["fast"]),
            traffic.cost_usd("reasoning", prices["reasoning"]),
            goal.budget_usd * traffic.messages.sum() / COST_MESSAGES,
        )
    if samples is None or goal.max_miss is None:
        raise RecordError(
            f"{source}: a turns table says of no message whether it needs reasoning; expected a "
            "data set folder for --max-miss. Make one with `turnout build`."
        )
    speaking = _one_a_conversation(samples, samples.labels == LABEL_REASONING, seed)
    return threshold_for_miss(scores[speaking], goal.max_miss, goal.confidence, where=source)


def _recall(resampling: Resampling, samples: Samples, scores: Floats, value: float) -> Estimate:
    needs = samples.labels == LABEL_REASONING
    return resampling.estimate(lambda w: recall(scores, needs, value, w))


def _one_a_conversation(test: Samples, needs: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """A row that needs reasoning from each conversation: turns of one are not independent."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(needs))
    chosen: dict[str, int] = {}
    for row in order:
        chosen.setdefault(test.conversation_ids[row], int(row))
    return np.asarray(sorted(chosen.values()), dtype=np.intp)


def _by_turn(traffic: Traffic, fires: NDArray[np.bool_]) -> list[TurnShare]:
    return [
        TurnShare(name, len(rows), float(fires[rows].mean()))
        for name, rows in turn_buckets(traffic.turn_indices).items()
    ]


def _cost(traffic: Traffic, prices: Prices, fires: NDArray[np.bool_]) -> Cost:
    fast, reasoning = (traffic.cost_usd(name, prices[name]) for name in ("fast", "reasoning"))
    per = COST_MESSAGES / traffic.messages.sum()
    return Cost(
        usd=float(np.where(fires, reasoning, fast).sum() * per),
        fast_usd=float(fast.sum() * per),
        reasoning_usd=float(reasoning.sum() * per),
        counted=traffic.counted,
    )


def _warning(fires: NDArray[np.bool_]) -> str | None:
    if not fires.any():
        return "No message goes to reasoning: the router does nothing here."
    if fires.all():
        return "Every message goes to reasoning: the router does nothing here."
    return None


def _origin(goal: Goal, source: Path) -> str:
    test = "" if source.is_file() else "the test rows of "
    where = f"on {test}{source.resolve().name}"
    if goal.share is not None:
        return f"sends at least {goal.share:.0%} to reasoning {where}"
    if goal.budget_usd is not None:
        return f"costs at most {goal.budget_usd:g} USD for {COST_MESSAGES:,} messages {where}"
    return (
        f"misses at most {goal.max_miss:.1%} with {goal.confidence:.0%} confidence, chosen {where}"
    )
