"""Prompts whose outcomes were measured → rows that could be samples; knows no split.

A row has the scores of both model classes, or a target of its own where something else than such
scores tells its need, or both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.dataset.candidates import Candidate, candidate, hexdigest
from turnout.engine import connect, parquet_schema, read_table
from turnout.errors import RecordError
from turnout.records import LABEL_FAST, LABEL_REASONING, Turn
from turnout.routing import Formatter

OUTCOMES = "measured_outcomes"
STATED = "stated_target"
_SCORES = ("reasoning_score", "fast_score")
_FIELDS = ("prompt", *_SCORES, "group", "target", "weight")
_BATCH_ROWS = 10_000


def from_outcomes(
    prompts: Path, formatter: Formatter, present: Mapping[str, str], margin: float, seed: int
) -> list[Candidate]:
    """A candidate for every prompt.

    The target is the gap (reasoning_score − fast_score), moved to [0, 1], where the row states
    none. The label is 0 where the gap reaches `margin`, 1 where a fast model does as well and is
    right at least half of the time, and null where neither was shown or nothing was scored.

    Args:
        prompts: Parquet with `prompt` and `reasoning_score` and `fast_score`, or `target`, or all
            three; optionally `group` and `weight`.
        formatter: The session one: a prompt has no context.
        present: What `columns_of` says of the file.
        margin: In (0, 1].
        seed: Decides the order.

    Raises:
        RecordError: If a row has neither scores nor target, or a number is out of its range.
    """
    backend = connect()
    table = backend.to_pyarrow(read_table(backend, prompts).select(*present.values()))
    found = []
    number = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            number += 1
            values = {field: row[name] for field, name in present.items()}
            _check(f"{prompts}: row {number}", values, present)
            found.append(_of_prompt(values, formatter, margin, seed))
    return found


def columns_of(prompts: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Field → column of the file, for the fields that it has.

    Raises:
        RecordError: If the file cannot be read or a column that is needed is missing.
    """
    names = {field: columns.get(field, field) for field in _FIELDS}
    found = parquet_schema(prompts).names
    present = {field: name for field, name in names.items() if name in found}
    needed = ("prompt",) if "target" in present else ("prompt", *_SCORES)
    missing = [names[field] for field in needed if field not in present]
    if missing:
        raise RecordError(
            f"{prompts}: no column {', '.join(missing)}; found {', '.join(found)}. Name it with "
            "--map prompt=COLUMN (or reasoning_score=, fast_score=, group=, target=, weight=)."
        )
    return present


def _check(where: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    scored = any(values.get(field) is not None for field in _SCORES)
    stated = values.get("target") is not None
    asked = [*(_SCORES if scored or not stated else ()), *(("target",) if stated else ())]
    limits = dict.fromkeys(asked, 1.0)
    if "weight" in values:
        limits["weight"] = float("inf")
    for field, most in limits.items():
        value = values.get(field)
        # NaN fails both comparisons.
        if not isinstance(value, int | float) or not 0 <= value <= most or value == float("inf"):
            expected = "a number in [0, 1]" if most == 1 else "a number of at least 0"
            raise RecordError(
                f"{where}: {columns.get(field, field)} is {value!r}; expected {expected}. Mend "
                "the row, or leave it out."
            )


def _of_prompt(
    values: Mapping[str, Any], formatter: Formatter, margin: float, seed: int
) -> Candidate:
    prompt, fast = values["prompt"] or "", values.get("fast_score")
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
    group, weight = values.get("group"), values.get("weight")
    prompt_id = hexdigest(prompt)[:16]
    return candidate(
        formatter,
        [Turn(prompt)],
        1,
        hexdigest(f"{seed}|{prompt_id}|1"),
        {
            "conversation_id": prompt_id,
            "turn_count": 1,
            "stratum": str(group) if group is not None else "all",
            "label": label,
            "target": target,
            "evidence": evidence,
            "weight": 1.0 if weight is None else float(weight),
            "position": None,
            "user_id": None,
            "model": None,
            "group": str(group) if group is not None else None,
        },
    )
