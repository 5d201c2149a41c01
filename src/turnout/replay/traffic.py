"""A data set's test rows, or a log's own turns → what a router decides on; knows no router.

A session router decides once a conversation and pays for all of its turns; a conversation router
decides and pays turn by turn.
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
from turnout.samples import Samples
from turnout.schema import TURN_KEYS
from turnout.turns import read_turns, refuse_repeats, require_places, with_model_facts

Floats = NDArray[np.float64]

# What a turn is taken to need where the log counts no tokens at all.
DEFAULT_PROMPT_TOKENS = 1_000
DEFAULT_COMPLETION_TOKENS: Mapping[ModelClass, float] = {"reasoning": 1_500, "fast": 400}
# Fewer counted turns of a class give no mean that could stand for the others.
MIN_COUNTED_TURNS = 30
_COLUMNS = (
    *TURN_KEYS,
    "user_message",
    "assistant_message",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "model_class",
)
_Row = dict[str, Any]


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


def traffic_of_turns(turns: Path, formatter: Formatter, catalog: Catalog) -> Traffic:
    """What a router with this formatter decides on in a turns table; labels are not looked at.

    A prompt is as long whichever class reads it. An answer is as long as logged where a model of
    the class gave it, and otherwise as the mean of that class in this log: reasoning models write
    more than the fast ones whose counts were logged.

    Raises:
        RecordError: If the file is not a whole turns table, or nothing in it is decided on.
    """
    backend = connect()
    with reading(turns):
        log = read_turns(backend, turns)
        require_places(turns)
        facts = with_model_facts(log, backend, catalog)
        ordered = facts.select(*_COLUMNS).order_by("conversation_id", "turn_index")
        rows: list[_Row] = backend.to_pyarrow(ordered).to_pylist()
    places = map(itemgetter(*TURN_KEYS), rows)
    refuse_repeats(turns, sum(before == place for before, place in pairwise(places)))
    means = _mean_answers(rows)
    decided: list[tuple[_Row, ModelInput, list[_Row]]] = []
    left_out = 0
    for _, group in groupby(rows, key=lambda row: row["conversation_id"]):
        of_conversation = list(group)
        found = _decisions(of_conversation, formatter)
        left_out += not found
        decided += found
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


def _decisions(
    rows: Sequence[_Row], formatter: Formatter
) -> list[tuple[_Row, ModelInput, list[_Row]]]:
    """Each decision's own turn, what the encoder reads of it, and the turns it pays for."""
    turns = [Turn(row["user_message"], row["assistant_message"]) for row in rows]
    if formatter.architecture == "session":
        first = rows[0]
        if first["turn_index"] != 1:
            return []
        return [(first, formatter.format(turns[:1]), list(rows))]
    found = []
    for at, row in enumerate(rows):
        seen = turns[max(0, at - formatter.previous_turns) : at + 1]
        found.append((row, formatter.format(seen, row["turn_index"]), [row]))
    return found


def _mean_answers(rows: Sequence[_Row]) -> dict[str, float]:
    """Class → mean completion tokens, of the classes with enough counted turns."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        if row["model_class"] and row["completion_tokens"] is not None:
            counts.setdefault(row["model_class"], []).append(row["completion_tokens"])
    return {
        name: float(np.mean(found))
        for name, found in counts.items()
        if len(found) >= MIN_COUNTED_TURNS
    }


def _is_counted(row: _Row) -> bool:
    return row["prompt_tokens"] is not None and row["completion_tokens"] is not None


def _prompt(row: _Row) -> float:
    found: float | None = row["prompt_tokens"]
    return DEFAULT_PROMPT_TOKENS if found is None else found


def _cached(row: _Row) -> float:
    # More than the whole prompt cannot come from the cache, whatever a log says.
    return min(float(row["cached_tokens"] or 0), _prompt(row))


def _answer(row: _Row, name: ModelClass, means: Mapping[str, float]) -> float:
    own: float | None = row["completion_tokens"]
    if own is not None and (row["model_class"] == name or name not in means):
        return float(own)
    return means.get(name, float(DEFAULT_COMPLETION_TOKENS[name]))
