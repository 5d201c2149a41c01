"""A log with propensities → what other policies would have been worth, by the outcomes it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.engine import connect, reading
from turnout.errors import RecordError
from turnout.records import LABEL_REASONING
from turnout.replay.columns import Bools, Floats
from turnout.replay.decisions import ChosenClasses
from turnout.replay.evidence import NO_LABEL
from turnout.replay.log import ScoredLog
from turnout.replay.off_policy import Logged, OffPolicy, off_policy
from turnout.schema import BAD_FEEDBACK, FAILED, GOOD_FEEDBACK, TURN_KEYS
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import Kind, all_or_none, inside, ratio
from turnout.turns import read_turns

OutcomeName = Literal["good feedback", "answered", "USD for 1,000 turns"]
_USD_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """One outcome under one policy.

    Attributes:
        policy: Its name.
        threshold: The least score for reasoning; None where none is used.
        outcome: `good feedback` and `answered` are shares in [0, 1].
        turns: Turns with that outcome whose class was left to chance.
        logged: The mean outcome as it was.
        estimate: The mean outcome under the policy; None where the turns are too few.
        refused: Why there is no estimate; None where there is one.
    """

    policy: str
    threshold: float | None
    outcome: OutcomeName
    turns: int
    logged: Estimate
    estimate: OffPolicy | None
    refused: str | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a log with propensities says of other policies.

    Attributes:
        turns: Turns whose class a router chose with a known probability below 1.
        certain: Turns whose class it chose with certainty: they say nothing of the other class.
        rows: One for each policy and outcome.
    """

    turns: int
    certain: int
    rows: list[PolicyOutcome]


def outcomes_of(log: ScoredLog, turns: Path, chosen: Iterable[ChosenClasses]) -> Outcomes | None:
    """Weigh the outcomes of a log so that they stand for other policies.

    Each turn counts for itself: that an earlier turn would have gone another way, and changed the
    conversation, is not part of it.

    Args:
        log: The scored log.
        turns: The turns table that it was made of.
        chosen: What each policy chose at every turn of the log.

    Returns:
        None where the log has no propensity.

    Raises:
        RecordError: If a propensity is not in (0, 1].
    """
    rows = _with_propensity(turns)
    if not rows.num_rows:
        return None
    columns = _Columns.of(log, rows)
    open_to_chance = columns.open_to_chance
    policies: list[tuple[str, float | None, Bools]] = [
        ("always reasoning", None, np.ones(len(log.turns), bool)),
        ("always fast", None, np.zeros(len(log.turns), bool)),
        *((each.policy, each.threshold, each.on_reasoning) for each in chosen),
    ]
    return Outcomes(
        turns=int(open_to_chance.sum()),
        certain=int((columns.propensity >= 1).sum()),
        rows=[
            _row(name, threshold, on_reasoning, outcome, values, columns, str(turns))
            for outcome, values in columns.outcomes.items()
            if np.isfinite(values[open_to_chance]).any()
            for name, threshold, on_reasoning in policies
        ],
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Propensities and outcomes in the order of a scored log, n turns; NaN where not known."""

    propensity: Floats
    outcomes: Mapping[OutcomeName, Floats]
    conversation: NDArray[np.int64]
    reasoning: Bools
    open_to_chance: Bools

    @classmethod
    def of(cls, log: ScoredLog, rows: pa.Table) -> _Columns:
        lengths = np.diff(log.turns.starts)
        conversation = np.repeat(np.arange(len(lengths)), lengths)
        positions = _positions(log, conversation, rows)
        columns = {
            name: _placed(rows[name].to_numpy(), positions, len(log.turns))
            for name in ("propensity", "good", "answered")
        }
        propensity = columns["propensity"]
        return cls(
            propensity,
            {
                "good feedback": columns["good"],
                "answered": columns["answered"],
                "USD for 1,000 turns": _USD_TURNS * log.logged_usd.astype(np.float64),
            },
            conversation,
            log.logged_class == LABEL_REASONING,
            (propensity < 1) & (log.logged_class != NO_LABEL),
        )


def _row(
    name: str,
    threshold: float | None,
    on_reasoning: Bools,
    outcome: OutcomeName,
    values: Floats,
    columns: _Columns,
    where: str,
) -> PolicyOutcome:
    used = columns.open_to_chance & np.isfinite(values)
    _, conversation = np.unique(columns.conversation[used], return_inverse=True)
    logged = Logged(columns.reasoning[used], columns.propensity[used], values[used], conversation)
    counts = np.bincount(conversation).astype(np.float64)
    kind: Kind = "amount" if outcome == "USD for 1,000 turns" else "share"
    total = np.bincount(conversation, values[used]).astype(np.float64)
    as_logged = inside(ratio(total, counts, kind), kind)
    if kind == "share" and as_logged.value in (0.0, 1.0):
        as_logged = all_or_none(as_logged.value, len(counts))
    estimate, refused = None, None
    try:
        estimate = off_policy(logged, on_reasoning[used], kind=kind, where=where)
    except RecordError as error:
        refused = str(error)
    return PolicyOutcome(name, threshold, outcome, int(used.sum()), as_logged, estimate, refused)


def _with_propensity(turns: Path) -> pa.Table:
    """The turns that have one, with their outcomes as numbers; null where not known."""
    backend = connect()
    with reading(turns, backend):
        log = read_turns(backend, turns)
        log = log.filter(log.propensity.notnull())
        columns = log.select(*TURN_KEYS, "propensity", "feedback", "response_type")
        rows: pa.Table = backend.to_pyarrow(columns)
    wrong = pc.invert(
        pc.and_(pc.greater(rows["propensity"], 0), pc.less_equal(rows["propensity"], 1))
    )
    if n_wrong := pc.sum(wrong).as_py():
        example = rows["propensity"].filter(wrong)[0].as_py()
        raise RecordError(
            f"{turns}: propensity: found {example:g} in {n_wrong:,} of {rows.num_rows:,} turns; "
            "expected more than 0 and at most 1, as the gateway writes it. Delete it in these rows."
        )
    feedback = pc.utf8_lower(rows["feedback"])
    ended = pc.utf8_lower(rows["response_type"])
    return rows.append_column(
        "good", _one_or_zero(feedback, GOOD_FEEDBACK, BAD_FEEDBACK)
    ).append_column("answered", _one_or_zero(ended, ("success",), FAILED))


def _one_or_zero(
    words: pa.ChunkedArray, ones: tuple[str, ...], zeros: tuple[str, ...]
) -> pa.ChunkedArray:
    is_one = pc.is_in(words, value_set=pa.array(ones))
    is_zero = pc.is_in(words, value_set=pa.array(zeros))
    nothing = pa.scalar(float("nan"))
    return pc.if_else(is_one, 1.0, pc.if_else(is_zero, 0.0, nothing))


def _positions(
    log: ScoredLog, conversation: NDArray[np.int64], rows: pa.Table
) -> NDArray[np.int64]:
    """Where the log has each row; −1 where its conversation was left out."""
    numbers = {name: number for number, name in enumerate(log.conversation_ids.to_pylist())}
    keys = zip(conversation.tolist(), log.turns.turn_index.tolist(), strict=True)
    position_of = {key: position for position, key in enumerate(keys)}
    wanted = zip(*(rows[name].to_pylist() for name in TURN_KEYS), strict=True)
    positions = (position_of.get((numbers.get(name, -1), index), -1) for name, index in wanted)
    return np.fromiter(positions, np.int64, rows.num_rows)


def _placed(values: Floats, positions: NDArray[np.int64], n: int) -> Floats:
    column, known = np.full(n, np.nan), positions >= 0
    column[positions[known]] = values[known]
    return column
