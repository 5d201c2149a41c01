"""A data set's test rows, or a log's turns → the decisions of a router under a policy.

Each decision pays for its own turn and for those that follow until the next decision: a session
router decides once a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.catalog import Catalog, Price
from turnout.engine import connect, reading
from turnout.errors import RecordError
from turnout.records import ModelClass, ModelInput, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.routing.policies import BoundaryPolicy, Policy
from turnout.routing.policies.costs import EXPECTED_OUTPUT_TOKENS
from turnout.samples import Samples
from turnout.schema import TURN_KEYS
from turnout.turns import read_turns, refuse_repeats, require_places, with_model_facts

Floats = NDArray[np.float64]

# What a turn is taken to need where the log counts no tokens at all.
DEFAULT_PROMPT_TOKENS = 1_000
DEFAULT_COMPLETION_TOKENS = EXPECTED_OUTPUT_TOKENS
# Fewer counted turns of a class give no mean that could stand for the others.
MIN_COUNTED_TURNS = 30
_COLUMNS = (
    *TURN_KEYS,
    "user_message",
    "assistant_message",
    "timestamp",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "model_class",
)
_Row = dict[str, Any]
# The turn that is decided on, what the encoder reads of it, and the turns that it pays for.
_Decided = tuple[_Row, ModelInput, Sequence[_Row]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is decided on, n decisions.

    Attributes:
        inputs: What the encoder reads.
        conversation_ids: Whose they are; the unit that intervals resample.
        turn_indices: 1-based, shape `(n,)`.
        messages: How many user messages each decision serves, shape `(n,)`.
        prompt_tokens: Of all messages of a decision, shape `(n,)`.
        cached_tokens: Of them, read from the prompt cache as logged.
        completion_tokens: Class → what its models would answer with, shape `(n,)`.
        counted: Share of the messages whose tokens the log counts.
        left_out: Conversations whose first turn was not captured: a session router decides there.
    """

    inputs: list[ModelInput]
    conversation_ids: list[str]
    turn_indices: NDArray[np.int32]
    messages: NDArray[np.int64]
    prompt_tokens: Floats
    cached_tokens: Floats
    completion_tokens: Mapping[ModelClass, Floats]
    counted: float
    left_out: int = 0

    def cost_usd(self, model_class: ModelClass, price: Price) -> Floats:
        """What every decision costs if this class serves it, shape `(n,)`."""
        columns = (self.prompt_tokens, self.completion_tokens[model_class], self.cached_tokens)
        return np.asarray(
            [
                price.cost_usd(prompt_tokens=prompt, completion_tokens=answer, cached_tokens=cached)
                for prompt, answer, cached in zip(*columns, strict=True)
            ]
        )


def traffic_of_samples(samples: Samples) -> Traffic:
    """The rows of a split, one message each; a data set counts no tokens."""
    ones = np.ones(len(samples))
    return Traffic(
        samples.inputs,
        samples.conversation_ids,
        samples.turn_indices,
        ones.astype(np.int64),
        ones * DEFAULT_PROMPT_TOKENS,
        ones * 0,
        {name: ones * count for name, count in DEFAULT_COMPLETION_TOKENS.items()},
        counted=0.0,
    )


def traffic_of_turns(
    turns: Path, formatter: Formatter, catalog: Catalog, policy: Policy
) -> Traffic:
    """What a router decides on in a turns table; labels are not looked at.

    A prompt is as long whichever class reads it. An answer is as long as logged where a model of
    the class gave it, and otherwise as the mean of that class in this log: reasoning models write
    more than the fast ones whose counts were logged.

    Args:
        turns: The turns table.
        formatter: The router's.
        catalog: Says which class served a turn.
        policy: Says which turns are scored anew.

    Raises:
        RecordError: If the file is not a whole turns table, or nothing in it is decided on.
    """
    rows = _rows(turns, catalog, policy)
    means = _mean_answers(rows)
    decided: list[_Decided] = []
    left_out = 0
    for _, group in groupby(rows, key=lambda row: row["conversation_id"]):
        own = _decisions(list(group), formatter, policy)
        left_out += not own
        decided += own
    if not decided:
        raise RecordError(
            f"{turns}: {len(rows):,} turns, none of which the router decides on; expected first "
            "turns. Ingest a log whose conversations were captured from their start."
        )
    served = [rows for _, _, rows in decided]
    return Traffic(
        inputs=[shown for _, shown, _ in decided],
        conversation_ids=[row["conversation_id"] for row, _, _ in decided],
        turn_indices=np.asarray([row["turn_index"] for row, _, _ in decided], np.int32),
        messages=np.asarray([len(rows) for rows in served]),
        prompt_tokens=np.asarray([sum(map(_prompt, rows)) for rows in served], np.float64),
        cached_tokens=np.asarray([sum(map(_cached, rows)) for rows in served], np.float64),
        completion_tokens={
            name: np.asarray([sum(_answer(row, name, means) for row in rows) for rows in served])
            for name in DEFAULT_COMPLETION_TOKENS
        },
        counted=float(np.mean([_is_counted(row) for rows in served for row in rows])),
        left_out=left_out,
    )


def _rows(turns: Path, catalog: Catalog, policy: Policy) -> list[_Row]:
    """The turns in the order of their conversations."""
    backend = connect()
    with reading(turns, backend):
        log = read_turns(backend, turns)
        require_places(turns)
        facts = with_model_facts(log, backend, catalog)
        ordered = facts.select(*_COLUMNS).order_by("conversation_id", "turn_index")
        rows: list[_Row] = backend.to_pyarrow(ordered).to_pylist()
    places = map(itemgetter(*TURN_KEYS), rows)
    refuse_repeats(turns, sum(before == place for before, place in pairwise(places)))
    untimed = sum(row["timestamp"] is None for row in rows) if policy.name == "boundary" else 0
    if untimed:
        raise RecordError(
            f"{turns}: {untimed:,} turns have no timestamp; expected one in every turn, since the "
            "boundary policy decides by the time between them. Choose with another policy."
        )
    return rows


def _decisions(rows: Sequence[_Row], formatter: Formatter, policy: Policy) -> list[_Decided]:
    """The decisions of a conversation; none if its first turn decides and is missing."""
    first_decides = "session" in (formatter.architecture, policy.name)
    if first_decides and rows[0]["turn_index"] != 1:
        return []
    turns = [Turn(row["user_message"], row["assistant_message"]) for row in rows]
    starts = [n for n in range(len(rows)) if _is_decided_anew(rows, n, policy)]
    decided = []
    for start, end in pairwise([*starts, len(rows)]):
        if first_decides:
            shown = formatter.format(turns[:1])
        else:
            seen = turns[max(0, start - MAX_STORED_TURNS) : start + 1]
            shown = formatter.format(seen, rows[start]["turn_index"])
        decided.append((rows[start], shown, rows[start:end]))
    return decided


def _is_decided_anew(rows: Sequence[_Row], position: int, policy: Policy) -> bool:
    if position == 0 or policy.name == "conversation":
        return True
    idle = rows[position]["timestamp"] - rows[position - 1]["timestamp"]
    return isinstance(policy, BoundaryPolicy) and idle.total_seconds() >= policy.cache_lifetime_s


def _mean_answers(rows: Sequence[_Row]) -> dict[str, float]:
    """Class → mean completion tokens, of the classes with enough counted turns."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        if row["model_class"] and row["completion_tokens"] is not None:
            counts.setdefault(row["model_class"], []).append(row["completion_tokens"])
    return {
        name: float(np.mean(tokens))
        for name, tokens in counts.items()
        if len(tokens) >= MIN_COUNTED_TURNS
    }


def _is_counted(row: _Row) -> bool:
    return row["prompt_tokens"] is not None and row["completion_tokens"] is not None


def _prompt(row: _Row) -> float:
    logged: float | None = row["prompt_tokens"]
    return DEFAULT_PROMPT_TOKENS if logged is None else logged


def _cached(row: _Row) -> float:
    # More than the whole prompt cannot come from the cache, whatever a log says.
    return min(float(row["cached_tokens"] or 0), _prompt(row))


def _answer(row: _Row, name: ModelClass, means: Mapping[str, float]) -> float:
    own: float | None = row["completion_tokens"]
    if own is not None and (row["model_class"] == name or name not in means):
        return float(own)
    return means.get(name, float(DEFAULT_COMPLETION_TOKENS[name]))
