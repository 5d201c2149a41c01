"""Walked policies → the decisions table: every turn under every policy, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.parquet import write_parquet_in_order
from turnout.records import Architecture, ModelClass, Population
from turnout.replay.columns import Bools
from turnout.replay.log import ScoredLog
from turnout.replay.walk import CODES, Reasons, Walked
from turnout.routing.policies import Target
from turnout.schema import DECISIONS

_BATCH_CONVERSATIONS = 20_000
# Decisions that read no score of their turn.
_UNSCORED = tuple(CODES.index(code) for code in ("pinned", "cache_warm", "fixed"))


@dataclass(frozen=True, slots=True)
class Decided:
    """A policy that walked a log.

    Attributes:
        policy: Its name.
        router: The architecture whose scores it read.
        threshold: The least score for reasoning.
        walked: What it did, with reasons.
    """

    policy: str
    router: Architecture
    threshold: float
    walked: Walked


@dataclass(frozen=True, slots=True)
class ChosenClasses:
    """The classes that a policy chose.

    Attributes:
        policy: Its name.
        threshold: The least score for reasoning.
        on_reasoning: Whether each turn of the log goes to reasoning, shape `(n,)`.
    """

    policy: str
    threshold: float
    on_reasoning: Bools


class Chosen:
    """Passes walks on one by one, and keeps of each only the classes: a byte a turn.

    Args:
        walks: The policies that walked; each walk is dropped once the next is asked for.

    Attributes:
        policies: What was chosen in the walks so far.
    """

    def __init__(self, walks: Iterator[Decided]) -> None:
        self._walks = walks
        self.policies: list[ChosenClasses] = []

    def __iter__(self) -> Iterator[Decided]:
        for walk in self._walks:
            self.policies.append(
                ChosenClasses(walk.policy, walk.threshold, walk.walked.on_reasoning)
            )
            yield walk


def write_decisions(
    decided: Iterable[Decided],
    log: ScoredLog,
    targets: Mapping[ModelClass, Target],
    population: Population,
    path: Path,
) -> None:
    """Write every turn's decision, one policy after another; see `schema.DECISIONS`.

    Args:
        decided: The policies; one is held in memory at a time.
        log: What they walked.
        targets: Class → where it goes.
        population: The messages that scores are probabilities for.
        path: Where the table goes (Parquet).
    """
    batches = (
        batch for policy in decided for batch in _batches_of(policy, log, targets, population)
    )
    write_parquet_in_order(batches, DECISIONS, path)


def _batches_of(
    decided: Decided, log: ScoredLog, targets: Mapping[ModelClass, Target], population: Population
) -> Iterator[pa.RecordBatch]:
    reasons = decided.walked.reasons
    if reasons is None:
        raise ValueError("expected a walk with reasons")
    for begin in range(0, log.turns.conversations, _BATCH_CONVERSATIONS):
        end = min(begin + _BATCH_CONVERSATIONS, log.turns.conversations)
        rows = slice(log.turns.starts[begin], log.turns.starts[end])
        yield _batch(decided, reasons, log, rows, _ids(log, begin, end), targets, population)


def _ids(log: ScoredLog, begin: int, end: int) -> pa.Array:
    lengths = np.diff(log.turns.starts[begin : end + 1])
    return log.conversation_ids.take(pa.array(np.repeat(np.arange(begin, end), lengths)))


def _batch(
    decided: Decided,
    reasons: Reasons,
    log: ScoredLog,
    rows: slice,
    ids: pa.Array,
    targets: Mapping[ModelClass, Target],
    population: Population,
) -> pa.RecordBatch:
    walked, on, codes = decided.walked, decided.walked.on_reasoning[rows], reasons.codes[rows]
    scores = np.where(np.isin(codes, _UNSCORED), np.nan, log.scores[decided.router][rows])
    columns = {
        "conversation_id": ids,
        "turn_index": log.turns.turn_index[rows],
        "policy": _same(decided.policy, on),
        "router": _same(decided.router, on),
        "threshold": np.full(len(on), decided.threshold),
        "population": _same(population, on),
        "p_reasoning": _or_null(scores.astype(np.float32)),
        "model_class": _named(on.astype(np.int8), ("fast", "reasoning")),
        "model": _named(on.astype(np.int8), (targets["fast"].name, targets["reasoning"].name)),
        "code": _named(codes, CODES),
        "switched": walked.switched[rows],
        "left_warm_cache": walked.left_warm[rows],
        "cached_tokens": walked.cached_tokens[rows].astype(np.int64),
        "usd": reasons.usd[rows],
        "stay_usd": reasons.stay_usd[rows],
        "switch_usd": reasons.switch_usd[rows],
        "switching_usd": reasons.switching_usd[rows],
        "miss_usd": _or_null(reasons.miss_usd[rows]),
    }
    return pa.RecordBatch.from_pydict(
        {name: pa.array(columns[name]) for name in DECISIONS.names}, DECISIONS
    )


def _named(codes: NDArray[np.int8], names: Sequence[str]) -> pa.Array:
    return pc.take(pa.array(names, pa.string()), pa.array(codes))


def _same(name: str, like: NDArray[np.bool_]) -> pa.Array:
    return pa.repeat(name, len(like))


def _or_null(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
