"""Turns and external votes → labels with a confidence, by all the evidence of each turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa

from turnout.catalog import Catalog
from turnout.engine import DUCKDB, MEMORY_MB, batches, connect, materialized, ordered_rows, reading
from turnout.errors import RecordError
from turnout.labels.aggregation import (
    STATED_ACCURACIES,
    CheckedVotes,
    SourceAccuracies,
    calibrated,
    check_votes,
    fitted_accuracies,
    probability,
    vote_weights,
)
from turnout.labels.evidence import CODES, SOURCES, votes
from turnout.labels.external_votes import (
    ExternalVotes,
    human_labels,
    judged_needs,
    measured_outcomes,
)
from turnout.labels.report import ExternalFileReport, LabelReport, label_report
from turnout.labels.vote_patterns import (
    VotePatterns,
    Votes,
    count_patterns,
    pattern_number,
    voteless_number,
)
from turnout.manifest import Manifest
from turnout.parquet import write_parquet_in_order
from turnout.progress import OnProgress, Steps, silent, watched
from turnout.records import LABEL_REASONING
from turnout.schema import EXPLAINED_LABELS, TURN_KEYS, TURNS
from turnout.stage import StageRun
from turnout.tables import read_known_labels
from turnout.turns import read_turns, refuse_repeats, require_places

_MATCH, _GATHER, _AGGREGATE, _WRITE = (
    "match external votes", "gather evidence", "aggregate votes", "write labels"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExternalFiles:
    """Files of votes from outside the log; None where there is none.

    Attributes:
        human: See `external_votes.human_labels`.
        outcomes: See `external_votes.measured_outcomes`.
        judged: What `turnout judge` wrote.
    """

    human: Path | None = None
    outcomes: Path | None = None
    judged: Path | None = None

    def read(self) -> Iterator[ExternalVotes]:
        """Their votes.

        Raises:
            RecordError: If a file is not what it should be.
        """
        readers = {"human": human_labels, "outcomes": measured_outcomes, "judged": judged_needs}
        for name, reader in readers.items():
            path = getattr(self, name)
            if path is not None:
                yield reader(path)


def label_turns(
    turns: Path,
    out: Path,
    catalog: Catalog,
    *,
    truth: Path | None = None,
    external: ExternalFiles = ExternalFiles(),
    engine: str = DUCKDB,
    memory_mb: int = MEMORY_MB,
    on_progress: OnProgress = silent,
) -> LabelReport:
    """Aggregate all votes on every turn and write the labels.

    Sources are assumed independent given the need, so that their log-odds add up. Their accuracies
    are stated, or fitted on turns of known truth: those of `truth`, or else the majority of
    people's labels.

    The log stays on the engine. Only turns of known truth, files of external votes and the keys of
    repeated requests are held in memory.

    Args:
        turns: A turns table.
        out: The Parquet file of labels (`schema.EXPLAINED_LABELS`): one row for each turn with
            evidence.
        catalog: Model names to classes.
        truth: A table with `conversation_id`, `turn_index` and `label` (0 = reasoning, 1 = fast).
        external: Votes of people, of a judge model and of measurements.
        engine: Where the log is read; see `engine.connect`. It changes no byte.
        memory_mb: Where DuckDB begins to spill to disk. It changes no byte.
        on_progress: Called at every step, and every few thousand labels.

    Raises:
        RecordError: If a table cannot be read, a file is about none of the turns, or no turn has
            any evidence.
        SettingsError: If the engine is not there.
        StorageError: If `out` cannot be written.
    """
    files = {"truth": truth, **asdict(external)}
    options = {"catalog": catalog.digest}
    run = StageRun(out, Manifest.of("label", {"turns": turns, **files}, options))
    earlier = run.earlier(LabelReport)
    if earlier is not None:
        return earlier
    backend = connect(engine, memory_mb=memory_mb, joined_as_written=True)
    read = list(external.read())
    steps = Steps(on_progress, *([_MATCH] if read else []), _GATHER, _AGGREGATE, _WRITE)
    with reading(turns, backend):
        log = read_turns(backend, turns)
        require_places(turns)
        matched = _matched(read, log, backend, steps) if read else []
        with steps.step(_GATHER):
            rows, patterns = _patterns(votes(log, backend, catalog, read), turns, backend)
        with steps.step(_AGGREGATE):
            fitted_on, checked, accuracies = _accuracies(truth, rows, patterns, backend)
            not_chosen = backend.to_pyarrow(rows.filter(rows.not_chosen).count()).as_py()
            report = label_report(patterns, accuracies, checked, fitted_on, matched, not_chosen)
        run.record(report)
        with steps.step(_WRITE, report.labelled) as advance, run.output() as partial:
            voted = rows.filter(rows.pattern != voteless_number(len(CODES)))
            labels = _labels(batches(backend, voted, TURN_KEYS), patterns, accuracies)
            written = watched(labels, advance, lambda batch: batch.num_rows)
            write_parquet_in_order(written, EXPLAINED_LABELS, partial)
    return report


def _patterns(
    votes: ibis.Table, turns: Path, backend: ibis.BaseBackend
) -> tuple[ibis.Table, VotePatterns]:
    """The keys and the `pattern` of every turn, on the engine, and the counted patterns."""
    pattern = pattern_number(votes, CODES)
    rows = materialized(backend, votes.select(*TURN_KEYS, "repeats", "not_chosen", pattern=pattern))
    patterns = count_patterns(backend, rows, len(CODES))
    n_turns = int(patterns.turns.sum())
    refuse_repeats(turns, backend.to_pyarrow(rows.filter(rows.repeats).count()).as_py())
    if not patterns.has_vote.any():
        raise RecordError(
            f"{turns}: no evidence on any of {n_turns:,} turns; expected models that the "
            "catalog knows, token counts, or feedback. Add your models under [catalog] in "
            "turnout.toml; or let a model judge the messages (turnout judge, then --judged), or "
            "give measured answers (--outcomes) or people's labels (--human)."
        )
    return rows, patterns


def _matched(
    read: list[ExternalVotes], log: ibis.Table, backend: ibis.BaseBackend, steps: Steps
) -> list[ExternalFileReport]:
    reports: list[ExternalFileReport] = []
    with steps.step(_MATCH, len(read)) as advance:
        for file in read:
            reports.append(_file_report(file, log, backend))
            advance(len(reports))
    return reports


def _file_report(
    file: ExternalVotes, log: ibis.Table, backend: ibis.BaseBackend
) -> ExternalFileReport:
    keys = list(file.keys)
    matched = log.semi_join(ibis.memtable(file.votes), keys).select(*keys).distinct()
    unmatched = len(file.votes) - int(backend.to_pyarrow(matched.count()).as_py())
    if unmatched == len(file.votes):
        raise RecordError(
            f"{file.path}: none of its {file.rows:,} rows is about a turn of the log "
            f"({file.unused:,} have no answer); expected the log's own {' and '.join(keys)}. "
            "Check the path."
        )
    return ExternalFileReport(
        str(file.path), file.rows, file.unused, unmatched, file.annotators, file.annotator_agreement
    )


def _accuracies(
    truth_file: Path | None, rows: ibis.Table, patterns: VotePatterns, backend: ibis.BaseBackend
) -> tuple[str, CheckedVotes | None, SourceAccuracies]:
    """The turns that accuracies are fitted on, the counts of votes there, and the accuracies."""
    people = np.asarray([code == "human" for code in CODES])
    labelled = patterns.votes[:, people].any(axis=1)
    if truth_file is not None:
        known, scaled = _known_turns(truth_file, rows, patterns, backend), np.ones_like(people)
        truth = known["truth"].to_numpy()
    elif labelled.any():
        numbers = ibis.memtable(pa.table({"pattern": patterns.numbers[labelled]}))
        known, scaled = _in_order(rows.semi_join(numbers, "pattern"), backend), ~people
    else:
        return "stated", None, STATED_ACCURACIES
    known_votes = patterns.votes[patterns.positions(known["pattern"].to_numpy())]
    if truth_file is None:
        truth = (known_votes[:, people].ravel() > 0).astype(np.int8)
        # People's labels are the truth here, so they cannot be checked against it.
        known_votes = np.where(people, 0, known_votes).astype(np.int8)
    ids = known["conversation_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    checked = check_votes(known_votes, truth, ids)
    accuracies = calibrated(fitted_accuracies(checked), known_votes, truth, scaled)
    return "human" if truth_file is None else "truth", checked, accuracies


def _known_turns(
    path: Path, rows: ibis.Table, patterns: VotePatterns, backend: ibis.BaseBackend
) -> pa.Table:
    """The turns of the log whose label a file knows, with their `truth`."""
    labels = read_known_labels(path)
    truth = pa.table(
        {
            "conversation_id": pa.array([key[0] for key in labels], pa.string()),
            "turn_index": pa.array([key[1] for key in labels], TURNS.field("turn_index").type),
            "truth": pa.array([int(x == LABEL_REASONING) for x in labels.values()], pa.int8()),
        }
    )
    known = _in_order(rows.inner_join(ibis.memtable(truth), list(TURN_KEYS)), backend)
    if not known.num_rows:
        raise RecordError(
            f"{path}: none of its rows is about the log's {patterns.turns.sum():,} turns; expected "
            "the same conversation ids and turn indices. Check --truth."
        )
    return known


def _in_order(rows: ibis.Table, backend: ibis.BaseBackend) -> pa.Table:
    """A few rows of the log in memory, in the same order on every engine."""
    few = materialized(backend, rows)
    return ordered_rows(backend, few, TURN_KEYS, few.schema().to_pyarrow())


def _labels(
    rows: Iterable[pa.RecordBatch], patterns: VotePatterns, accuracies: SourceAccuracies
) -> Iterator[pa.RecordBatch]:
    """The rows with their labels, computed once a pattern."""
    types = dict(zip(EXPLAINED_LABELS.names, EXPLAINED_LABELS.types, strict=True))
    p = probability(patterns.votes, accuracies)
    by_pattern = {
        "p_reasoning": pa.array(p, types["p_reasoning"]),
        "confidence": pa.array(np.abs(2 * p - 1), types["confidence"]),
        "evidence": pa.array([_codes(row) for row in patterns.votes], types["evidence"]),
        "weights": pa.array(
            [
                added[row != 0].tolist()
                for row, added in zip(
                    patterns.votes, vote_weights(patterns.votes, accuracies), strict=True
                )
            ],
            types["weights"],
        ),
        "reasons": pa.array([_reasons(row) for row in patterns.votes], types["reasons"]),
    }
    for batch in rows:
        position = pa.array(patterns.positions(batch["pattern"].to_numpy()))
        columns = {name: column.take(position) for name, column in by_pattern.items()}
        columns |= {name: batch[name].cast(types[name]) for name in TURN_KEYS}
        arrays = [columns[name] for name in EXPLAINED_LABELS.names]
        yield pa.RecordBatch.from_arrays(arrays, schema=EXPLAINED_LABELS)


def _codes(row: Votes) -> list[str]:
    return [f"{'-' if row[s] < 0 else ''}{CODES[s]}" for s in np.flatnonzero(row)]


def _reasons(row: Votes) -> list[str]:
    return [SOURCES[s].reason for s in np.flatnonzero(row)]
