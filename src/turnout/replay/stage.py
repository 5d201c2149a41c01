"""Routers and a turns table → a folder that says what each policy would have cost."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnout.catalog import Catalog
from turnout.errors import SettingsError
from turnout.manifest import Manifest
from turnout.progress import OnProgress, silent
from turnout.records import Architecture, ModelClass, Population
from turnout.replay.compare import Comparing, Comparison, PolicyRow
from turnout.replay.decisions import write_decisions
from turnout.replay.log import ScoredLog, read_scored
from turnout.replay.page import render
from turnout.replay.scored import score_turns
from turnout.routing import RouterFolder
from turnout.routing.policies import Target
from turnout.stage import StageRun, report_json
from turnout.stats.bootstrap import Estimate

REPORT_NAME = "replay.json"
PAGE_NAME = "replay.html"
TABLE_NAME = "policies.csv"
_DAY_S = 86_400.0
_MONTH_DAYS = 30.44


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """A model that a class goes to, and its prices in USD for a million tokens."""

    model: str
    input_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None
    cache_write_usd_per_mtok: float | None
    output_usd_per_mtok: float
    cache_lifetime_s: float


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
        unpriced: Model of the log without a price → its turns, left out of what the log paid.
        strong_evidence: Share of the turns with strong evidence; None without labels.
        max_missed: The share of misses that the recommendation is for.
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
    unpriced: Mapping[str, int]
    strong_evidence: float | None
    max_missed: float
    comparison: Comparison
    fresh: bool


def replay(
    routers: Sequence[Path],
    turns: Path,
    out: Path,
    *,
    catalog: Catalog,
    targets: Mapping[ModelClass, Target],
    labels: Path | None = None,
    decisions: Path | None = None,
    max_missed: float = 0.10,
    miss_usd: float | None = None,
    on_progress: OnProgress = silent,
) -> ReplayReport:
    """Score a log once and walk it under every policy.

    Beside `out` lie the scored tables, `NAME.ARCHITECTURE-scores.parquet`; a rerun with other
    prices or thresholds scores nothing again. So does the table of every turn's decision under
    every policy, at its threshold for `max_missed` (the router's own where none misses so little).

    Args:
        routers: One router folder, or one of each architecture; both are judged on the same turns.
        turns: The turns table.
        out: The folder to write: replay.html, replay.json, policies.csv.
        catalog: Says which models served, and what they cost.
        targets: What each class would go to.
        labels: What `turnout label` wrote, for over- and under-routing by strong evidence.
        decisions: Where decisions go; None for `NAME.decisions.parquet` beside `out`.
        max_missed: Share of misses in (0, 1) that the recommendation is for.
        miss_usd: The price of a miss for `priced`; None derives it from the threshold.
        on_progress: Called while scoring.

    Raises:
        ArtifactError: If a router cannot be used.
        RecordError: If the turns or labels cannot be read, or no conversation can be replayed.
        SettingsError: If two routers have one architecture, or a number is out of range.
        StorageError: If `out` cannot be written.
    """
    if not 0 < max_missed < 1:
        raise SettingsError(
            f"--max-missed: found {max_missed:g}; expected a share between 0 and 1, such as 0.1."
        )
    folders = _by_architecture(routers)
    scored, seconds, decided = {}, 0.0, 0
    for name, folder in folders.items():
        scored[name] = out.with_name(f"{out.name}.{name}-scores.parquet")
        scoring = score_turns(
            folder.path, turns, scored[name], catalog=catalog, on_progress=on_progress
        )
        seconds, decided = seconds + scoring.seconds, decided + scoring.scored
    read: dict[str, Path | Sequence[Path] | None]
    read = {"routers": list(routers), "turns": turns, "labels": labels}
    options = {
        "targets": {name: repr(target) for name, target in targets.items()},
        "catalog": catalog.digest,
        "max_missed": max_missed,
        "miss_usd": miss_usd,
    }
    run = StageRun(out, Manifest.of("replay", read, options))
    table = decisions or out.with_name(f"{out.name}.decisions.parquet")
    deciding = StageRun(table, Manifest.of("replay", read, {**options, "table": "decisions"}))
    if run.is_done() and deciding.is_done():
        return run.stored(ReplayReport)
    log = read_scored(scored, catalog=catalog, labels=labels)
    thresholds = {name: _threshold(folder) for name, folder in folders.items()}
    comparing = Comparing(log, thresholds, targets, miss_usd)
    comparison = comparing.compared(max_missed)
    first = next(iter(folders.values()))
    report = ReplayReport(
        turns=len(log.turns),
        conversations=log.turns.conversations,
        left_out=log.left_out,
        turns_a_month=_turns_a_month(log),
        population=first.spec.priors.default,
        estimated=log.estimated,
        assumed=log.assumed,
        decision_ms=1000 * seconds / max(decided, 1),
        targets={name: _facts(target) for name, target in targets.items()},
        unpriced=log.unpriced,
        strong_evidence=None if log.labels is None else float((log.labels >= 0).mean()),
        max_missed=max_missed,
        comparison=comparison,
        fresh=True,
    )
    policies = comparing.decided(comparison, max_missed)
    with deciding.output() as partial:
        write_decisions(policies, log, targets, report.population, partial)
    run.record(report)
    with run.output() as partial:
        _write(partial, report)
    return report


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
    )


def _write(folder: Path, report: ReplayReport) -> None:
    folder.mkdir()
    content = report_json(report)
    (folder / REPORT_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / PAGE_NAME).write_text(render(content), encoding="utf-8")
    with (folder / TABLE_NAME).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_HEADER)
        for row in report.comparison.served:
            writer.writerow(["as served", *_cells(row)])
        for at in report.comparison.at_missed:
            for row in at.rows:
                writer.writerow([f"{at.missed:g} missed", *_cells(row)])


_HEADER = (
    "table", "policy", "threshold",
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
    spread = [cell for estimate in estimates for cell in _spread(estimate)]
    return [
        row.name,
        "" if row.threshold is None else row.threshold,
        *spread,
        *m.parts_usd.values(),
    ]


def _spread(estimate: Estimate | None) -> list[object]:
    return ["", "", ""] if estimate is None else [estimate.value, estimate.low, estimate.high]
