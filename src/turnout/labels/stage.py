"""Turns and judgements → labels with a confidence: what all the evidence of a turn adds up to.

Knows no sample and no router.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from turnout.catalog import Catalog
from turnout.engine import DUCKDB, batches, connect, kept, reading
from turnout.errors import RecordError
from turnout.labels.aggregation import (
    BELIEF,
    Record,
    Trust,
    calibrated,
    fit,
    probability,
    record,
)
from turnout.labels.evidence import CODES, SOURCES, votes
from turnout.labels.external_votes import Given, human_labels, judged, measured_outcomes
from turnout.labels.vote_patterns import Patterns, Votes, counted, numbered, voteless
from turnout.manifest import Manifest
from turnout.parquet import write_parquet_in_order
from turnout.progress import OnProgress, Steps, silent, watched
from turnout.records import LABEL_REASONING
from turnout.schema import EXPLAINED_LABELS, TURN_KEYS, TURNS
from turnout.stage import StageRun
from turnout.stats.intervals import wilson
from turnout.tables import read_known_labels
from turnout.turns import read_turns, refuse_repeats, require_places

_MATCH, _GATHER, _WEIGH, _WRITE = (
    "match judgements", "gather evidence", "weigh sources", "write labels"
)  # fmt: skip
# What the engine may use before it spills to disk, however long the log.
_MEMORY_MB = 2_000


@dataclass(frozen=True, slots=True)
class Judgements:
    """Files of judgements from outside the log; None where there is none.

    Attributes:
        human: See `given.human_labels`.
        outcomes: See `given.measured_outcomes`.
        judged: What `turnout judge` wrote.
    """

    human: Path | None = None
    outcomes: Path | None = None
    judged: Path | None = None

    def read(self) -> Iterator[Given]:
        """Their votes.

        Raises:
            RecordError: If a file is not what it should be.
        """
        readers = {"human": human_labels, "outcomes": measured_outcomes, "judged": judged}
        for name, reader in readers.items():
            path = getattr(self, name)
            if path is not None:
                yield reader(path)


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A kind of evidence and how it did.

    Attributes:
        code: Its name.
        reason: What it is.
        turns: On how many turns it votes.
        coverage: Their share of all turns, in [0, 1].
        for_reasoning: Share of its votes that speak for reasoning.
        agreement: Share of its votes that the other sources together agree with; NaN where it is
            always alone.
        known: Its votes on turns of known truth.
        right: Share of those that are right; NaN where there are none.
        accuracy: Share of its votes taken to be right: believed, or fitted on known truth.
        low: Lower end of the accuracy's 95 % interval; the belief counts as so many votes.
        high: Upper end.
        weight: Log-odds of one vote.
    """

    code: str
    reason: str
    turns: int
    coverage: float
    for_reasoning: float
    agreement: float
    known: int
    right: float
    accuracy: float
    low: float
    high: float
    weight: float


@dataclass(frozen=True, slots=True)
class GivenReport:
    """A file of judgements and what became of it.

    Attributes:
        path: The file.
        rows: Its rows.
        unused: Rows that say nothing: no label yet, an answer that is none.
        unmatched: Turns or prompts in it that the log does not have.
        annotators: People behind it.
        annotator_agreement: Share of pairs of people on one turn that agree; None without pairs.
    """

    path: str
    rows: int
    unused: int
    unmatched: int
    annotators: int
    annotator_agreement: float | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What the evidence adds up to.

    Attributes:
        turns: Rows of the log.
        labelled: Of them, those with any evidence.
        reasoning: Labelled turns with p_reasoning of at least 0.5.
        prior: Share of turns taken to need reasoning before any evidence.
        gold_turns: Turns of known truth that the accuracies were fitted on; 0 where none.
        fitted_on: gold, human or beliefs: what accuracies come from.
        sources: In the order of `evidence.SOURCES`.
        given: In the order of `Judgements`.
        fresh: False where an earlier run on the same input was found.
    """

    turns: int
    labelled: int
    reasoning: int
    prior: float
    gold_turns: int
    fitted_on: str
    sources: list[SourceReport]
    given: list[GivenReport] = field(default_factory=list)
    fresh: bool = True

    def to_json(self) -> dict[str, Any]:
        """Everything but whether it is fresh; NaN is null."""
        stored = asdict(self)
        del stored["fresh"]
        found: dict[str, Any] = json.loads(json.dumps(stored), parse_constant=lambda _: None)
        return found


def label_turns(
    turns: Path,
    out: Path,
    catalog: Catalog,
    *,
    gold: Path | None = None,
    judgements: Judgements = Judgements(),
    engine: str = DUCKDB,
    memory_mb: int = _MEMORY_MB,
    on_progress: OnProgress = silent,
) -> LabelReport:
    """Weigh all evidence of every turn and write what it adds up to.

    Sources are taken as independent given the need, so their log-odds add up. How often each is
    right is a stated belief, fitted on turns of known truth where there are any: `gold`, or else
    the majority of people's labels.

    The log stays on the engine; turns of known truth, files of judgements and the keys of turns
    that are said again come here.

    Args:
        turns: A turns table.
        out: The Parquet file of labels (`schema.EXPLAINED_LABELS`): one row for each turn with
            evidence.
        catalog: Model names to classes.
        gold: A table with `conversation_id`, `turn_index` and `label` (0 = reasoning, 1 = fast).
        judgements: What people, a judge model or measurements say.
        engine: Where the log is read; see `engine.connect`. It changes no byte.
        memory_mb: Where DuckDB begins to spill to disk. It changes no byte.
        on_progress: Told every step, and of labels every few thousand.

    Raises:
        RecordError: If a table cannot be read, a file knows none of the turns, or no turn has any
            evidence.
        SettingsError: If the engine is not there.
        StorageError: If `out` cannot be written.
    """
    files = {"gold": gold, **asdict(judgements)}
    options = {"catalog": catalog.digest}
    run = StageRun(out, Manifest.of("label", {"turns": turns, **files}, options))
    if run.is_done():
        return run.stored(LabelReport)
    backend = connect(engine, memory_mb=memory_mb, joined_as_written=True)
    read = list(judgements.read())
    steps = Steps(on_progress, *([_MATCH] if read else []), _GATHER, _WEIGH, _WRITE)
    with reading(turns):
        log = read_turns(backend, turns)
        require_places(turns)
        given = _matched(read, log, backend, steps) if read else []
        with steps.step(_GATHER):
            rows, patterns = _patterns(votes(log, backend, catalog, read), turns, backend)
        with steps.step(_WEIGH):
            fitted_on, found, trust = _trust(gold, rows, patterns, backend)
            report = _report(patterns, trust, found, fitted_on, given)
        run.record(report)
        with steps.step(_WRITE, report.labelled) as tell, run.output() as partial:
            ordered = batches(backend, rows.filter(rows.pattern != voteless(len(CODES))), TURN_KEYS)
            labels = _labels(ordered, patterns, trust)
            written = watched(labels, tell, lambda batch: batch.num_rows)
            write_parquet_in_order(written, EXPLAINED_LABELS, partial)
    return report


def _patterns(
    votes: ibis.Table, turns: Path, backend: ibis.BaseBackend
) -> tuple[ibis.Table, Patterns]:
    """The keys and the `pattern` of every turn, kept on the engine; and the patterns counted."""
    rows = kept(backend, votes.select(*TURN_KEYS, "repeats", pattern=numbered(votes, CODES)))
    patterns = counted(backend, rows, len(CODES))
    n_turns = int(patterns.turns.sum())
    refuse_repeats(turns, backend.to_pyarrow(rows.filter(rows.repeats).count()).as_py())
    if not patterns.spoken.any():
        raise RecordError(
            f"{turns}: no evidence on any of {n_turns:,} turns; expected models that the "
            "catalogue knows, token counts, or feedback. Add your models under [catalog] in "
            "turnout.toml."
        )
    return rows, patterns


def _matched(
    read: list[Given], log: ibis.Table, backend: ibis.BaseBackend, steps: Steps
) -> list[GivenReport]:
    given = []
    with steps.step(_MATCH, len(read)) as tell:
        for file in read:
            given.append(_given(file, log, backend))
            tell(len(given))
    return given


def _given(file: Given, log: ibis.Table, backend: ibis.BaseBackend) -> GivenReport:
    keys = list(file.keys)
    met = log.semi_join(ibis.memtable(file.votes), keys).select(*keys).distinct()
    unmatched = len(file.votes) - int(backend.to_pyarrow(met.count()).as_py())
    if unmatched == len(file.votes):
        raise RecordError(
            f"{file.path}: knows none of the log's turns ({file.rows:,} rows, {file.unused:,} of "
            f"them without an answer); expected the log's own {' and '.join(keys)}. Check the path."
        )
    return GivenReport(
        str(file.path), file.rows, file.unused, unmatched, file.annotators, file.annotator_agreement
    )


def _trust(
    gold: Path | None, rows: ibis.Table, patterns: Patterns, backend: ibis.BaseBackend
) -> tuple[str, Record | None, Trust]:
    """What accuracies are fitted on, how votes did there, and what that makes of them."""
    people = np.asarray([code == "human" for code in CODES])
    labelled = patterns.votes[:, people].any(axis=1)
    if gold is not None:
        known, scaled = _of_gold(gold, rows, patterns, backend), np.ones_like(people)
        truth = known["truth"].to_numpy()
    elif labelled.any():
        told = ibis.memtable(pa.table({"pattern": patterns.numbers[labelled]}))
        known, scaled = _in_order(rows.semi_join(told, "pattern"), backend), ~people
    else:
        return "beliefs", None, BELIEF
    cast = patterns.votes[patterns.places(known["pattern"].to_numpy())]
    if gold is None:
        truth = (cast[:, people].ravel() > 0).astype(np.int8)
        # People are not right by agreeing with themselves.
        cast = np.where(people, 0, cast).astype(np.int8)
    ids = known["conversation_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    found = record(cast, truth, ids)
    trust = calibrated(fit(found), cast, truth, scaled)
    return "human" if gold is None else "gold", found, trust


def _of_gold(
    path: Path, rows: ibis.Table, patterns: Patterns, backend: ibis.BaseBackend
) -> pa.Table:
    """The turns of the log whose truth a file knows, with their `truth`."""
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
            f"{path}: knows none of the log's {patterns.turns.sum():,} turns; expected the same "
            "conversation ids and turn indices. Check --gold."
        )
    return known


def _in_order(rows: ibis.Table, backend: ibis.BaseBackend) -> pa.Table:
    """A few rows of the log, whole, whatever the engine in the same order."""
    few = kept(backend, rows)
    schema = few.schema().to_pyarrow()
    found = [
        pa.Table.from_batches([batch]).cast(schema) for batch in batches(backend, few, TURN_KEYS)
    ]
    return pa.concat_tables([schema.empty_table(), *found])


def _labels(
    rows: Iterable[pa.RecordBatch], patterns: Patterns, trust: Trust
) -> Iterator[pa.RecordBatch]:
    """The rows with what they add up to: each pattern is put into words once."""
    kinds = dict(zip(EXPLAINED_LABELS.names, EXPLAINED_LABELS.types, strict=True))
    p = probability(patterns.votes, trust)
    told = {
        "p_reasoning": pa.array(p, kinds["p_reasoning"]),
        "confidence": pa.array(np.abs(2 * p - 1), kinds["confidence"]),
        "evidence": pa.array([_codes(row) for row in patterns.votes], kinds["evidence"]),
        "weights": pa.array([_weights(row, trust) for row in patterns.votes], kinds["weights"]),
        "reasons": pa.array([_reasons(row) for row in patterns.votes], kinds["reasons"]),
    }
    for batch in rows:
        place = pa.array(patterns.places(batch["pattern"].to_numpy()))
        columns = {name: column.take(place) for name, column in told.items()}
        columns |= {name: batch[name].cast(kinds[name]) for name in TURN_KEYS}
        arrays = [columns[name] for name in EXPLAINED_LABELS.names]
        yield pa.RecordBatch.from_arrays(arrays, schema=EXPLAINED_LABELS)


def _codes(row: Votes) -> list[str]:
    return [f"{'-' if row[s] < 0 else ''}{CODES[s]}" for s in np.flatnonzero(row)]


def _weights(row: Votes, trust: Trust) -> list[float]:
    return [float(row[s] * trust.log_odds[s]) for s in np.flatnonzero(row)]


def _reasons(row: Votes) -> list[str]:
    return [SOURCES[s].reason for s in np.flatnonzero(row)]


def _report(
    patterns: Patterns,
    trust: Trust,
    found: Record | None,
    fitted_on: str,
    given: list[GivenReport],
) -> LabelReport:
    spoken = patterns.spoken
    leaning = probability(patterns.votes[spoken], trust) >= 0.5
    return LabelReport(
        turns=int(patterns.turns.sum()),
        labelled=int(patterns.turns[spoken].sum()),
        reasoning=int(patterns.turns[spoken][leaning].sum()),
        prior=trust.prior,
        gold_turns=found.turns if found else 0,
        fitted_on=fitted_on,
        sources=[_source(patterns, trust, found, s) for s in range(len(SOURCES))],
        given=given,
    )


def _source(patterns: Patterns, trust: Trust, found: Record | None, s: int) -> SourceReport:
    own, turns = patterns.votes[:, s], patterns.turns
    others = patterns.votes.copy()
    others[:, s] = 0
    voted = int(turns[own != 0].sum())
    compared = (own != 0) & (others != 0).any(axis=1)
    agrees = (probability(others[compared], trust) >= 0.5) == (own[compared] > 0)
    in_company = int(turns[compared].sum())
    known = int(found.votes[s]) if found else 0
    accuracy = float(trust.accuracy[s])
    low, high = wilson(accuracy, float(trust.votes[s]))
    return SourceReport(
        code=SOURCES[s].code,
        reason=SOURCES[s].reason,
        turns=voted,
        coverage=voted / int(turns.sum()),
        for_reasoning=int(turns[own > 0].sum()) / max(1, voted),
        agreement=int(turns[compared][agrees].sum()) / in_company if in_company else float("nan"),
        known=known,
        right=float(found.right[s] / known) if found and known else float("nan"),
        accuracy=accuracy,
        low=low,
        high=high,
        weight=float(trust.log_odds[s]),
    )
