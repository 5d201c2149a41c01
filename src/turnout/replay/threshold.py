"""Messages that the router has not seen → the threshold to serve with, and what it does there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.buckets import turn_buckets
from turnout.catalog import Catalog, Price
from turnout.errors import RecordError, SettingsError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING, ModelClass, Population
from turnout.replay.traffic import Traffic, traffic_of_samples, traffic_of_turns
from turnout.routing import Priors, RouterFolder
from turnout.routing.folder import SCORING_LIBRARIES, set_threshold
from turnout.routing.policies import Policy, PolicyName, policy_of
from turnout.samples import DatasetFolder, Samples
from turnout.schema import SCORES_COLUMN
from turnout.stage import StageRun
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.calibration import Calibration, calibration
from turnout.stats.metrics import recall, share
from turnout.stats.prior import log_ratios, prior_shares

Floats = NDArray[np.float64]
Prices = Mapping[ModelClass, Price]
# Budgets and costs are for so many messages: a log may be a day or a year long.
COST_MESSAGES = 1_000
# An exceeded share under this is not worth a word.
_CLOSE_SHARE = 0.005
# Sums of floats may differ in their last digits from the budget that they stand for.
_ROUNDING = 1e-12
_CURVE_POINTS = 11


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold is chosen for; exactly one of the first three is given.

    Attributes:
        share: Share in (0, 1) of decisions to send to the reasoning class.
        budget_usd: USD for 1,000 messages.
        max_miss: Bound in (0, 1) on the share, of the messages that need reasoning, that are sent
            to the fast class; see `replay.miss_bound`.
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
class PossibleShare:
    """A share of decisions that a threshold sends to the reasoning class."""

    share: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Cost:
    """USD for 1,000 messages: at the threshold, and if one class served all of them.

    Attributes:
        usd: At the threshold.
        fast_usd: If the fast class served all.
        reasoning_usd: If the reasoning class served all.
        counted: Share of the messages whose tokens the log counts; the others are taken to need
            what `replay.traffic` says.
    """

    usd: float
    fast_usd: float
    reasoning_usd: float
    counted: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a threshold would do.

    Attributes:
        threshold: The least score for reasoning.
        share: Share of the decisions that go to reasoning.
        usd: USD for 1,000 messages; None where no models with a price were named.
        missed: Of the decisions that need reasoning, the share sent to fast: by the labels where
            there are some, else expected by the scores.
    """

    threshold: float
    share: float
    usd: float | None
    missed: float


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """What was chosen, and what it does on the messages it was chosen on.

    Attributes:
        value: The threshold, in [0, 1], for scores of `population`.
        origin: How it was chosen, for a person; stored in the router folder.
        before: The threshold that the folder had, stated for `population`.
        population: The population that thresholds and scores are stated for.
        policy: The policy that the decisions were replayed with.
        rows: Decisions looked at: one for each turn that the policy scores.
        left_out: Conversations whose first turn was not captured, where that is what is decided on.
        share: Share of the decisions that go to the reasoning class.
        by_turn: The same by turn index.
        nearest: The possible shares just below and above the wanted one, where equal scores allow
            none that is close; else empty.
        recall: Share of those that need reasoning which are sent there; None without labels.
        calibration: Of the scores, by the labels; None without labels.
        need: Estimated share of the decisions that need reasoning; None with labels.
        cost: None where no models with a price were named.
        warning: Set where the threshold never or always fires.
        curve: What other thresholds would do, from the lowest up.
        written: Whether the router folder has the threshold now.
    """

    value: float
    origin: str
    before: float
    population: Population
    policy: PolicyName
    rows: int
    left_out: int
    share: Estimate
    by_turn: list[TurnShare]
    nearest: list[PossibleShare]
    recall: Estimate | None
    calibration: Calibration | None
    need: Estimate | None
    cost: Cost | None
    warning: str | None
    curve: list[CurvePoint]
    written: bool


def choose_threshold(
    router: Path,
    source: Path,
    goal: Goal,
    *,
    catalog: Catalog,
    prices: Prices | None = None,
    policy: Policy | None = None,
    write: bool = False,
    on_progress: OnProgress = silent,
) -> ThresholdReport:
    """Choose a threshold, and write it into the router folder where that is asked for.

    Scores lie beside the router folder, in `NAME.threshold-scores.parquet`: another goal on the
    same messages scores nothing again.

    Args:
        router: A router folder.
        source: A data set folder, of which the test rows are taken, or a turns table: the user's
            own traffic, which needs no labels and is not balanced as a data set is.
        goal: What it is chosen for.
        catalog: Says which class served a logged turn.
        prices: What the model of each class costs; a budget needs both.
        policy: What the router is served with; by default its architecture.
        write: Whether the folder's threshold is replaced.
        on_progress: Called every few rows.

    Raises:
        ArtifactError: If the router or the data set cannot be used, or they do not belong together.
        RecordError: If there are too few rows for the promise, or no labels for it.
        SettingsError: If the budget cannot be kept, has no prices, or the policy uses no threshold.
        StorageError: If the folder cannot be written.
    """
    folder = RouterFolder.read(router)
    spec = folder.spec
    policy = policy or policy_of(spec.formatter.architecture)
    if policy.name in ("fixed", "priced"):
        why = {
            "fixed": "fixed, which scores nothing and uses no threshold",
            "priced": "priced, under which prices decide beside the threshold",
        }
        raise SettingsError(
            f"router.policy: found {why[policy.name]}; expected session, conversation or boundary. "
            "Change it in the settings file."
        )
    _refuse_unanswerable(goal, prices, source)
    samples = None
    if not source.is_file():
        samples, left_out = _test_rows(source, folder, policy)
        traffic = replace(traffic_of_samples(samples), left_out=left_out)
    else:
        traffic = traffic_of_turns(source, spec.formatter, catalog, policy)
    # The rows of a data set are balanced; turns are the traffic itself.
    population: Population = "balanced" if samples is not None else spec.priors.default
    scores = _scores(folder, source, traffic, policy, population, on_progress)
    value = _chosen(scores, traffic, samples, goal, prices, source)
    origin = _origin(goal, source)
    if write:
        set_threshold(router, value, origin, population)
    fires = scores >= value
    resampling = Resampling(traffic.conversation_ids)
    return ThresholdReport(
        value=value,
        origin=origin,
        before=spec.threshold_for(population),
        population=population,
        policy=policy.name,
        rows=len(scores),
        left_out=traffic.left_out,
        share=resampling.estimate(lambda w: share(fires, w)),
        by_turn=_by_turn(traffic, fires),
        nearest=[] if goal.share is None else nearest_shares(scores, goal.share),
        recall=None if samples is None else _recall(resampling, samples, fires),
        calibration=None if samples is None else _calibration(source, samples, scores),
        need=_need(resampling, scores, spec.priors, population) if samples is None else None,
        cost=None if prices is None else _cost(traffic, prices, fires),
        warning=_warning(fires),
        curve=_curve(scores, traffic, samples, prices),
        written=write,
    )


def threshold_for_share(scores: Floats, wanted: float) -> float:
    """The greatest threshold that sends at least the wanted share of these scores to reasoning."""
    rows = int(np.ceil(wanted * len(scores) - _ROUNDING))
    return float(np.sort(scores)[len(scores) - rows])


def nearest_shares(scores: Floats, wanted: float) -> list[PossibleShare]:
    """The greatest possible share below a wanted one and the least above; empty if one is close.

    Decisions of one score go the same way: no threshold parts them.

    Args:
        scores: Shape `(n,)`, at least one.
        wanted: In (0, 1).
    """
    above = threshold_for_share(scores, wanted)
    higher = scores[scores > above]
    below = float(higher.min()) if len(higher) else float(np.nextafter(above, np.inf))
    shares = [PossibleShare(float((scores >= t).mean()), t) for t in (below, above)]
    is_close = shares[1].share - wanted < max(_CLOSE_SHARE, 1 / len(scores))
    return [] if is_close else shares


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
    within = np.flatnonzero(is_cut & (costs <= budget_usd * (1 + _ROUNDING)))
    if not len(within):
        raise SettingsError(
            f"--budget: the fast class alone costs {costs[0] / budget_usd:.2f} times as much; "
            "expected a budget that at least serves every message fast. Raise it, or name a "
            "cheaper --fast-model."
        )
    most = int(within.max())
    return float(descending[most - 1]) if most else float(np.nextafter(descending[0], np.inf))


def _test_rows(source: Path, router: RouterFolder, policy: Policy) -> tuple[Samples, int]:
    """The rows that are decided on, and how many conversations have none."""
    data = DatasetFolder.read(source)
    data.require_shown_as(router.spec.formatter, router.path)
    rows = data.split("test", router.spec.formatter)
    conversations = len(set(rows.conversation_ids))
    if policy.name == "boundary":
        raise SettingsError(
            f"{source}: the boundary policy decides by the time between turns, which a data set "
            "does not keep; expected a turns table. Name the one that `turnout ingest` wrote."
        )
    if policy.name == "session":
        rows = rows.take(np.flatnonzero(rows.turn_indices == 1))
    if not len(rows):
        raise RecordError(
            f"{source}: no test row is a first turn, which the session policy decides on; expected "
            "some. Use a turns table, or build a larger data set."
        )
    return rows, conversations - len(set(rows.conversation_ids))


def _chosen(
    scores: Floats,
    traffic: Traffic,
    samples: Samples | None,
    goal: Goal,
    prices: Prices | None,
    source: Path,
) -> float:
    if goal.share is not None:
        return threshold_for_share(scores, goal.share)
    if goal.budget_usd is not None and prices is not None:
        return threshold_for_budget(
            scores,
            traffic.cost_usd("fast", prices["fast"]),
            traffic.cost_usd("reasoning", prices["reasoning"]),
            goal.budget_usd * traffic.messages.sum() / COST_MESSAGES,
        )
    if samples is None or goal.max_miss is None:
        raise ValueError("a bound on misses needs labels")
    # It needs SciPy, which the other goals do without.
    from turnout.replay.miss_bound import threshold_for_miss

    needs = np.flatnonzero(samples.labels == LABEL_REASONING)
    ids = samples.clusters_of(needs)
    return threshold_for_miss(scores[needs], ids, goal.max_miss, goal.confidence, where=source)


def _refuse_unanswerable(goal: Goal, prices: Prices | None, source: Path) -> None:
    """Refuse before anything is scored what these files cannot answer."""
    if goal.budget_usd is not None and prices is None:
        raise SettingsError(
            "--budget: no models were named; expected --reasoning-model and --fast-model, or "
            "a settings file with both targets."
        )
    if goal.max_miss is not None and source.is_file():
        raise RecordError(
            f"{source}: a turns table says of no message whether it needs reasoning; expected a "
            "data set folder for --max-miss. Make one with `turnout build`."
        )


def _scores(
    folder: RouterFolder,
    source: Path,
    traffic: Traffic,
    policy: Policy,
    population: Population,
    on_progress: OnProgress,
) -> Floats:
    """Scores of every decision, from an earlier run on the same inputs where there was one."""
    out = folder.path.resolve().with_name(f"{folder.path.resolve().name}.threshold-scores.parquet")
    # Its files without router.json: another threshold changes no score.
    read = {"router": [folder.path / name for name in folder.files], "source": [source]}
    options = {
        "formatter": folder.spec.formatter.to_json(),
        "priors": folder.spec.priors.to_json(),
        "population": population,
        "policy": repr(policy),
    }
    run = StageRun(out, Manifest.of("threshold", read, options, libraries=SCORING_LIBRARIES))
    if not run.is_done():
        scorer = folder.scorer(population=population)
        scores = scorer.score(traffic.inputs, on_progress)
        with run.output() as partial:
            write_parquet(pa.table({SCORES_COLUMN: scores}), partial)
    stored = pq.read_table(out)[SCORES_COLUMN]
    return np.asarray(stored.to_numpy(), np.float64)


def _curve(
    scores: Floats, traffic: Traffic, samples: Samples | None, prices: Prices | None
) -> list[CurvePoint]:
    levels = np.unique(np.quantile(scores, np.linspace(0, 1, _CURVE_POINTS), method="nearest"))
    needs = scores if samples is None else (samples.labels == LABEL_REASONING).astype(np.float64)
    total = max(float(needs.sum()), _ROUNDING)
    points = []
    for level in levels.tolist():
        fires = scores >= level
        cost = None if prices is None else _cost(traffic, prices, fires)
        points.append(
            CurvePoint(
                level,
                float(fires.mean()),
                None if cost is None else cost.usd,
                float(needs[~fires].sum()) / total,
            )
        )
    return points


def _recall(resampling: Resampling, samples: Samples, fires: NDArray[np.bool_]) -> Estimate:
    needs = samples.labels == LABEL_REASONING
    return resampling.estimate(lambda w: recall(fires, needs, w))


def _calibration(source: Path, samples: Samples, scores: Floats) -> Calibration:
    rows = np.flatnonzero(samples.labelled)
    labels = samples.labels[rows]
    resampling = Resampling(samples.clusters_of(rows))
    factors = DatasetFolder.read(source).label_factors("test", labels)
    return calibration(scores[rows], labels == LABEL_REASONING, resampling, 0, factors)


def _need(
    resampling: Resampling, scores: Floats, priors: Priors, population: Population
) -> Estimate:
    ratios = log_ratios(scores, priors.of(population) or priors.balanced)
    return resampling.estimate(lambda weights: prior_shares(ratios, weights))


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
    rows = "" if source.is_file() else "the test rows of "
    where = f"on {rows}{source.resolve().name}"
    if goal.share is not None:
        return f"sends at least {goal.share:.0%} to reasoning {where}"
    if goal.budget_usd is not None:
        return f"costs at most {goal.budget_usd:g} USD for {COST_MESSAGES:,} messages {where}"
    bound = f"at most {goal.max_miss:.1%} with {goal.confidence:.0%} confidence"
    return f"misses {bound}, chosen {where}"
