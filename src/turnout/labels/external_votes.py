"""Files from outside the log → votes: people's labels, a judge's answers, measured outcomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.errors import RecordError
from turnout.protocols import read_conversation
from turnout.records import LABEL_REASONING, Turn
from turnout.schema import TURN_KEYS, stored_text
from turnout.tables import Row, Table, read_whole_table

# A smaller gap is noise; as in `turnout build --outcomes`.
_MARGIN = 0.1
# A fast model suffices where it scores at least this.
_SUFFICES = 0.5
# A judge's need of 1 to 5 → the source and its vote.
_NEEDS = {
    1: ("judge", -1),
    2: ("judge_leaning", -1),
    3: ("judge", 0),
    4: ("judge_leaning", 1),
    5: ("judge", 1),
}


@dataclass(frozen=True, slots=True)
class ExternalVotes:
    """Votes from one file.

    Attributes:
        path: The file.
        keys: The columns of the turns table that say which turns a row is about.
        codes: The sources of its votes.
        votes: The key columns, and a column of −1, 0 or +1 for each code; one row a key.
        rows: Rows of the file.
        unused: Rows without a vote: no label yet, no usable answer.
        annotators: How many people labelled; 0 where the file does not name them.
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


def human_labels(path: Path) -> ExternalVotes:
    """People's labels of turns: the majority of each turn is one vote, a tie none.

    Args:
        path: Parquet, CSV or JSON Lines with `conversation_id`, `turn_index`, `label` (0 or
            reasoning, 1 or fast; empty where not labelled yet) and optionally `annotator`. The last
            label of one annotator for one turn counts.

    Raises:
        RecordError: If the file cannot be read, or a label is none of these.
    """
    by_turn: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    people: set[str] = set()
    unused = 0
    table = _read(path, (*TURN_KEYS, "label"), ("annotator",))
    for row in table:
        label = row.label()
        if label is None:
            unused += 1
            continue
        annotator = row.identity("annotator")
        people |= {annotator} if annotator else set()
        # Without names, every row counts as another person.
        by_turn[row.turn()][annotator or row.where] = 1 if label == LABEL_REASONING else -1
    pairs = [a == b for labels in by_turn.values() for a, b in combinations(labels.values(), 2)]
    agreement = sum(pairs) / len(pairs) if pairs else None
    majority = {key: {"human": _sign(sum(by.values()))} for key, by in by_turn.items()}
    votes = _vote_table(TURN_KEYS, ("human",), majority)
    return ExternalVotes(
        path, TURN_KEYS, ("human",), votes, len(table), unused, len(people), agreement
    )


def measured_outcomes(path: Path) -> ExternalVotes:
    """Scores of models of both classes on turns or prompts; rows about the same turn are averaged.

    The vote is for reasoning where reasoning models scored better by a margin, for fast where a
    fast model did as well and suffices. There is none where neither did well. As in `turnout build
    --outcomes`, a column `label` decides in place of the scores.

    Args:
        path: Parquet, CSV or JSON Lines with `reasoning_score` and `fast_score` in [0, 1],
            optionally `label` (0 or reasoning, 1 or fast, empty where neither was shown), and
            either `conversation_id` and `turn_index`, or `prompt` (a user message, to the letter),
            or `messages` (a conversation up to the turn, as a list or its JSON text). Messages
            beside `conversation_id` say the turn index by their number of turns; alone they are
            about the turns with that user message, to the letter, and that turn index.

    Raises:
        RecordError: If the file cannot be read, a score is not a number in [0, 1], or a row does
            not say which turn it is about.
    """
    scores: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    labels: dict[tuple[Any, ...], list[int | None]] = defaultdict(list)
    optional = (*TURN_KEYS, "prompt", "messages", "label")
    table = _read(path, ("reasoning_score", "fast_score"), optional)
    keys, key_of = _outcome_keys(table)
    is_labelled = "label" in table.names
    for row in table:
        pair = (_score(row, "reasoning_score"), _score(row, "fast_score"))
        scores[key_of(row)].append(pair)
        if is_labelled:
            labels[key_of(row)].append(row.label())
    votes = {
        key: {"outcome": _majority(labels[key]) if is_labelled else _vote_of(pairs)}
        for key, pairs in scores.items()
    }
    return ExternalVotes(
        path, keys, ("outcome",), _vote_table(keys, ("outcome",), votes), len(table)
    )


def judged_needs(path: Path) -> ExternalVotes:
    """A judge model's answers, as `turnout judge` wrote them; those without a need give no vote.

    Raises:
        RecordError: If the file cannot be read or is another table.
    """
    codes = ("judge", "judge_leaning")
    votes: dict[tuple[str, int], dict[str, int]] = {}
    unused = 0
    table = _read(path, (*TURN_KEYS, "need"))
    for row in table:
        if row.values["need"] is None:
            unused += 1
            continue
        need = row.integer("need")
        if need not in _NEEDS:
            raise row.refused("need", "a whole number from 1 to 5, or nothing")
        code, vote = _NEEDS[need]
        turn = row.turn()
        if turn in votes:
            raise row.refused("turn_index", "one answer a turn, and an earlier row has this turn")
        votes[turn] = dict.fromkeys(codes, 0) | {code: vote}
    return ExternalVotes(
        path, TURN_KEYS, codes, _vote_table(TURN_KEYS, codes, votes), len(table), unused
    )


def _majority(labels: Sequence[int | None]) -> int:
    """+1 where more labels are reasoning, −1 where more are fast, else 0."""
    known = [label for label in labels if label is not None]
    lead = sum(1 if label == LABEL_REASONING else -1 for label in known)
    return (lead > 0) - (lead < 0)


def _vote_of(pairs: list[tuple[float, float]]) -> int:
    reasoning, fast = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    if reasoning - fast >= _MARGIN:
        return 1
    return -1 if fast >= _SUFFICES else 0


def _read(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    remedy = "See docs/labels.md for what the file holds."
    return read_whole_table(path, required, optional, remedy=remedy)


def _outcome_keys(table: Table) -> tuple[tuple[str, ...], Callable[[Row], tuple[Any, ...]]]:
    """The columns of the turns table that rows are matched by, and how to read them from a row."""
    if "conversation_id" in table.names:
        by_place = "turn_index" not in table.names and "messages" in table.names
        return TURN_KEYS, _turn_of_messages if by_place else Row.turn
    if "messages" in table.names and "prompt" not in table.names:
        return ("user_message", "turn_index"), _last_message
    return ("user_message",), _prompt


def _turn_of_messages(row: Row) -> tuple[str, int]:
    index = len(_conversation(row))
    return Row(row.where, {**row.values, "turn_index": index}).turn()


def _last_message(row: Row) -> tuple[str, int]:
    turns = _conversation(row)
    return stored_text(turns[-1].user_message), len(turns)


def _conversation(row: Row) -> tuple[Turn, ...]:
    try:
        return read_conversation(row.values["messages"])
    except RecordError as error:
        raise RecordError(f"{row.where}: messages: {error} Fix the row.") from error


def _prompt(row: Row) -> tuple[str]:
    prompt = row.identity("prompt")
    if prompt is None:
        raise row.refused(
            "prompt",
            "a user message, or the columns conversation_id and turn_index, or messages, instead",
        )
    return (prompt,)


def _score(row: Row, name: str) -> float:
    score = row.number(name)
    if score is None or not 0 <= score <= 1:
        raise row.refused(name, "a number in [0, 1]")
    return score


def _vote_table(
    keys: tuple[str, ...], codes: tuple[str, ...], votes: Mapping[tuple[Any, ...], dict[str, int]]
) -> pa.Table:
    types = {"turn_index": pa.int32()}
    columns = {
        name: pa.array([key[place] for key in votes], types.get(name, pa.string()))
        for place, name in enumerate(keys)
    }
    for code in codes:
        columns[code] = pa.array([vote[code] for vote in votes.values()], pa.int8())
    return pa.table(columns)


def _sign(total: int) -> int:
    return (total > 0) - (total < 0)
