"""Judgements from outside the log → votes a turn: people's labels, a judge's, measured outcomes.

Knows no log: who joins them to turns finds out what matches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from turnout.errors import RecordError

_BY_TURN = ("conversation_id", "turn_index")
_LABELS = {"0": 1, "reasoning": 1, "1": -1, "fast": -1}
# A gap below this is noise: as `turnout build --outcomes` has it.
_MARGIN = 0.1
# A fast model that is right less often than this does not suffice.
_SUFFICES = 0.5
# What a judge's need of 1 to 5 votes, and as which source.
_NEEDS = {1: ("judge", -1), 2: ("judge_leaning", -1), 4: ("judge_leaning", 1), 5: ("judge", 1)}


@dataclass(frozen=True, slots=True)
class Given:
    """Votes from one file.

    Attributes:
        path: The file.
        keys: The columns of the turns table that say which turns a row is about.
        codes: The sources it holds votes of.
        votes: The keys and a column of −1, 0 or +1 for each code; one row a key.
        rows: Rows of the file.
        unused: Rows that say nothing: no label yet, an answer that is none.
        annotators: People behind it; 0 where the file does not tell.
        annotator_agreement: Share of pairs of people on one turn that agree; None without pairs.
    """

    path: Path
    keys: tuple[str, ...]
    codes: tuple[str, ...]
    votes: pa.Table
    rows: int
    unused: int = 0
    annotators: int = 0
    annotator_agreement: float | None = None


def human_labels(path: Path) -> Given:
    """What people said of turns; the majority of them votes, and a tie says nothing.

    Args:
        path: Parquet, CSV or JSON Lines with `conversation_id`, `turn_index`, `label` (0 or
            reasoning, 1 or fast; empty where not labelled yet) and optionally `annotator`. Of one
            annotator's labels of one turn the last counts.

    Raises:
        RecordError: If the file cannot be read, or a label is none of these.
    """
    said: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    people, rows, unused = set(), 0, 0
    for number, row in _rows(path, (*_BY_TURN, "label")):
        rows += 1
        label = row["label"]
        if label is None or not str(label).strip():
            unused += 1
            continue
        vote = _LABELS.get(str(label).strip().lower().removesuffix(".0"))
        if vote is None:
            raise RecordError(
                f"{path}: row {number}: label is {label!r}; expected 0 or reasoning, 1 or fast, or "
                "nothing where it is not known yet."
            )
        annotator = row.get("annotator")
        people |= {annotator} - {None}
        # Without names every row is somebody else's.
        said[_turn(path, number, row)][str(annotator or f"row {number}")] = vote
    pairs = [a == b for votes in said.values() for a, b in combinations(votes.values(), 2)]
    votes = {key: {"human": _sign(sum(by.values()))} for key, by in said.items()}
    agreement = sum(pairs) / len(pairs) if pairs else None
    table = _table(_BY_TURN, ("human",), votes)
    return Given(path, _BY_TURN, ("human",), table, rows, unused, len(people), agreement)


def measured_outcomes(path: Path) -> Given:
    """What models of both classes scored on turns or prompts; rows about the same are averaged.

    It votes for reasoning where that scored better by a margin, for fast where a fast model did as
    well and suffices, and says nothing where neither did well.

    Args:
        path: Parquet, CSV or JSON Lines with `reasoning_score` and `fast_score` in [0, 1], and
            either `conversation_id` and `turn_index`, or `prompt` (a user message, to the letter).

    Raises:
        RecordError: If the file cannot be read, or a score is no number in [0, 1].
    """
    scores: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    rows, by_turn = 0, True
    for number, row in _rows(path, ("reasoning_score", "fast_score")):
        rows += 1
        by_turn = "conversation_id" in row
        pair = (
            _score(path, number, row, "reasoning_score"),
            _score(path, number, row, "fast_score"),
        )
        scores[_turn(path, number, row) if by_turn else _prompt(path, number, row)].append(pair)
    votes = {key: {"outcome": _of_scores(pairs)} for key, pairs in scores.items()}
    keys = _BY_TURN if by_turn else ("user_message",)
    return Given(path, keys, ("outcome",), _table(keys, ("outcome",), votes), rows)


def judged(path: Path) -> Given:
    """What `turnout judge` wrote; answers that are none say nothing.

    Raises:
        RecordError: If the file cannot be read or is another table.
    """
    codes = ("judge", "judge_leaning")
    votes: dict[tuple[str, int], dict[str, int]] = {}
    rows = unused = 0
    for number, row in _rows(path, (*_BY_TURN, "need")):
        rows += 1
        if row["need"] is None:
            unused += 1
            continue
        code, vote = _NEEDS.get(row["need"], ("judge", 0))
        votes[_turn(path, number, row)] = dict.fromkeys(codes, 0) | {code: vote}
    return Given(path, _BY_TURN, codes, _table(_BY_TURN, codes, votes), rows, unused)


def _of_scores(pairs: list[tuple[float, float]]) -> int:
    reasoning, fast = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    if reasoning - fast >= _MARGIN:
        return 1
    return -1 if fast >= _SUFFICES else 0


def _rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their 1-based number."""
    table = _read(path)
    if missing := [name for name in required if name not in table.column_names]:
        raise RecordError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(table.column_names)}. "
            "See docs/labels.md for what the file holds."
        )
    number = 0
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _read(path: Path) -> pa.Table:
    readers = {".csv": _read_csv, ".jsonl": pyarrow.json.read_json}
    if not path.is_file():
        raise RecordError(f"{path}: not found; expected a table of judgements. Check the path.")
    try:
        return readers.get(path.suffix.lower(), pq.read_table)(path)
    except (OSError, pa.ArrowException) as error:
        raise RecordError(
            f"{path}: not readable ({str(error).splitlines()[0]}); expected whole Parquet, or CSV "
            "or JSON Lines named .csv or .jsonl."
        ) from error


def _read_csv(path: Path) -> pa.Table:
    # An id of digits stays as it is written: "007" is not 7.
    texts = dict.fromkeys(("conversation_id", "label", "annotator", "prompt"), pa.string())
    options = pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=True)
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, parse_options=lines, convert_options=options)


def _turn(path: Path, number: int, row: Mapping[str, Any]) -> tuple[str, int]:
    conversation, index = row["conversation_id"], str(row.get("turn_index")).removesuffix(".0")
    if conversation is None or not index.isdecimal():
        raise RecordError(
            f"{path}: row {number}: conversation_id is {conversation!r} and turn_index {index!r}; "
            "expected an id and a whole number from 1."
        )
    return str(conversation), int(index)


def _prompt(path: Path, number: int, row: Mapping[str, Any]) -> tuple[str]:
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise RecordError(
            f"{path}: row {number}: prompt is {prompt!r}; expected a user message, or the columns "
            "conversation_id and turn_index instead."
        )
    return (prompt,)


def _score(path: Path, number: int, row: Mapping[str, Any], name: str) -> float:
    value = row[name]
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    raise RecordError(f"{path}: row {number}: {name} is {value!r}; expected a number in [0, 1].")


def _table(
    keys: tuple[str, ...], codes: tuple[str, ...], votes: Mapping[tuple[Any, ...], dict[str, int]]
) -> pa.Table:
    types = {"turn_index": pa.int32()}
    columns = {
        name: pa.array([key[place] for key in votes], types.get(name, pa.string()))
        for place, name in enumerate(keys)
    }
    cast = {code: pa.array([vote[code] for vote in votes.values()], pa.int8()) for code in codes}
    return pa.table(columns | cast)


def _sign(total: int) -> int:
    return (total > 0) - (total < 0)
