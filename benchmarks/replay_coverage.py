"""How often the intervals of `turnout replay` hold the truth; see docs/results/policies.md.

Usage: python benchmarks/replay_coverage.py WORK_FOLDER [DRAWS]

A router of each architecture (a linear model on words) is trained on a simulated log of 3,000
conversations, from the log's own evidence. A further log of 20,000 conversations is the population:
what each policy costs and misses there is known. Logs of 30, 100 and 300 of its conversations are
drawn DRAWS times and replayed; an interval should hold the population's value in 95 % of them.

Thresholds are chosen on each drawn log, as the page does; the population's value is that of the
same threshold. Brackets are Wilson intervals.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.records import LABEL_REASONING
from turnout.replay.compare import Comparing
from turnout.replay.evidence import Evidence
from turnout.replay.log import ScoredLog, read_scored
from turnout.replay.measures import LoggedSums, Sums, measured, saving, sums_of
from turnout.replay.results import PolicyRow
from turnout.replay.scored import score_turns
from turnout.replay.walk import walk
from turnout.routing import RouterFolder
from turnout.routing.policies import FixedPolicy, Policy, PricedPolicy, TurnsLeft, policy_of
from turnout.settings import load_settings
from turnout.simulation import simulate
from turnout.stats.bootstrap import Estimate
from turnout.stats.intervals import wilson
from turnout.training import Recipe, train

CATALOG = load_catalog()
ARCHITECTURES = ("session", "conversation")
SIZES = (30, 100, 300)
MISSED = 0.10
BY_TRUTH, BY_EVIDENCE, EXPECTED = MISSES = (
    "missed, by the truth",
    "missed, by evidence",
    "missed, expected by the scores",
)
TARGETS = load_settings(None).targets_of("claude-opus-4-5", "claude-haiku-4-5")


@dataclass(frozen=True)
class Population:
    """Traffic of which everything is known.

    Attributes:
        log: Its turns, with the truth as labels.
        evidence: The labels that evidence gives in place of the truth.
        thresholds: Architecture → that of its router.
    """

    log: ScoredLog
    evidence: np.ndarray
    thresholds: dict[str, float]

    def __post_init__(self) -> None:
        lengths = np.diff(self.log.turns.starts)
        object.__setattr__(self, "_left", TurnsLeft.from_turn_counts(lengths.tolist()))

    def sums(self, log: ScoredLog, policy: Policy, architecture: str, threshold: float) -> Sums:
        """What a policy does on some of the traffic; expected misses are the true ones."""
        walked = walk(log.turns, log.scores[architecture], threshold, policy, TARGETS)
        need = (log.labels == LABEL_REASONING).astype(float)
        return sums_of(log, walked, TARGETS, need)

    def policy(self, name: str) -> Policy:
        """A policy that knows how long conversations are."""
        return policy_of(name, priced=PricedPolicy(turns_left=self._left))

    @cached_property
    def all_reasoning(self) -> Sums:
        """What sending everything to reasoning costs."""
        return self.sums(self.log, FixedPolicy("reasoning"), "conversation", 0.5)

    def truth_of(self, name: str, architecture: str, threshold: float) -> dict[str, float]:
        """What a policy truly costs and misses."""
        own = self.sums(self.log, self.policy(name), architecture, threshold)
        values = measured(own)
        return {
            "USD": values.usd.value,
            "saved beside all reasoning": saving(own, self.all_reasoning).value,
            "share on reasoning": values.share_reasoning.value,
            **dict.fromkeys(MISSES, values.missed.value),
        }


def trained(work: Path) -> dict[str, Path]:
    """A router of each architecture."""
    turns, labels = work / "turns.parquet", work / "labels.parquet"
    simulate(work / "log", n_conversations=3_000, seed=61)
    ingest([work / "log" / "turns.parquet"], turns)
    label_turns(turns, labels, CATALOG)
    for name in ARCHITECTURES:
        build_from_turns(
            turns, work / f"{name}-data", architecture=name, catalog=CATALOG, labels=labels,
            size=10_000,
        )  # fmt: skip
        train(work / f"{name}-data", work / f"{name}-router", recipe=Recipe(model="words"))
    return {name: work / f"{name}-router" for name in ARCHITECTURES}


def population(work: Path, routers: dict[str, Path]) -> Population:
    """The further log, scored, with its truth and its evidence."""
    turns, labels = work / "further.parquet", work / "further-labels.parquet"
    simulate(work / "further", n_conversations=20_000, seed=62)
    ingest([work / "further" / "turns.parquet"], turns)
    label_turns(turns, labels, CATALOG)
    tables = {name: work / f"further.{name}-scores.parquet" for name in ARCHITECTURES}
    for name, router in routers.items():
        score_turns(router, turns, tables[name], catalog=CATALOG)
    log, weighed = (
        read_scored(tables, turns, catalog=CATALOG, evidence=evidence, others={})
        for evidence in (
            Evidence(truth=work / "further" / "truth.parquet"),
            Evidence(labels, least_confidence=0.0),
        )
    )
    specs = {name: RouterFolder.read(router).spec for name, router in routers.items()}
    thresholds = {name: spec.threshold_for(spec.priors.default) for name, spec in specs.items()}
    return Population(log, weighed.labels, thresholds)


def estimates(row: PolicyRow, by_evidence: Estimate | None) -> Iterator[tuple[str, Estimate]]:
    """The intervals that a replay states of a policy."""
    yield "USD", row.measured.usd
    yield "saved beside all reasoning", row.against_reasoning
    yield "share on reasoning", row.measured.share_reasoning
    yield EXPECTED, row.measured.missed
    if row.measured.under is not None:
        yield BY_TRUTH, row.measured.under
    if by_evidence is not None:
        yield BY_EVIDENCE, by_evidence


@dataclass
class Held:
    """Stated intervals of one number, and the population's value of it."""

    stated: list[Estimate] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        pairs = list(zip(self.stated, self.truth, strict=True))
        share = float(np.mean([each.low <= truth <= each.high for each, truth in pairs]))
        low, high = wilson(share, len(pairs))
        width = np.mean([each.high - each.low for each in self.stated])
        return (
            f"{share:.1%} ({low:.1%}–{high:.1%}) | {np.mean([e.value for e in self.stated]):.3f} "
            f"| {np.mean(self.truth):.3f} | {width:.3f} | {len(pairs)}"
        )


def main() -> None:
    """Print how often each interval holds the population's value."""
    work, draws = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500
    everything = population(work, trained(work))
    log = everything.log
    today = LoggedSums.from_log(log, log.scores["conversation"]).today(is_truth=True)
    print("| conversations a log | number | policy | holds it | stated | true | width | logs |")
    print("|---|---|---|---|---|---|---|---|")
    for size in SIZES:
        draw = np.random.default_rng(size)
        held: dict[tuple[str, str], Held] = defaultdict(Held)
        for _ in range(draws):
            chosen = np.sort(draw.choice(log.turns.conversations, size, replace=False))
            part = log.part(chosen)
            seen = replace(log, labels=everything.evidence).part(chosen)
            left = TurnsLeft.from_turn_counts(np.diff(part.turns.starts).tolist())
            priced = PricedPolicy(turns_left=left)
            comparison = Comparing(
                part, everything.thresholds, TARGETS, priced, is_truth=True
            ).compared(MISSED)
            own = comparison.today
            for number, stated, true in (
                ("USD", own.usd, today.usd),
                (BY_TRUTH, own.under, today.under),
            ):
                if stated is not None and true is not None:
                    held[number, "today"].stated.append(stated)
                    held[number, "today"].truth.append(true.value)
            for row in comparison.level(MISSED).rows:
                router = "session" if row.name == "session" else "conversation"
                true_values = everything.truth_of(row.name, router, row.threshold)
                weighed = measured(
                    everything.sums(seen, everything.policy(row.name), router, row.threshold)
                ).under
                for number, stated in estimates(row, weighed):
                    held[number, row.name].stated.append(stated)
                    held[number, row.name].truth.append(true_values[number])
        for (number, policy), each in sorted(held.items()):
            print(f"| {size} | {number} | {policy} | {each} |", flush=True)


if __name__ == "__main__":
    main()
