"""Scored tables → the columns that a replay walks, and what the log itself did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.catalog import Catalog
from turnout.errors import RecordError
from turnout.records import LABEL_FAST, LABEL_REASONING, Architecture, ModelClass
from turnout.replay.columns import Floats, TurnColumns
from turnout.replay.evidence import NO_LABEL, Evidence
from turnout.replay.segments import Segments, segments_of
from turnout.routing.policies import Target
from turnout.routing.policies.costs import EXPECTED_OUTPUT_TOKENS

# Fewer counted turns of a class give no mean that could stand for the others.
MIN_COUNTED_TURNS = 30
# One conversation gives no interval.
MIN_CONVERSATIONS = 2
# A model without a price: the four terms of `_billed`.
_NOT_BILLED = (float("nan"),) * 4
CLASSES: tuple[ModelClass, ModelClass] = ("reasoning", "fast")


@dataclass(frozen=True, slots=True)
class ScoredLog:
    """A log whose turns were scored; n turns.

    Attributes:
        turns: The columns to walk.
        conversation_ids: Of every conversation, shape `(c,)`.
        scores: Architecture → p_reasoning of every turn, shape `(n,)`; NaN where that router does
            not decide.
        expected_output_tokens: Class → the mean answer of its models in this log, in whole tokens;
            where fewer than 30 are counted, the default that a gateway has without a log.
        message_chars: Length of every user message, shape `(n,)`.
        logged_class: 0 = reasoning, 1 = fast, −1 where the log does not tell, shape `(n,)`.
        logged_usd: What the turn cost on the model that served it, shape `(n,)`; NaN where that
            model has no price.
        unpriced: Model without a price → its turns.
        labels: 0 = reasoning, 1 = fast by evidence, else −1, shape `(n,)`; None where no evidence
            was given.
        evidence_left_out: Turns with evidence that trained a router; −1 in `labels`.
        others: Name → scores of the same turns by what a router is compared with, shape `(n,)`.
        segments: Of the conversations; None where they are not wanted.
        estimated: Share of the turns with a token count that the tokenizer gave.
        assumed: Share of the turns whose answer's length is not known at all.
        left_out: Conversations left out, since their first turn was not captured.
        span_s: Seconds from the first turn to the last; NaN where the log has no times.
    """

    turns: TurnColumns
    conversation_ids: pa.Array
    scores: Mapping[Architecture, NDArray[np.float32]]
    expected_output_tokens: Mapping[ModelClass, float]
    message_chars: NDArray[np.int32]
    logged_class: NDArray[np.int8]
    logged_usd: NDArray[np.float32]
    unpriced: Mapping[str, int]
    labels: NDArray[np.int8] | None
    evidence_left_out: int
    others: Mapping[str, NDArray[np.float32]]
    segments: Segments | None
    estimated: float
    assumed: float
    left_out: int
    span_s: float

    def part(self, conversations: NDArray[np.int64]) -> ScoredLog:
        """The log of some conversations, named by their position in rising order."""
        lengths = np.diff(self.turns.starts)[conversations]
        starts = np.r_[0, np.cumsum(lengths)]
        shift = np.repeat(self.turns.starts[:-1][conversations] - starts[:-1], lengths)
        rows = np.arange(starts[-1]) + shift
        return replace(
            self,
            turns=_taken(self.turns, rows, starts),
            conversation_ids=self.conversation_ids.take(pa.array(conversations)),
            scores={name: values[rows] for name, values in self.scores.items()},
            message_chars=self.message_chars[rows],
            logged_class=self.logged_class[rows],
            logged_usd=self.logged_usd[rows],
            labels=None if self.labels is None else self.labels[rows],
            others={name: values[rows] for name, values in self.others.items()},
            segments=None
            if self.segments is None
            else replace(self.segments, of=self.segments.of[conversations]),
        )


def _taken(turns: TurnColumns, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> TurnColumns:
    return TurnColumns(
        starts,
        turns.turn_index[rows],
        turns.at_s[rows],
        turns.prompt_tokens[rows],
        {name: values[rows] for name, values in turns.output_tokens.items()},
        {name: values[rows] for name, values in turns.reasoning_tokens.items()},
    )


def read_scored(
    tables: Mapping[Architecture, Path],
    turns: Path,
    *,
    catalog: Catalog,
    evidence: Evidence,
    others: Mapping[str, Path],
    by: str | None = None,
) -> ScoredLog:
    """Read the scored tables of one log.

    Conversations whose first turn was not captured are left out: no policy can be told what the
    log's product knew there, and a session router decides at that turn.

    Args:
        tables: Architecture of the router → what `score_turns` wrote; the same turns in each.
        turns: The turns table that they were made of, to be named in messages.
        catalog: Prices of the models that served.
        evidence: What turns needed, where it is known.
        others: Name → scored table of what the routers are compared with.
        by: The column that gives segments.

    Raises:
        ArtifactError: If a data set of the evidence cannot be read.
        RecordError: If no conversation is left, evidence cannot be read, or no turn carries the
            segments.
    """
    first = next(iter(tables.values()))
    table = pq.read_table(first)
    needs = evidence.of(first, table)
    starts = _starts(table["conversation_id"])
    means = _mean_answers(table)
    log = ScoredLog(
        turns=_columns(table, starts, means),
        conversation_ids=table["conversation_id"].take(pa.array(starts[:-1])).combine_chunks(),
        scores={name: _scores(path) for name, path in tables.items()},
        expected_output_tokens={name: float(round(mean)) for name, mean in means.items()},
        message_chars=_numbers(table["message_chars"], 0).astype(np.int32),
        logged_class=_classes(table["model_class"]),
        logged_usd=_logged_usd(table, starts, catalog),
        unpriced=_unpriced(table["model"], catalog),
        labels=None if needs is None else needs.labels,
        evidence_left_out=0 if needs is None else needs.left_out,
        others={name: _scores(path) for name, path in others.items()},
        segments=None
        if by is None
        else segments_of(table["segments"].take(pa.array(starts[:-1])), by, turns),
        estimated=float(pc.mean(table["estimated"]).as_py() or 0.0),
        assumed=table["completion_tokens"].null_count / max(table.num_rows, 1),
        left_out=0,
        span_s=_span_s(table["timestamp"]),
    )
    whole = np.flatnonzero(log.turns.turn_index[log.turns.starts[:-1]] == 1)
    if len(whole) < MIN_CONVERSATIONS:
        raise RecordError(
            f"{turns}: of {log.turns.conversations:,} conversations {len(whole)} begin with their "
            f"first turn; expected at least {MIN_CONVERSATIONS}. Ingest a longer log, with "
            "conversations captured from their start."
        )
    left_out = log.turns.conversations - len(whole)
    return replace(log.part(whole), left_out=left_out) if left_out else log


def _starts(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    codes = pc.dictionary_encode(ids).combine_chunks().indices.to_numpy()
    changes = np.flatnonzero(np.diff(codes)) + 1 if len(codes) else np.zeros(0, np.int64)
    return np.r_[0, changes, len(codes)].astype(np.int64) if len(codes) else np.zeros(1, np.int64)


def _numbers(column: pa.ChunkedArray, missing: float = float("nan")) -> Floats:
    filled = pc.fill_null(pc.cast(column, pa.float64()), missing)
    return np.asarray(filled.to_numpy(), np.float64)


def _scores(path: Path) -> NDArray[np.float32]:
    return _numbers(pq.read_table(path, columns=["p_reasoning"])["p_reasoning"]).astype(np.float32)


def _seconds(column: pa.ChunkedArray) -> Floats:
    return _numbers(pc.cast(column, pa.int64())) / 1e6


def _span_s(column: pa.ChunkedArray) -> float:
    at_s = _seconds(column)
    return float(np.nanmax(at_s) - np.nanmin(at_s)) if np.isfinite(at_s).any() else float("nan")


def _classes(column: pa.ChunkedArray) -> NDArray[np.int8]:
    codes = np.full(len(column), NO_LABEL, np.int8)
    for name, label in zip(CLASSES, (LABEL_REASONING, LABEL_FAST), strict=True):
        codes[pc.fill_null(pc.equal(column, name), False).to_numpy()] = label
    return codes


def _mean_answers(table: pa.Table) -> dict[ModelClass, float]:
    """Class → mean tokens of its answers; the default where too few are counted."""
    classes, answers = _classes(table["model_class"]), _numbers(table["completion_tokens"])
    means = dict(EXPECTED_OUTPUT_TOKENS)
    for name, label in zip(CLASSES, (LABEL_REASONING, LABEL_FAST), strict=True):
        own = answers[(classes == label) & np.isfinite(answers)]
        if len(own) >= MIN_COUNTED_TURNS:
            means[name] = float(own.mean())
    return means


def _columns(
    table: pa.Table, starts: NDArray[np.int64], means: Mapping[ModelClass, float]
) -> TurnColumns:
    classes = _classes(table["model_class"])
    answers, thoughts = (
        _numbers(table[name]) for name in ("completion_tokens", "reasoning_tokens")
    )
    output: dict[ModelClass, NDArray[np.float32]] = {}
    reasoning: dict[ModelClass, NDArray[np.float32]] = {}
    for name, label in zip(CLASSES, (LABEL_REASONING, LABEL_FAST), strict=True):
        own = (classes == label) & np.isfinite(answers)
        output[name] = np.where(own, answers, means[name]).astype(np.float32)
        known = own & np.isfinite(thoughts)
        share = 0.0
        if known.any() and answers[known].sum() > 0:
            share = min(float(thoughts[known].sum() / answers[known].sum()), 1.0)
        thought = np.where(known, np.minimum(thoughts, answers), share * output[name])
        reasoning[name] = thought.astype(np.float32)
    return TurnColumns(
        starts,
        _numbers(table["turn_index"], 0).astype(np.int32),
        _seconds(table["timestamp"]),
        _numbers(table["prompt_tokens"], 0).astype(np.float32),
        output,
        reasoning,
    )


def _logged_usd(
    table: pa.Table, starts: NDArray[np.int64], catalog: Catalog
) -> NDArray[np.float32]:
    """What the turns cost on the models that served them.

    Tokens are as the log counts them. A model whose cached tokens the log never counts is billed
    as the policies are: it reads what its own last prompt left in its cache, and writes the rest.
    """
    encoded = pc.dictionary_encode(table["model"]).combine_chunks()
    names = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, len(names)).to_numpy()
    prompt = _numbers(table["prompt_tokens"], 0)
    answers = _numbers(table["completion_tokens"])
    logged = np.minimum(_numbers(table["cached_tokens"]), prompt)
    counts = np.bincount(codes, np.isfinite(logged), len(names) + 1) > 0
    billed = [_billed(name, catalog, counted=n) for name, n in zip(names, counts[:-1], strict=True)]
    terms = np.array([*billed, _NOT_BILLED])
    read, fresh, output, lifetime_s = terms[codes].T
    held = _held(np.diff(starts), codes, prompt, _seconds(table["timestamp"]), lifetime_s)
    cached = np.where(counts[codes], np.nan_to_num(logged), held)
    usd = cached * read + (prompt - cached) * fresh + answers * output
    return np.asarray(usd / 1e6, np.float32)


def _billed(model: str, catalog: Catalog, *, counted: bool) -> tuple[float, float, float, float]:
    """USD for a million tokens of cached input, other input and output; and the cache's seconds."""
    target = Target.from_catalog(model, catalog, 0)
    if target is None:
        return _NOT_BILLED
    prices = target.prices
    # What is counted as not cached need not have been written to a cache.
    fresh = prices.input_usd_per_mtok if counted else prices.fresh_usd_per_mtok
    return prices.read_usd_per_mtok, fresh, prices.output_usd_per_mtok, target.cache_lifetime_s


def _held(
    lengths: NDArray[np.int64],
    models: NDArray[np.int32],
    prompt: Floats,
    at_s: Floats,
    lifetime_s: Floats,
) -> Floats:
    """Prompt tokens that each turn's model still holds of its last turn there, shape `(n,)`."""
    conversation = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((np.arange(len(models)), models, conversation))
    before, later = order[:-1], order[1:]
    follows = (conversation[before] == conversation[later]) & (models[before] == models[later])
    # Comparisons with NaN are false: without a time nothing goes cold.
    cold = at_s[later] - at_s[before] >= lifetime_s[later]
    held = np.zeros(len(models))
    held[later] = np.where(follows & ~cold, np.minimum(prompt[before], prompt[later]), 0.0)
    return held


def _unpriced(models: pa.ChunkedArray, catalog: Catalog) -> dict[str, int]:
    counts = pc.value_counts(models).to_pylist()
    turns_of = {
        entry["values"] or "no model named": entry["counts"]
        for entry in counts
        if entry["values"] is None or catalog.price(entry["values"]) is None
    }
    return dict(sorted(turns_of.items(), key=lambda item: (-item[1], item[0])))
