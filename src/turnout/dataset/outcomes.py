"""Prompts whose outcomes were measured → candidate rows.

A row has the scores of both model classes, or a target of its own where something else than such
scores tells its need, or both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.dataset.candidates import Candidate, candidate, hexdigest
from turnout.errors import SettingsError
from turnout.records import LABEL_FAST, LABEL_REASONING, Turn
from turnout.routing import Formatter
from turnout.schema import stored_text
from turnout.tables import Row, Table, read_whole_table, require_columns

OUTCOMES = "measured_outcomes"
STATED = "stated_target"
_SCORES = ("reasoning_score", "fast_score")
_FIELDS = ("prompt", *_SCORES, "group", "target", "weight")
# A weight beyond it makes every other row of no weight.
MAX_WEIGHT = 1_000_000
_REMEDY = (
    "Name it with --map prompt=COLUMN (or reasoning_score=, fast_score=, group=, target=, weight=)."
)


def read_outcomes(prompts: Path, columns: Mapping[str, str]) -> tuple[Table, dict[str, str]]:
    """The file's rows, and field → its column for the fields that it has.

    Raises:
        RecordError: If the file cannot be read whole or a column that is needed is missing.
        SettingsError: If `columns` names no field.
    """
    if unknown := sorted(set(columns) - set(_FIELDS)):
        raise SettingsError(
            f"--map: found {', '.join(unknown)}; expected one of {', '.join(_FIELDS)}."
        )
    names = {field: columns.get(field, field) for field in _FIELDS}
    table = read_whole_table(prompts, [names["prompt"]], list(names.values()), remedy=_REMEDY)
    present = {field: name for field, name in names.items() if name in table.names}
    if "target" not in present:
        require_columns(table, [names[field] for field in _SCORES], _REMEDY)
    return table, present


def from_outcomes(
    table: Table, present: Mapping[str, str], formatter: Formatter, margin: float, seed: int
) -> list[Candidate]:
    """A candidate for every prompt.

    The target is the gap (reasoning_score − fast_score), moved to [0, 1], where the row states
    none. The label is 0 where the gap reaches `margin`, 1 where a fast model does as well and is
    right at least half of the time, and null where neither was shown or nothing was scored.

    Args:
        table: What `read_outcomes` gave.
        present: The same.
        formatter: The session one: a prompt has no context.
        margin: In (0, 1].
        seed: Decides the order.

    Raises:
        RecordError: If a row has neither scores nor target, or a number is out of its range.
    """
    return [_of_prompt(_values(row, present), formatter, margin, seed) for row in table]


def _values(row: Row, present: Mapping[str, str]) -> dict[str, Any]:
    """Field → value, each of its kind and in its range."""
    cells = {field: row.values[name] for field, name in present.items()}
    scored = any(cells.get(field) is not None for field in _SCORES)
    stated = cells.get("target") is not None
    needed = [*(_SCORES if scored or not stated else ()), *(("target",) if stated else ())]
    limits = dict.fromkeys(needed, 1) | ({"weight": MAX_WEIGHT} if "weight" in cells else {})
    group = cells.get("group")
    values: dict[str, Any] = {
        "prompt": row.identity(present["prompt"]) or "",
        "group": None if group is None else stored_text(str(group)),
    }
    for field, most in limits.items():
        value = row.number(present.get(field, field))
        # NaN fails both comparisons.
        if value is None or not 0 <= value <= most:
            raise row.refused(present.get(field, field), f"a number in [0, {most:,}]")
        values[field] = value
    return values


def _of_prompt(
    values: Mapping[str, Any], formatter: Formatter, margin: float, seed: int
) -> Candidate:
    prompt, group, fast = values["prompt"], values["group"], values.get("fast_score")
    label, target, evidence = None, values.get("target"), []
    if fast is not None:
        gap = values["reasoning_score"] - fast
        evidence = [OUTCOMES]
        if gap >= margin:
            label = LABEL_REASONING
        elif fast >= 0.5:
            label = LABEL_FAST
    if target is None:
        target = (gap + 1) / 2
    else:
        evidence = [*evidence, STATED]
    prompt_id = hexdigest(prompt)[:16]
    return candidate(
        formatter,
        [Turn(prompt)],
        1,
        hexdigest(f"{seed}|{prompt_id}|1"),
        {
            "conversation_id": prompt_id,
            "turn_count": 1,
            "stratum": "all" if group is None else group,
            "label": label,
            "target": target,
            "evidence": evidence,
            "weight": values.get("weight", 1.0),
            "position": None,
            "user_id": None,
            "model": None,
            "group": group,
        },
    )
