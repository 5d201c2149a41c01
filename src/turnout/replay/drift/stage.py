"""A router and new traffic → a folder that says whether the traffic has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.errors import RecordError
from turnout.manifest import Manifest
from turnout.progress import OnProgress, silent
from turnout.records import Architecture, Population
from turnout.replay.drift.compare import Compared, Comparison, compare
from turnout.replay.drift.new_traffic import (
    NewTraffic,
    of_journal,
    of_turns,
)
from turnout.replay.drift.page import render
from turnout.replay.report_files import spread, write_report
from turnout.routing import Priors, RouterFolder
from turnout.routing.folder import SCORING_LIBRARIES
from turnout.routing.reference import Reference, read_reference
from turnout.schema import REQUIRED_TURN_COLUMNS
from turnout.stage import StageRun, report_json

REPORT_NAME = "drift.json"
TABLE_NAME = "drift.csv"
# Fewer give no covariance worth a test.
MIN_CONVERSATIONS = 30


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Whether traffic has changed.

    Attributes:
        architecture: Of the router.
        population: The messages that scores are probabilities for.
        reference_source: `traffic`: a sample of the log that the router was trained on;
            `validation`: the data set's validation rows.
        reference_rows: Decisions of the reference.
        reference_conversations: Of so many conversations.
        rows: Decisions of the new traffic that were compared.
        conversations: Of so many conversations.
        sampled_from: Conversations of the new log, where a sample of them was compared; else None.
        left_out: Reason → what is not compared.
        threshold: That stands.
        same_threshold: What means the same of messages with the new share of reasoning.
        same_share: Share of the new decisions that it sends to reasoning.
        comparison: The tests and the verdict.
        fresh: False where an earlier run on the same inputs was there already.
    """

    architecture: Architecture
    population: Population
    reference_source: str
    reference_rows: int
    reference_conversations: int
    rows: int
    conversations: int
    sampled_from: int | None
    left_out: Mapping[str, int]
    threshold: float
    same_threshold: float
    same_share: float
    comparison: Comparison
    fresh: bool


def drift(
    router: Path,
    new: Path,
    out: Path,
    *,
    catalog: Catalog,
    on_progress: OnProgress = silent,
) -> DriftReport:
    """Compare new traffic with what the router's traffic looked like when it was trained.

    Beside `out` lie the scores of the new turns, `NAME.ARCHITECTURE-scores.parquet`; a rerun scores
    nothing again.

    Args:
        router: A router folder with a reference.
        new: A turns table, or a gateway's journal (a `.jsonl` file or a folder of them), of which
            the recorded scores are compared.
        out: The folder to write: drift.html, drift.json, drift.csv.
        catalog: Model names to classes.
        on_progress: Called while scoring.

    Raises:
        ArtifactError: If the router cannot be used, or has no reference.
        RecordError: If the new traffic cannot be read, or there are too few conversations.
        StorageError: If `out` cannot be written.
    """
    folder = RouterFolder.read(router)
    reference = read_reference(folder.path)
    if reference.conversations < MIN_CONVERSATIONS:
        raise RecordError(
            f"{router}: its reference holds {reference.conversations} conversations; expected at "
            f"least {MIN_CONVERSATIONS}. Build the data set from a longer log, and train again."
        )
    options = {"catalog": catalog.digest}
    read = {"router": router, "new": new}
    run = StageRun(out, Manifest.of("drift", read, options, libraries=SCORING_LIBRARIES))
    earlier = run.earlier(DriftReport)
    if earlier is not None:
        return earlier
    if new.is_dir() or new.suffix == ".jsonl":
        traffic = of_journal(folder, new)
    else:
        traffic = of_turns(folder, reference, new, out, catalog, on_progress)
    if traffic.conversations < MIN_CONVERSATIONS:
        raise RecordError(
            f"{new}: {traffic.conversations} conversations that the router decides on; expected at "
            f"least {MIN_CONVERSATIONS}. Compare a longer log."
        )
    threshold = folder.spec.threshold_for(reference.population)
    comparison = compare(reference, traffic.rows, threshold)
    report = _report(folder, reference, traffic, threshold, comparison)
    run.record(report)
    content = report_json(report)
    rows = [_HEADER, *map(_row, comparison.quantities)]
    with run.output() as partial:
        write_report(partial / REPORT_NAME, content, render(content), partial / TABLE_NAME, rows)
    return report


def is_turns_table(path: Path) -> bool:
    """Whether a path is a turns table rather than a log that has to be ingested."""
    try:
        names = pq.read_schema(path).names if path.is_file() else []
    except (pa.ArrowException, OSError):
        return False
    return {"source", "assistant_message", *REQUIRED_TURN_COLUMNS} <= set(names)


def _report(
    folder: RouterFolder,
    reference: Reference,
    traffic: NewTraffic,
    threshold: float,
    comparison: Comparison,
) -> DriftReport:
    before, now = comparison.share_before.value, comparison.share_now.value
    # What means the same on unchanged scores, as if the new messages were the balanced rows.
    same = Priors(before, now).converted(threshold, "log", "balanced")
    scores = traffic.rows.scores
    return DriftReport(
        architecture=folder.spec.formatter.architecture,
        population=reference.population,
        reference_source=reference.source,
        reference_rows=reference.rows,
        reference_conversations=reference.conversations,
        rows=len(scores),
        conversations=traffic.conversations,
        sampled_from=traffic.sampled_from,
        left_out=traffic.left_out,
        threshold=threshold,
        same_threshold=same,
        same_share=float((scores >= same).mean()),
        comparison=comparison,
        fresh=True,
    )


_HEADER = (
    "quantity", "kind", "reference_median", "new_median", "distance", "distance_low",
    "distance_high", "adjusted_p", "moved", "unexplained_distance", "unexplained_low",
    "unexplained_high", "unexplained_adjusted_p", "needs_training",
)  # fmt: skip


def _row(q: Compared) -> list[object]:
    return [
        q.name, "input" if q.is_input else "score", _cell(q.median_before), _cell(q.median_now),
        *spread(q.distance), q.p_value, q.moved, *spread(q.unexplained),
        _cell(q.unexplained_p_value), q.needs_training,
    ]  # fmt: skip


def _cell(value: float | None) -> object:
    return "" if value is None else value
