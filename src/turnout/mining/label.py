"""Votes → labels with a confidence: what all the evidence of a turn adds up to.

Knows no sample and no router.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.catalog import Catalog
from turnout.engine import connect, read_known_labels, read_turns, write_parquet
from turnout.errors import RecordError
from turnout.manifest import Manifest, read_manifest, staged_output, up_to_date
from turnout.mining.evidence import CODES, SOURCES, votes
from turnout.records import LABEL_REASONING
from turnout.schema import LABELS

Floats = NDArray[np.float64]

# A source that is nearly always right on few votes is not certain.
_MAX_ACCURACY = 0.98


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A kind of evidence and how it did.

    Attributes:
        code: Its name.
        reason: What it is.
        turns: On how many turns it votes.
        for_reasoning: Share of those votes that speak for reasoning.
        agreement: Share of its votes that the other sources together agree with; NaN where it is
            always alone.
        accuracy: Share of its votes taken to be right: believed, or fitted on known truth.
    """

    code: str
    reason: str
    turns: int
    for_reasoning: float
    agreement: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What the evidence adds up to.

    Attributes:
        turns: Rows of the log.
        labelled: Of them, those with any evidence.
        reasoning: Labelled turns with p_reasoning of at least 0.5.
        prior: Share of turns taken to need reasoning before any evidence.
        gold_turns: Turns of known truth that the accuracies were fitted on; 0 where none.
        sources: In the order of `evidence.SOURCES`.
        fresh: False where an earlier run on the same input was found.
    """

    turns: int
    labelled: int
    reasoning: int
    prior: float
    gold_turns: int
    sources: list[SourceReport]
    fresh: bool = True

    def to_json(self) -> dict[str, Any]:
        """Everything but whether it is fresh; NaN is null."""
        stored = asdict(self)
        del stored["fresh"]
        found: dict[str, Any] = json.loads(json.dumps(stored), parse_constant=lambda _: None)
        return found


def label_turns(
    turns: Path, out: Path, catalog: Catalog, *, gold: Path | None = None
) -> LabelReport:
    """Weigh all evidence of every turn and write what it adds up to.

    Sources are taken as independent given the need, so their log-odds add up. How often each is
    right is a stated belief; with `gold` it is fitted on turns of known truth.

    Args:
        turns: A turns table.
        out: The Parquet file of labels (`schema.LABELS`): one row for each turn with evidence.
        catalog: Model names to classes.
        gold: A table with `conversation_id`, `turn_index` and `label` (0 = reasoning, 1 = fast).

    Raises:
        RecordError: If a table cannot be read, or no turn has any evidence.
        StorageError: If `out` cannot be written.

    Source:
        Nitzan and Paroush (1982), "Optimal decision rules in uncertain dichotomous choice
        situations": a vote's weight is the log-odds that it is right.
    """
    inputs = [turns] + ([gold] if gold else [])
    manifest = Manifest.of("label", inputs, {"catalog": catalog.digest, "gold": gold is not None})
    if up_to_date(out, manifest):
        stored = (read_manifest(out) or {})["counts"]
        sources = [SourceReport(**source) for source in stored.pop("sources")]
        return LabelReport(**stored, sources=sources, fresh=False)
    backend = connect()
    table = backend.to_pyarrow(
        votes(read_turns(backend, turns), backend, catalog).order_by(
            "conversation_id", "turn_index"
        )
    )
    cast = np.stack([table[code].to_numpy() for code in CODES], axis=1).astype(np.int8)  # (n, s)
    if not cast.any():
        raise RecordError(
            f"{turns}: no evidence on any of {len(table):,} turns; expected models that the "
            "catalogue knows, token counts, or feedback. Add your models under [catalog] in "
            "turnout.toml."
        )
    truth = _gold(gold, table) if gold else None
    trust = BELIEF if truth is None else fit(cast, truth)
    p = probability(cast, trust)
    report = _report(cast, p, trust, 0 if truth is None else int((truth >= 0).sum()))
    manifest.counts.update(report.to_json())
    with staged_output(out, manifest) as partial:
        write_parquet(_labels(table, cast, p), partial)
    return report


@dataclass(frozen=True, slots=True)
class Trust:
    """How far evidence is trusted.

    Attributes:
        prior: Share of turns that need reasoning, in (0, 1).
        accuracy: How often each source is right, shape `(s,)`.
    """

    prior: float
    accuracy: Floats


BELIEF = Trust(0.5, np.asarray([source.accuracy for source in SOURCES]))


def fit(cast: NDArray[np.int8], truth: NDArray[np.int8]) -> Trust:
    """Estimate trust on turns whose need is known, held near the belief where they are few.

    Args:
        cast: Votes, shape `(n, s)`.
        truth: 1 = needs reasoning, 0 = does not, −1 = not known; shape `(n,)`.
    """
    spoken = (cast != 0) & (truth >= 0)[:, None]  # (n, s)
    right = (spoken & ((cast > 0) == (truth == 1)[:, None])).sum(axis=0)
    weight = np.asarray([source.weight for source in SOURCES])
    accuracy = (right + weight * BELIEF.accuracy) / (spoken.sum(axis=0) + weight)
    prior = ((truth == 1).sum() + 1) / ((truth >= 0).sum() + 2)
    # Evidence may be weak, never perverse: a source below a coin's chance would vote the other way.
    return Trust(float(prior), np.clip(accuracy, 0.5, _MAX_ACCURACY))


def probability(cast: NDArray[np.int8], trust: Trust) -> Floats:
    """Probability that each turn needs reasoning, shape `(n,)`: the prior where nothing votes."""
    log_odds = np.log(trust.accuracy / (1 - trust.accuracy))  # (s,)
    z = np.log(trust.prior / (1 - trust.prior)) + cast @ log_odds
    return np.asarray(1 / (1 + np.exp(-z)))


def _gold(path: Path, table: pa.Table) -> NDArray[np.int8]:
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


def _labels(table: pa.Table, cast: NDArray[np.int8], p: Floats) -> pa.Table:
    spoken = np.flatnonzero((cast != 0).any(axis=1))
    evidence = [
        [f"{'-' if cast[row, s] < 0 else ''}{CODES[s]}" for s in np.flatnonzero(cast[row])]
        for row in spoken
    ]
    chosen = table.select(["conversation_id", "turn_index"]).take(pa.array(spoken))
    return pa.table(
        {
            "conversation_id": chosen["conversation_id"],
            "turn_index": chosen["turn_index"],
            "p_reasoning": pa.array(p[spoken], pa.float32()),
            "confidence": pa.array(np.abs(2 * p[spoken] - 1), pa.float32()),
            "evidence": pa.array(evidence, LABELS.field("evidence").type),
        }
    ).cast(LABELS)


def _report(cast: NDArray[np.int8], p: Floats, trust: Trust, gold_turns: int) -> LabelReport:
    spoken = (cast != 0).any(axis=1)
    return LabelReport(
        turns=len(cast),
        labelled=int(spoken.sum()),
        reasoning=int((p[spoken] >= 0.5).sum()),
        prior=trust.prior,
        gold_turns=gold_turns,
        sources=[_source(cast, trust, s) for s in range(len(SOURCES))],
    )


def _source(cast: NDArray[np.int8], trust: Trust, s: int) -> SourceReport:
    own = cast[:, s]
    others = cast.copy()
    others[:, s] = 0
    judged = (own != 0) & (others != 0).any(axis=1)
    agrees = (probability(others[judged], trust) >= 0.5) == (own[judged] > 0)
    return SourceReport(
        code=SOURCES[s].code,
        reason=SOURCES[s].reason,
        turns=int((own != 0).sum()),
        for_reasoning=float((own > 0).sum() / max(1, (own != 0).sum())),
        agreement=float(agrees.mean()) if judged.any() else float("nan"),
        accuracy=float(trust.accuracy[s]),
    )
