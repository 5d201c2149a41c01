"""Rows that could be samples: labelled and shown as the encoder will see them; knows no split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.engine import (
    connect,
    parquet_schema,
    read_table,
    read_turns,
    with_model_facts,
)
from turnout.errors import RecordError
from turnout.records import LABEL_FAST, LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_KEPT_TURNS, kept
from turnout.schema import LABELS

MODEL_CHOICE = "model_choice"
OUTCOMES = "measured_outcomes"
# Turn-count buckets: least count of each.
_STRATA = ((21, "21+"), (11, "11–20"), (6, "6–10"), (3, "3–5"), (1, "1–2"))
# Evidence that says nothing still says that the turn happened.
_MIN_WEIGHT = 0.05
_Weighed: TypeAlias = dict[tuple[str, int], dict[str, Any]]
_COLUMNS = ("conversation_id", "turn_index", "user_message", "assistant_message", "model")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of `schema.SAMPLES` before anything was chosen.

    Attributes:
        values: The sample's columns.
        order_key: Hex sha256 of seed and row: a repeatable random order.
        text_key: Hex sha256 of what the encoder reads: equal for exact duplicates.
        group: Rows of one group fall into one split: its conversation, or prompts nearly alike.
    """

    values: dict[str, Any]
    order_key: str
    text_key: str
    group: str


def from_turns(
    turns: Path,
    formatter: Formatter,
    catalog: Catalog,
    seed: int,
    dropped: Counter[str],
    labels: Path | None = None,
) -> list[Candidate]:
    """A candidate for every turn that the architecture learns from and whose need is told.

    Cancelled and failed turns stay in: the user's need was real. Context comes from the previous
    captured turns, as a server would have seen them.

    Args:
        turns: A turns table.
        formatter: Its architecture says which turns count: the first, or all.
        catalog: Model names to classes.
        seed: Decides the order.
        dropped: Reason → rows, added to.
        labels: What `turnout label` wrote; without it the class of the model that served a turn is
            its label.

    Raises:
        RecordError: If a file is not what it should be.
    """
    backend = connect()
    facts = with_model_facts(read_turns(backend, turns), backend, catalog)
    ordered = facts.select(*_COLUMNS, "named", "model_class").order_by(
        "conversation_id", "turn_index"
    )
    rows = _rows(backend.to_pyarrow(ordered))
    weighed = _weighed(labels) if labels else None
    found: list[Candidate] = []
    for _, group in groupby(rows, key=lambda row: row["conversation_id"]):
        found += _of_conversation(list(group), formatter, seed, dropped, weighed)
    return found


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


def _of_conversation(
    rows: list[dict[str, Any]],
    formatter: Formatter,
    seed: int,
    dropped: Counter[str],
    weighed: _Weighed | None,
) -> Iterator[Candidate]:
    turns = [kept(Turn(row["user_message"], row["assistant_message"])) for row in rows]
    stored = [asdict(turn) for turn in turns]
    for position, row in enumerate(rows):
        index = row["turn_index"]
        if formatter.architecture == "session" and index != 1:
            continue
        told = _by_model(row) if weighed is None else weighed.get((row["conversation_id"], index))
        if told is None:
            dropped[_why_untold(row, weighed)] += 1
            continue
        values = {
            "conversation_id": row["conversation_id"],
            "turn_count": len(rows),
            "stratum": next(name for least, name in _STRATA if len(rows) >= least),
            "model": row["model"],
            "group": None,
        }
        # No more than is kept: a conversation may have 100,000 turns.
        before = slice(max(0, position - MAX_KEPT_TURNS), position)
        previous = stored[before][::-1] if formatter.architecture == "conversation" else []
        shown = [*turns[before], Turn(row["user_message"])]
        yield _candidate(formatter, shown, index, seed, values | told | {"previous": previous})


def _by_model(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The label that the class of the turn's model gives; None where the class is not known."""
    if row["model_class"] is None:
        return None
    reasoning = row["model_class"] == "reasoning"
    return {
        "label": LABEL_REASONING if reasoning else LABEL_FAST,
        "target": 1.0 if reasoning else 0.0,
        "evidence": [MODEL_CHOICE],
    }


def _why_untold(row: Mapping[str, Any], weighed: _Weighed | None) -> str:
    if weighed is not None:
        return "no evidence in the labels"
    return "model not in the catalogue" if row["named"] else "names no model"


def _weighed(path: Path) -> _Weighed:
    """What `turnout label` says of every turn."""
    found = parquet_schema(path).names
    if missing := [name for name in LABELS.names if name not in found]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; expected what `turnout label` writes. "
            "Check --labels."
        )
    table = pq.read_table(path, columns=LABELS.names).cast(LABELS)
    return {
        (row["conversation_id"], row["turn_index"]): {
            "label": LABEL_REASONING if row["p_reasoning"] >= 0.5 else LABEL_FAST,
            "target": row["p_reasoning"],
            "weight": max(_MIN_WEIGHT, row["confidence"]),
            "evidence": row["evidence"],
        }
        for row in _rows(table)
    }


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
    return _candidate(
        formatter,
        [Turn(prompt)],
        1,
        seed,
        {
            "conversation_id": _hexdigest(prompt)[:16],
            "turn_count": 1,
            "stratum": str(group) if group is not None else "all",
            "label": label,
            "target": (gap + 1) / 2,
            "evidence": [OUTCOMES],
            "model": None,
            "group": str(group) if group is not None else None,
        },
    )


def _candidate(
    formatter: Formatter, turns: list[Turn], index: int, seed: int, values: dict[str, Any]
) -> Candidate:
    shown = formatter.format(turns, index)
    place = f"{values['conversation_id']}|{index}"
    unless_told: dict[str, Any] = {"weight": 1.0, "previous": []}
    values = unless_told | values
    values |= {
        "sample_id": _hexdigest(place)[:16],
        "turn_index": index,
        "message": shown.message,
        "context": shown.context,
    }
    text_key = _hexdigest(f"{' '.join(shown.message.split())}\0{shown.context}")
    order_key = _hexdigest(f"{seed}|{place}")
    return Candidate(values, order_key, text_key, values["conversation_id"])


def _require_score(path: Path, number: int, column: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN fails both comparisons
        raise RecordError(
            f"{path}: row {number}: {column} is {value!r}; expected a number in [0, 1]. Mend the "
            "row, or leave it out."
        )


def _hexdigest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
