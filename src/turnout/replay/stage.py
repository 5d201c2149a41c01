"""Routers and a turns table → a folder that says what each policy would have cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from turnout.catalog import Catalog
from turnout.engine import DUCKDB
from turnout.errors import SettingsError
from turnout.manifest import Manifest
from turnout.progress import OnProgress, silent
from turnout.records import Architecture, ModelClass, Population
from turnout.replay.compare import Comparing
from turnout.replay.decisions import Chosen, write_decisions
from turnout.replay.evidence import Evidence, EvidenceKind, training_data
from turnout.replay.log import ScoredLog, read_scored
from turnout.replay.outcomes import Outcomes, outcomes_of
from turnout.replay.page import render
from turnout.replay.report_files import spread, write_report, write_table
from turnout.replay.results import AtMissed, Comparison, PolicyRow
from turnout.replay.router_table import router_table
from turnout.replay.scored import OtherScorer, score_turns
from turnout.routing import RouterFolder
from turnout.routing.policies import PricedPolicy, Target, TurnsLeft
from turnout.stage import StageRun, report_json

REPORT_NAME = "replay.json"
TABLE_NAME = "policies.csv"
OUTCOMES_NAME = "outcomes.csv"
ROUTER_TABLE_NAME = "router.toml"
_DAY_S = 86_400.0
_MONTH_DAYS = 30.44
_NO_EVIDENCE = Evidence()
_PRICED = PricedPolicy()


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """A model that a class goes to: its prices in USD for a million tokens, and expected answer."""

    model: str
    input_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None
    cache_write_usd_per_mtok: float | None
    output_usd_per_mtok: float
    cache_lifetime_s: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        turns: Turns replayed.
        conversations: Of so many conversations.
        left_out: Conversations without their first turn, left out.
        turns_a_month: At the log's pace; None where it has no times or spans less than a day.
        population: The messages that scores are probabilities for.
        estimated: Share of the turns with a token count that the tokenizer gave.
        assumed: Share of the turns whose answer's length is not known at all.
        decision_ms: Mean time to score a message, in milliseconds; of scoring in bulk.
        targets: Class → its model.
        turns_left: Expected turns left of a conversation, by turn index from 1.
        unpriced: Model of the log without a price → its turns, left out of what the log paid.
        evidence: What misses are counted by beside the scores; None where nothing was given.
        evident_turns: Turns whose need it shows.
        held_out: Whether they are of conversations that no router saw in training; else the data
            set of a router was not found.
        evidence_left_out: Further turns with evidence, of conversations that trained a router.
        max_miss: The share of misses that the recommendation is for.
        outcomes: What the outcomes of a gateway's journal say of the policies; None where the log
            has no propensities.
        comparison: The policies.
        fresh: False where an earlier run on the same inputs was there already.
    """

    turns: int
    conversations: int
    left_out: int
    turns_a_month: float | None
    population: Population
    estimated: float
    assumed: float
    decision_ms: float
    targets: Mapping[ModelClass, TargetFacts]
    turns_left: Sequence[float]
    unpriced: Mapping[str, int]
    evidence: EvidenceKind | None
    evident_turns: int
    held_out: bool
    evidence_left_out: int
    max_miss: float
    outcomes: Outcomes | None
    comparison: Comparison
    fresh: bool


def replay(
    routers: Sequence[Path],
    turns: Path,
    out: Path,
    *,
    catalog: Catalog,
    targets: Mapping[ModelClass, Target],
    evidence: Evidence = _NO_EVIDENCE,
    others: Sequence[OtherScorer] = (),
    by: str | None = None,
    decisions: Path | None = None,
    max_miss: float = 0.10,
    priced: PricedPolicy = _PRICED,
    engine: str = DUCKDB,
    on_progress: OnProgress = silent,
) -> ReplayReport:
    """Score a log once and walk it under every policy.

    Beside `out` lie the scored tables, `NAME.ARCHITECTURE-scores.parquet`; a rerun with other
    prices or thresholds scores nothing again. So does the table of every turn's decision under
    every policy, at its threshold for `max_miss` (the router's own where none misses so little).

    Args:
        routers: One router folder, or one of each architecture; both are judged on the same turns.
        turns: The turns table.
        out: The folder to write: replay.html, replay.json, policies.csv, router.toml.
        catalog: Says which models served, and what they cost.
        targets: What each class would go to. Policies expect answers as long as the log's on
            average.
        evidence: What turns needed, for misses and needless turns beside the expected ones. Where
            it names no data set, those that the routers' manifests name are looked for, and
            conversations that trained a router give no evidence.
        others: What routers are compared with; each scores what the conversation router reads.
        by: The column carried by `turnout ingest --keep` that results are split by.
        decisions: Where decisions go; None for `NAME.decisions.parquet` beside `out`.
        max_miss: Share of misses in (0, 1) that the recommendation is for.
        priced: The priced policy: its price of a miss, its budget. The expected turns left are
            those of the log.
        engine: Where the routers score; see `engine.connect`. What `others` score and the walk
            are computed here.
        on_progress: Called while scoring.

    Raises:
        ArtifactError: If a router cannot be used.
        RecordError: If the turns or evidence cannot be read, no conversation can be replayed, or
            no turn carries the column `by`.
        SettingsError: If two routers have one architecture, a number is out of range, or the
            engine is not there.
        StorageError: If `out` cannot be written.
    """
    if not 0 < max_miss < 1:
        raise SettingsError(
            f"--max-miss: found {max_miss:g}; expected a share between 0 and 1, such as 0.1."
        )
    folders = _by_architecture(routers)
    trained_on = [training_data(path) for path in routers] if evidence.needs_training_data else []
    evidence = replace(evidence, trained_on=[path for path in trained_on if path is not None])
    scored = _Scored(folders, turns, out, catalog, engine, on_progress)
    beside = scored.of_others(others)
    read: dict[str, Path | Sequence[Path] | None]
    read = {
        "routers": list(routers),
        "turns": turns,
        "labels": evidence.labels,
        "truth": evidence.truth,
        "datasets": [*evidence.datasets, *evidence.trained_on],
        "others": list(beside.values()),
    }
    options = {
        "targets": {name: repr(target) for name, target in targets.items()},
        "catalog": catalog.digest,
        "max_miss": max_miss,
        "priced": repr(priced),
        "least_confidence": evidence.least_confidence,
        "by": by,
    }
    run = StageRun(out, Manifest.of("replay", read, options))
    decisions = decisions or out.with_name(f"{out.name}.decisions.parquet")
    deciding = StageRun(decisions, Manifest.of("replay", read, {**options, "table": "decisions"}))
    earlier = run.earlier(ReplayReport)
    if earlier is not None and deciding.is_done():
        return earlier
    log = read_scored(
        scored.tables, turns, catalog=catalog, evidence=evidence, others=beside, by=by
    )
    thresholds = {name: _threshold(folder) for name, folder in folders.items()}
    is_truth = evidence.kind == "simulated truth"
    targets = {
        name: replace(target, output_tokens=log.expected_output_tokens[name])
        for name, target in targets.items()
    }
    turns_left = TurnsLeft.from_turn_counts(np.diff(log.turns.starts).tolist())
    priced = replace(priced, turns_left=turns_left)
    comparing = Comparing(log, thresholds, targets, priced, is_truth)
    comparison = comparing.compared(max_miss)
    population = scored.population
    chosen = Chosen(comparing.decided(comparison, max_miss))
    with deciding.output() as partial:
        write_decisions(chosen, log, targets, population, partial)
    report = ReplayReport(
        turns=len(log.turns),
        conversations=log.turns.conversations,
        left_out=log.left_out,
        turns_a_month=_turns_a_month(log),
        population=population,
        estimated=log.estimated,
        assumed=log.assumed,
        decision_ms=scored.decision_ms,
        targets={name: _facts(target) for name, target in targets.items()},
        turns_left=turns_left.by_turn,
        unpriced=log.unpriced,
        evidence=evidence.kind,
        evident_turns=0 if log.labels is None else int((log.labels >= 0).sum()),
        held_out=evidence.kind is not None and None not in trained_on,
        evidence_left_out=log.evidence_left_out,
        max_miss=max_miss,
        outcomes=outcomes_of(log, turns, chosen.policies),
        comparison=comparison,
        fresh=True,
    )
    run.record(report)
    content = report_json(report)
    rows = [_HEADER, *_table(comparison)]
    with run.output() as partial:
        write_report(partial / REPORT_NAME, content, render(content), partial / TABLE_NAME, rows)
        if report.outcomes is not None:
            write_table(
                partial / OUTCOMES_NAME, [_OUTCOMES_HEADER, *_outcome_rows(report.outcomes)]
            )
        if comparison.recommendation is not None:
            table = router_table(comparison.recommendation, population, priced, targets)
            (partial / ROUTER_TABLE_NAME).write_text(table, encoding="utf-8")
    return report


class _Scored:
    """The scored tables beside a report."""

    def __init__(
        self,
        folders: Mapping[Architecture, RouterFolder],
        turns: Path,
        out: Path,
        catalog: Catalog,
        engine: str,
        on_progress: OnProgress,
    ) -> None:
        self._out, self._turns, self._catalog = out, turns, catalog
        self._on_progress = on_progress
        self._widest = folders.get("conversation") or next(iter(folders.values()))
        self.population: Population = next(iter(folders.values())).spec.priors.default
        self.tables: dict[Architecture, Path] = {}
        seconds, decided = 0.0, 0
        for name, folder in folders.items():
            self.tables[name] = self._place(name)
            scoring = score_turns(
                folder.path,
                turns,
                self.tables[name],
                catalog=catalog,
                engine=engine,
                on_progress=on_progress,
            )
            seconds, decided = seconds + scoring.seconds, decided + scoring.scored
        self.decision_ms = 1000 * seconds / max(decided, 1)

    def of_others(self, others: Sequence[OtherScorer]) -> dict[str, Path]:
        """Score the turns with these scorers; their names and scored tables."""
        tables = {other.name: self._place(other.name) for other in others}
        for other in others:
            score_turns(
                self._widest.path,
                self._turns,
                tables[other.name],
                catalog=self._catalog,
                other=other,
                on_progress=self._on_progress,
            )
        return tables

    def _place(self, name: str) -> Path:
        return self._out.with_name(f"{self._out.name}.{name}-scores.parquet")


def _by_architecture(routers: Sequence[Path]) -> dict[Architecture, RouterFolder]:
    folders: dict[Architecture, RouterFolder] = {}
    for path in routers:
        folder = RouterFolder.read(path)
        architecture = folder.spec.formatter.architecture
        if architecture in folders:
            raise SettingsError(
                f"{path}: a second {architecture} router; expected at most one of each "
                "architecture. Replay them one after the other."
            )
        folders[architecture] = folder
    return folders


def _threshold(folder: RouterFolder) -> float:
    return folder.spec.threshold_for(folder.spec.priors.default)


def _turns_a_month(log: ScoredLog) -> float | None:
    days = log.span_s / _DAY_S
    return len(log.turns) / days * _MONTH_DAYS if days >= 1 else None


def _facts(target: Target) -> TargetFacts:
    prices = target.prices
    return TargetFacts(
        target.name,
        prices.input_usd_per_mtok,
        prices.cached_input_usd_per_mtok,
        prices.cache_write_usd_per_mtok,
        prices.output_usd_per_mtok,
        target.cache_lifetime_s,
        target.output_tokens,
    )


def _outcome_rows(outcomes: Outcomes) -> Iterator[list[object]]:
    for row in outcomes.rows:
        estimate = row.estimate
        estimates = (
            (estimate.snips, estimate.doubly_robust, estimate.ips)
            if estimate
            else (None, None, None)
        )
        yield [
            row.policy,
            "" if row.threshold is None else row.threshold,
            row.outcome,
            row.turns,
            *(cell for each in (row.logged, *estimates) for cell in spread(each)),
            estimate.effective_turns if estimate else "",
            row.refused or "",
        ]


def _table(comparison: Comparison) -> Iterator[list[object]]:
    yield from (["as served", "", *_cells(row)] for row in comparison.served)
    yield from _levels("", comparison.at_missed)
    for segment in comparison.by_segment.segments if comparison.by_segment else ():
        yield from (["as served", segment.name, *_cells(row)] for row in segment.fixed)
        yield from _levels(segment.name, segment.at_missed)


def _levels(segment: str, levels: Sequence[AtMissed]) -> Iterator[list[object]]:
    for level in levels:
        for row in (*level.rows, *level.beside):
            yield [f"{level.missed:g} missed", segment, *_cells(row)]


_OUTCOMES_HEADER = (
    "policy", "threshold", "outcome", "turns",
    *(f"{name}{end}" for name in ("logged", "snips", "doubly_robust", "ips")
      for end in ("", "_low", "_high")),
    "effective_turns", "refused",
)  # fmt: skip
_HEADER = (
    "table", "segment", "policy", "threshold", "matched_on",
    *(f"{name}{end}" for name in (
        "usd_1000_turns", "saving_beside_reasoning", "saving_beside_today", "share_reasoning",
        "missed", "switches", "warm_switches", "agreement", "under", "over",
    ) for end in ("", "_low", "_high")),
    "input_usd", "cache_read_usd", "cache_write_usd", "output_usd", "reasoning_usd",
)  # fmt: skip


def _cells(row: PolicyRow) -> list[object]:
    m = row.measured
    estimates = (
        m.usd, row.against_reasoning, row.against_today, m.share_reasoning, m.missed, m.switches,
        m.warm_switches, m.agreement, m.under, m.over,
    )  # fmt: skip
    ends = [cell for estimate in estimates for cell in spread(estimate)]
    return [
        row.name,
        "" if row.threshold is None else row.threshold,
        row.matched_on or "",
        *ends,
        *m.parts_usd.values(),
    ]
