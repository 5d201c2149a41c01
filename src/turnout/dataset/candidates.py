"""Rows that could be samples: labelled and shown as the encoder will see them; knows no split."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.dataset.cells import STRATA, Cell, position_of
from turnout.dataset.drawing import UNKNOWN, UNNAMED
from turnout.engine import connect, parquet_schema, read_table
from turnout.errors import RecordError
from turnout.records import LABEL_FAST, LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_KEPT_TURNS, kept

MODEL_CHOICE = "model_choice"
OUTCOMES = "measured_outcomes"
OTHER_TEXT = "another text of the same turn"
# Evidence that says nothing still says that the turn happened.
_MIN_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of `schema.SAMPLES` before anything was chosen.

    Attributes:
        values: The sample's columns.
        order_key: Hex digest of seed and row: a repeatable random order.
        text_key: Hex sha256 of what the encoder reads: equal for exact duplicates.
        group: Its conversation; or, of a measured prompt, the prompts nearly alike.
        cell: What it is balanced over; no bucket and no position where the architecture takes all
            first turns alike.
    """

    values: dict[str, Any]
    order_key: str
    text_key: str
    group: str
    cell: Cell


def from_turns(
    rows: Iterable[Mapping[str, Any]], formatter: Formatter, dropped: Counter[str]
) -> list[Candidate]:
    """A candidate for every drawn turn whose need is told, in order of their order keys.

    Cancelled and failed turns stay in: the user's need was real. Context comes from the previous
    captured turns, as a server would have seen them.

    Args:
        rows: What `drawing.Log.drawn` yields.
        formatter: How a turn is shown.
        dropped: Reason → rows, added to.
    """
    found: list[Candidate] = []
    for _, conversation in groupby(rows, key=itemgetter("conversation_id")):
        # Newest last, and no more than is kept: a conversation may have 100,000 turns.
        before: deque[Turn] = deque(maxlen=MAX_KEPT_TURNS)
        for _, copies in groupby(conversation, key=itemgetter("turn_index")):
            row = _longest(copies, dropped)
            if row["order_key"] is not None:
                found += _of_turn(row, before, formatter, dropped)
            before.append(kept(Turn(row["message"] or "", row["answer"])))
    return sorted(found, key=lambda candidate: candidate.order_key)


def _longest(copies: Iterable[Mapping[str, Any]], dropped: Counter[str]) -> Mapping[str, Any]:
    """The longest text of a turn that the log holds more than once; ties go by content alone."""
    first, *more = copies
    if not more:
        return first
    if first["order_key"] is not None:
        dropped[OTHER_TEXT] += len(more)
    content = ("message", "answer", "model", "user_id", "model_class")
    return max(
        (first, *more),
        key=lambda row: (len(row["message"] or ""), [row[name] or "" for name in content]),
    )


def _of_turn(
    row: Mapping[str, Any],
    before: Sequence[Turn],
    formatter: Formatter,
    dropped: Counter[str],
) -> Iterator[Candidate]:
    if row["label"] is None:
        dropped[UNKNOWN if row["named"] else UNNAMED] += 1
        return
    count = row["turn_count"]
    values = {name: row[name] for name in ("conversation_id", "turn_count", "model", "user_id")}
    values |= {
        "stratum": next(name for least, name in STRATA if count >= least),
        "position": position_of(row["turn_index"], row["last_index"]),
        "label": row["label"],
        "group": None,
    } | _told(row)
    if formatter.architecture == "conversation":
        values["previous"] = [asdict(turn) for turn in reversed(before)]
    turns = [*before, Turn(row["message"] or "")]
    yield _candidate(formatter, turns, row["turn_index"], row["order_key"], values)


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's label rests on: all evidence, or the class of the model that served it."""
    if "p_reasoning" not in row:
        return {
            "target": 1.0 if row["label"] == LABEL_REASONING else 0.0,
            "evidence": [MODEL_CHOICE],
            "weight": 1.0,
        }
    return {
        "target": row["p_reasoning"],
        "evidence": row["evidence"],
        "weight": max(_MIN_WEIGHT, row["confidence"]),
    }


def from_outcomes(
    prompts: Path, formatter: Formatter, columns: Mapping[str, str], margin: float, seed: int
) -> list[Candidate]:
    """A candidate for every prompt on which both classes were scored.

    The target is the gap (reasoning_score − fast_score), moved to [0, 1]. The label is 0 where
    the gap reaches `margin`, 1 where a fast model does as well and is right at least half of the
    time, and null where neither was shown.

    Args:
        prompts: Parquet with `prompt`, `reasoning_score`, `fast_score`, and optionally `group`.
        formatter: The session one: a prompt has no context.
        columns: Field → the file's own column name, where they differ.
        margin: In (0, 1].
        seed: Decides the order.

    Raises:
        RecordError: If a column is missing, or a score is not a number in [0, 1].
    """
    names = {f: columns.get(f, f) for f in ("prompt", "reasoning_score", "fast_score", "group")}
    found = parquet_schema(prompts).names
    missing = [
        names[f] for f in ("prompt", "reasoning_score", "fast_score") if names[f] not in found
    ]
    if missing:
        raise RecordError(
            f"{prompts}: no column {', '.join(missing)}; found {', '.join(found)}. Name it with "
            "--map prompt=COLUMN (or reasoning_score=, fast_score=, group=)."
        )
    present = {field: name for field, name in names.items() if name in found}
    backend = connect()
    table = backend.to_pyarrow(read_table(backend, prompts).select(*present.values()))
    candidates = []
    for number, row in enumerate(_rows(table), start=1):
        values = {field: row[name] for field, name in present.items()}
        for field in ("reasoning_score", "fast_score"):
            _require_score(prompts, number, names[field], values[field])
        candidates.append(_of_prompt(values, formatter, margin, seed))
    return candidates


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def _of_prompt(
    values: Mapping[str, Any], formatter: Formatter, margin: float, seed: int
) -> Candidate:
    prompt, fast = values["prompt"] or "", values["fast_score"]
    gap = values["reasoning_score"] - fast
    label = None
    if gap >= margin:
        label = LABEL_REASONING
    elif fast >= 0.5:
        label = LABEL_FAST
    group = values.get("group")
    prompt_id = _hexdigest(prompt)[:16]
    return _candidate(
        formatter,
        [Turn(prompt)],
        1,
        _hexdigest(f"{seed}|{prompt_id}|1"),
        {
            "conversation_id": prompt_id,
            "turn_count": 1,
            "stratum": str(group) if group is not None else "all",
            "label": label,
            "target": (gap + 1) / 2,
            "evidence": [OUTCOMES],
            "weight": 1.0,
            "position": None,
            "user_id": None,
            "model": None,
            "group": str(group) if group is not None else None,
        },
    )


def _candidate(
    formatter: Formatter, turns: list[Turn], index: int, order_key: str, values: dict[str, Any]
) -> Candidate:
    shown = formatter.format(turns, index)
    unless_told: dict[str, Any] = {"previous": []}
    values = unless_told | values
    values |= {
        "sample_id": _hexdigest(f"{values['conversation_id']}|{index}")[:16],
        "turn_index": index,
        "message": shown.message,
        "context": shown.context,
    }
    text_key = _hexdigest(f"{' '.join(shown.message.split())}\0{shown.context}")
    cell = Cell(values["label"], "", "")
    if formatter.architecture == "conversation":
        cell = Cell(values["label"], values["stratum"], values["position"])
    return Candidate(values, order_key, text_key, values["conversation_id"], cell)


def _require_score(path: Path, number: int, column: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN fails both comparisons
        raise RecordError(
            f"{path}: row {number}: {column} is {value!r}; expected a number in [0, 1]. Mend the "
            "row, or leave it out."
        )


def _hexdigest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
