"""Prompts or turns with measured outcomes → candidate rows.

A row has the scores of both model classes, or a target of its own, or both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from turnout.dataset.candidates import Candidate, candidate, hexdigest
from turnout.dataset.cells import Cell, position_of
from turnout.dataset.drawing import NOT_FIRST
from turnout.errors import RecordError, SettingsError
from turnout.protocols import read_conversation
from turnout.records import LABEL_FAST, LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS, stored_turn
from turnout.schema import stored_text
from turnout.tables import Row, Table, read_whole_table, require_columns, without_fraction

OUTCOMES = "measured_outcomes"
STATED = "stated_target"
_SCORES = ("reasoning_score", "fast_score")
_NAMES = ("conversation_id", "group", "cv_group")
FIELDS = ("prompt", "messages", *_SCORES, "label", "target", "weight", *_NAMES)
# With a greater weight, all other rows would count nothing.
MAX_WEIGHT = 1_000_000
_REMEDY = f"Name it with --map FIELD=COLUMN; fields are {', '.join(FIELDS)}."


class Outcomes(NamedTuple):
    """A table of measured outcomes.

    Attributes:
        table: Its rows.
        columns: Field → its column, of the fields that the table has.
    """

    table: Table
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A row of the table: the measured turn and its values.

    Attributes:
        place: Its 0-based row.
        turns: Oldest first, the measured one last.
        conversation_id: From the file; else the same for all rows with the same first message.
        values: Field → value, for the fields that it has.
    """

    place: int
    turns: tuple[Turn, ...]
    conversation_id: str
    values: Mapping[str, Any]


def read_outcomes(prompts: Path, columns: Mapping[str, str]) -> Outcomes:
    """The rows of a file.

    Args:
        prompts: Parquet, CSV or JSON Lines.
        columns: Field → the file's own column name, where they differ.

    Raises:
        RecordError: If the file cannot be read completely, or a required column is missing.
        SettingsError: If a key of `columns` is not a field.
    """
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise SettingsError(
            f"--map: found {', '.join(unknown)}; expected one of {', '.join(FIELDS)}."
        )
    names = {field: columns.get(field, field) for field in FIELDS}
    table = read_whole_table(prompts, list(columns.values()), list(names.values()), remedy=_REMEDY)
    return outcomes_in(table, names, _REMEDY)


def outcomes_in(table: Table, names: Mapping[str, str], remedy: str) -> Outcomes:
    """Check that a table has texts, and scores or targets.

    Args:
        table: The table.
        names: Field → the name of its column, if there is one.
        remedy: What to do where a column is missing.

    Raises:
        RecordError: If a required column is missing.
    """
    present = {field: name for field, name in names.items() if name in table.names}
    if "messages" not in present:
        require_columns(table, [names["prompt"]], remedy)
    if "target" not in present:
        require_columns(table, [names[field] for field in _SCORES], remedy)
    return Outcomes(table, present)


def from_outcomes(
    outcomes: Outcomes,
    formatter: Formatter,
    margin: float,
    seed: int,
    dropped: Counter[str],
) -> list[Candidate]:
    """A candidate for every row that the architecture uses.

    The target is the row's own, else the gap (reasoning_score − fast_score), moved to [0, 1]. The
    label is the file's own. Else it is 0 where the gap reaches `margin`, 1 where a fast model does
    as well and is right at least half of the time, and null otherwise.

    Args:
        outcomes: The rows.
        formatter: Its architecture decides which turns are used: the first, or all.
        margin: In (0, 1].
        seed: Decides the order.
        dropped: Reason → rows, added to.

    Raises:
        RecordError: If a row has neither scores nor target, a number is out of its range, or
            messages are malformed.
    """
    measured = [_outcome(place, row, outcomes.columns) for place, row in enumerate(outcomes.table)]
    last_index: dict[str, int] = {}
    for outcome in measured:
        name = outcome.conversation_id
        last_index[name] = max(len(outcome.turns), last_index.get(name, 1))
    rows = []
    for outcome in measured:
        if formatter.architecture == "session" and len(outcome.turns) > 1:
            dropped[NOT_FIRST] += 1
        else:
            last = last_index[outcome.conversation_id]
            rows.append(_candidate(outcome, last, formatter, margin, seed))
    return rows


def _outcome(place: int, row: Row, present: Mapping[str, str]) -> _Outcome:
    """A row of the table, with every value checked."""
    cells = {field: row.values[name] for field, name in present.items()}
    scored = any(cells.get(field) is not None for field in _SCORES)
    stated = cells.get("target") is not None
    needed = [*(_SCORES if scored or not stated else ()), *(("target",) if stated else ())]
    limits = dict.fromkeys(needed, 1) | ({"weight": MAX_WEIGHT} if "weight" in cells else {})
    values: dict[str, Any] = {}
    for field in _NAMES:
        value = without_fraction(cells.get(field))
        values[field] = None if value is None else stored_text(str(value))
    for field, most in limits.items():
        number = row.number(present.get(field, field))
        # NaN fails both comparisons.
        if number is None or not 0 <= number <= most:
            raise row.refused(present.get(field, field), f"a number in [0, {most:,}]")
        values[field] = number
    if "label" in cells:
        values["label"] = row.label(present["label"])
    if cells.get("messages") is not None:
        turns = _turns(row, present["messages"])
    else:
        turns = (Turn((row.identity(present["prompt"]) if "prompt" in present else "") or ""),)
    first = hexdigest(turns[0].user_message)[:16]
    return _Outcome(place, turns, values["conversation_id"] or first, values)


def _turns(row: Row, name: str) -> tuple[Turn, ...]:
    """The turns of a conversation up to the one that was measured."""
    try:
        turns = read_conversation(row.values[name])
    except RecordError as error:
        raise RecordError(f"{row.where}: {name}: {error} Fix the row.") from error
    return tuple(
        Turn(stored_text(t.user_message), t.assistant_message and stored_text(t.assistant_message))
        for t in turns
    )


def _candidate(
    outcome: _Outcome, last_index: int, formatter: Formatter, margin: float, seed: int
) -> Candidate:
    turns, values = outcome.turns, outcome.values
    label, target, evidence = _supervision(values, margin)
    index = len(turns)
    before = [stored_turn(turn) for turn in turns[:-1]][-MAX_STORED_TURNS:]
    texts = [text for t in turns[:-1] for text in (t.user_message, t.assistant_message or "")]
    name = hexdigest("\0".join([*texts, turns[-1].user_message]))[:16]
    columns = {
        "place": outcome.place,
        "sample_id": hexdigest(f"{name}|{index}")[:16],
        "conversation_id": outcome.conversation_id,
        "turn_count": last_index,
        "stratum": "all" if values["group"] is None else values["group"],
        "label": label,
        "target": target,
        "evidence": evidence,
        "weight": values.get("weight", 1.0),
        "position": position_of(index, last_index) if last_index > 1 else None,
        "user_id": None,
        "model": None,
        "group": values["group"],
        "cv_group": values["cv_group"],
        "previous": [(t.user_message, t.assistant_message) for t in reversed(before)],
    }
    order_key = hexdigest(f"{seed}|{name}|{index}")
    cell = Cell(label, "", "")
    return candidate(formatter, [*before, turns[-1]], index, order_key, columns, cell)


def _supervision(values: Mapping[str, Any], margin: float) -> tuple[int | None, float, list[str]]:
    """Label, target and evidence of a row."""
    label, target, fast = None, values.get("target"), values.get("fast_score")
    evidence = []
    if fast is not None:
        gap = values["reasoning_score"] - fast
        evidence.append(OUTCOMES)
        if gap >= margin:
            label = LABEL_REASONING
        elif fast >= 0.5:
            label = LABEL_FAST
        if target is None:
            return values.get("label", label), (gap + 1) / 2, evidence
    return values.get("label", label), target or 0.0, [*evidence, STATED]
