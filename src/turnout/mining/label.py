"""Turns and judgements → labels with a confidence: what all the evidence of a turn adds up to.

Knows no sample and no router.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from turnout.catalog import Catalog
from turnout.engine import connect, read_known_labels, read_turns, require_places, write_parquet
from turnout.errors import RecordError
from turnout.manifest import Manifest, read_manifest, staged_output, up_to_date
from turnout.mining.evidence import CODES, SOURCES, votes
from turnout.mining.given import Given, human_labels, judged, measured_outcomes
from turnout.mining.weighing import (
    BELIEF,
    Record,
    Trust,
    Votes,
    calibrated,
    fit,
    interval,
    probability,
    record,
)
from turnout.records import LABEL_REASONING
from turnout.schema import EXPLAINED_LABELS


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
) -> LabelReport:
    """Weigh all evidence of every turn and write what it adds up to.

    Sources are taken as independent given the need, so their log-odds add up. How often each is
    right is a stated belief, fitted on turns of known truth where there are any: `gold`, or else
    the majority of people's labels.

    Args:
        turns: A turns table.
        out: The Parquet file of labels (`schema.EXPLAINED_LABELS`): one row for each turn with
            evidence.
        catalog: Model names to classes.
        gold: A table with `conversation_id`, `turn_index` and `label` (0 = reasoning, 1 = fast).
        judgements: What people, a judge model or measurements say.

    Raises:
        RecordError: If a table cannot be read, a file knows none of the turns, or no turn has any
            evidence.
        StorageError: If `out` cannot be written.
    """
    files = {"gold": gold, **asdict(judgements)}
    options = {"catalog": catalog.digest} | {k: v is not None for k, v in files.items()}
    inputs = [turns, *(path for path in files.values() if path is not None)]
    manifest = Manifest.of("label", inputs, options)
    if up_to_date(out, manifest):
        stored = (read_manifest(out) or {})["counts"]
        sources = [SourceReport(**source) for source in stored.pop("sources")]
        given = [GivenReport(**file) for file in stored.pop("given")]
        return LabelReport(**stored, sources=sources, given=given, fresh=False)
    backend = connect()
    log = read_turns(backend, turns)
    require_places(turns)
    read = list(judgements.read())
    given = [_given(file, log, backend) for file in read]
    table = backend.to_pyarrow(
        votes(log, backend, catalog, read).order_by("conversation_id", "turn_index")
    )
    n_turns = table.group_by(["conversation_id", "turn_index"]).aggregate([]).num_rows
    if n_turns < len(table):
        raise RecordError(
            f"{turns}: {len(table) - n_turns:,} rows repeat the conversation and index of another; "
            "expected one row a turn. Ingest the table with `turnout ingest`, which keeps one."
        )
    cast = np.stack([table[code].to_numpy() for code in CODES], axis=1).astype(np.int8)  # (n, s)
    if not cast.any():
        raise RecordError(
            f"{turns}: no evidence on any of {len(table):,} turns; expected models that the "
            "catalogue knows, token counts, or feedback. Add your models under [catalog] in "
            "turnout.toml."
        )
    fitted_on, found, trust = _trust(gold, table, cast)
    report = _report(cast, trust, found, fitted_on, given)
    manifest.counts.update(report.to_json())
    with staged_output(out, manifest) as partial:
        write_parquet(_labels(table, cast, trust), partial)
    return report


def _given(file: Given, log: ibis.Table, backend: ibis.BaseBackend) -> GivenReport:
    keys = list(file.keys)
    strangers = ibis.memtable(file.votes).anti_join(log.select(*keys).distinct(), keys)
    unmatched = int(backend.to_pyarrow(strangers.count()).as_py())
    if unmatched == len(file.votes):
        raise RecordError(
            f"{file.path}: knows none of the log's turns ({file.rows:,} rows, {file.unused:,} of "
            f"them without an answer); expected the log's own {' and '.join(keys)}. Check the path."
        )
    return GivenReport(
        str(file.path), file.rows, file.unused, unmatched, file.annotators, file.annotator_agreement
    )


def _trust(gold: Path | None, table: pa.Table, cast: Votes) -> tuple[str, Record | None, Trust]:
    """What accuracies are fitted on, how votes did there, and what that makes of them."""
    people = np.asarray([code == "human" for code in CODES])
    if gold is not None:
        fitted_on, truth, scaled = "gold", _gold(gold, table), np.ones_like(people)
    elif cast[:, people].any():
        said = cast[:, people].ravel()
        fitted_on, truth, scaled = "human", np.where(said == 0, -1, said > 0), ~people
        # People are not right by agreeing with themselves.
        cast = np.where(people, 0, cast).astype(np.int8)
    else:
        return "beliefs", None, BELIEF
    truth = truth.astype(np.int8)
    ids = table["conversation_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    found = record(cast, truth, ids)
    return fitted_on, found, calibrated(fit(found), cast, truth, scaled)


def _gold(path: Path, table: pa.Table) -> Votes:
    labels = read_known_labels(path)
    keys = zip(table["conversation_id"].to_pylist(), table["turn_index"].to_pylist(), strict=True)
    found = [labels.get(key) for key in keys]
    truth = np.asarray([-1 if x is None else int(x == LABEL_REASONING) for x in found], np.int8)
    if not (truth >= 0).any():
        raise RecordError(
            f"{path}: knows none of the log's {len(table):,} turns; expected the same conversation "
            "ids and turn indices. Check --gold."
        )
    return truth


def _labels(table: pa.Table, cast: Votes, trust: Trust) -> pa.Table:
    """Turns share few patterns of votes: each pattern is put into words once."""
    spoken = np.flatnonzero((cast != 0).any(axis=1))
    patterns, place = np.unique(cast[spoken], axis=0, return_inverse=True)
    p = probability(patterns, trust)
    kinds = dict(zip(EXPLAINED_LABELS.names, EXPLAINED_LABELS.types, strict=True))
    of_pattern = {
        "p_reasoning": pa.array(p, kinds["p_reasoning"]),
        "confidence": pa.array(np.abs(2 * p - 1), kinds["confidence"]),
        "evidence": pa.array([_codes(row) for row in patterns], kinds["evidence"]),
        "weights": pa.array([_weights(row, trust) for row in patterns], kinds["weights"]),
        "reasons": pa.array([_reasons(row) for row in patterns], kinds["reasons"]),
    }
    keys = table.select(["conversation_id", "turn_index"]).take(pa.array(spoken))
    columns = {name: column.take(pa.array(place.ravel())) for name, column in of_pattern.items()}
    columns |= {name: keys[name] for name in keys.column_names}
    return pa.table({name: columns[name] for name in EXPLAINED_LABELS.names}).cast(EXPLAINED_LABELS)


def _codes(row: Votes) -> list[str]:
    return [f"{'-' if row[s] < 0 else ''}{CODES[s]}" for s in np.flatnonzero(row)]


def _weights(row: Votes, trust: Trust) -> list[float]:
    return [float(row[s] * trust.log_odds[s]) for s in np.flatnonzero(row)]


def _reasons(row: Votes) -> list[str]:
    return [SOURCES[s].reason for s in np.flatnonzero(row)]


def _report(
    cast: Votes, trust: Trust, found: Record | None, fitted_on: str, given: list[GivenReport]
) -> LabelReport:
    spoken = (cast != 0).any(axis=1)
    p = probability(cast[spoken], trust)
    return LabelReport(
        turns=len(cast),
        labelled=int(spoken.sum()),
        reasoning=int((p >= 0.5).sum()),
        prior=trust.prior,
        gold_turns=found.turns if found else 0,
        fitted_on=fitted_on,
        sources=[_source(cast, trust, found, s) for s in range(len(SOURCES))],
        given=given,
    )


def _source(cast: Votes, trust: Trust, found: Record | None, s: int) -> SourceReport:
    own = cast[:, s]
    others = cast.copy()
    others[:, s] = 0
    compared = (own != 0) & (others != 0).any(axis=1)
    agrees = (probability(others[compared], trust) >= 0.5) == (own[compared] > 0)
    known = int(found.votes[s]) if found else 0
    accuracy = float(trust.accuracy[s])
    low, high = interval(accuracy, float(trust.votes[s]))
    return SourceReport(
        code=SOURCES[s].code,
        reason=SOURCES[s].reason,
        turns=int((own != 0).sum()),
        coverage=float((own != 0).mean()),
        for_reasoning=float((own > 0).sum() / max(1, (own != 0).sum())),
        agreement=float(agrees.mean()) if compared.any() else float("nan"),
        known=known,
        right=float(found.right[s] / known) if found and known else float("nan"),
        accuracy=accuracy,
        low=low,
        high=high,
        weight=float(trust.log_odds[s]),
    )
