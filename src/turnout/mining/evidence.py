"""Turns → votes: what in the log speaks for or against a need for reasoning; weighs nothing.

A vote is +1 (speaks for reasoning), −1 (speaks for fast) or 0 (says nothing). Every source has a
code. What a log lacks (token counts, feedback, times) simply does not vote.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import ibis
import numpy as np
import pyarrow as pa
from rapidfuzz import fuzz, process, utils

from turnout.catalog import Catalog
from turnout.engine import with_model_facts
from turnout.mining.fallbacks import with_fallbacks
from turnout.mining.given import Given
from turnout.schema import FAILED

# Shares of effort inside a model class that count as little and as much.
_LITTLE, _MUCH = 0.3, 0.7
# Two messages are one request said again from this likeness on, of 100: words in any order, so that
# a rephrased one counts.
_SAME_REQUEST = 75
# Very short messages ("yes", "no") are alike by chance.
_SHORT_CHARS = 12
# Comparing is quadratic: longer messages are compared by their beginnings.
_COMPARED_CHARS = 400
_COMPLAINT = (
    r"(?i)(does ?n.?t work|not work|still (wrong|broken|fail|not)|that.?s (wrong|not)|"
    r"not what i|try again|wrong answer|you (missed|forgot|ignored)|funktioniert nicht|"
    r"immer noch nicht|no funciona|ne marche pas)"
)
_GOOD = ("positive", "good", "up", "thumbs_up", "like", "1", "accepted")
_BAD = ("negative", "bad", "down", "thumbs_down", "dislike", "-1", "rejected")


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of evidence.

    Attributes:
        code: Stable name, as in the labels' `evidence`.
        reason: What it is, for a person.
        accuracy: How often its vote is right, before any log was seen.
        weight: How many votes of known truth that belief is worth.
    """

    code: str
    reason: str
    accuracy: float
    weight: float


SOURCES = (
    Source("model_first", "the class of the model chosen for the first turn", 0.85, 100),
    Source("model_later", "the class of the model that a later turn stayed on", 0.70, 100),
    Source("upgrade", "the user moved to a reasoning model for this turn", 0.92, 50),
    Source("before_upgrade", "the user left this turn's fast model for a reasoning one", 0.75, 50),
    Source("downgrade", "the user moved to a fast model for this turn", 0.65, 50),
    Source("effort", "much or little effort for a model of its class", 0.75, 100),
    Source("said_again", "the user said the same again after a fast model's answer", 0.65, 50),
    Source("complaint", "the user complained about a fast model's answer", 0.60, 50),
    Source("feedback", "explicit feedback on a fast model's answer", 0.80, 50),
    Source("judge", "a judge model is sure what the message needs", 0.80, 50),
    Source("judge_leaning", "a judge model leans to what the message needs", 0.65, 50),
    Source("outcome", "models of both classes were scored on it", 0.85, 50),
    Source("human", "people labelled it", 0.95, 50),
)
CODES = tuple(source.code for source in SOURCES)


def votes(
    turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog, given: Sequence[Given] = ()
) -> ibis.Table:
    """One row a turn: its key and a column of −1, 0 or +1 for every code.

    Args:
        turns: A turns table.
        backend: Where it is computed.
        catalog: Model names to classes.
        given: Votes from outside the log, at most one of each source.
    """
    facts = with_fallbacks(with_model_facts(turns, backend, catalog), "model")
    facts = facts.mutate(tool_calls=_tool_calls(facts.tool_counts))
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    near = facts.mutate(
        previous_class=facts.model_class.lag().over(in_order),
        previous_index=facts.turn_index.lag().over(in_order),
        next_class=facts.model_class.lead().over(in_order),
        next_fallback=facts.fallback.lead().over(in_order),
        next_index=facts.turn_index.lead().over(in_order),
        next_message=facts.user_message.lead().over(in_order),
        effort=_effort(facts),
    )
    near = near.mutate(effort=_rank(near.effort, near.model_class))
    near = _with_given(_with_said_again(near, backend), given)
    follows = near.previous_index == near.turn_index - 1
    led_on = near.next_index == near.turn_index + 1
    # A model that stood in for another was nobody's choice.
    chose = ~near.fallback & near.stands_in.isnull()
    fast, reasoning = near.model_class == "fast", near.model_class == "reasoning"
    upgraded = chose & follows & reasoning & (near.previous_class == "fast")
    downgraded = chose & follows & fast & (near.previous_class == "reasoning")
    stayed = chose & (near.turn_index > 1) & ~_true(upgraded | downgraded)
    left_for_better = led_on & fast & (near.next_class == "reasoning") & ~near.next_fallback
    own_choice = ibis.ifelse(reasoning, 1, ibis.ifelse(fast, -1, 0))
    chosen = {
        "model_first": ibis.ifelse(near.turn_index == 1, own_choice, 0),
        # A switch at this turn says the same and more: it votes in its place.
        "model_later": ibis.ifelse(stayed, own_choice, 0),
        "upgrade": _vote(upgraded, 1),
        "before_upgrade": _vote(left_for_better, 1),
        "downgrade": _vote(downgraded, -1),
        "effort": ibis.cases((near.effort >= _MUCH, 1), (near.effort <= _LITTLE, -1), else_=0),
        "said_again": _vote(led_on & fast & near.said_again, 1),
        "complaint": _vote(led_on & fast & near.next_message.re_search(_COMPLAINT), 1),
        "feedback": ibis.cases(
            (_true(fast & near.feedback.lower().isin(_BAD)), 1),
            (_true(fast & near.feedback.lower().isin(_GOOD)), -1),
            else_=0,
        ),
    }
    chosen |= {code: near[code] for source in given for code in source.codes}
    chosen = {code: chosen.get(code, ibis.literal(0)) for code in CODES}
    columns = {code: vote.fill_null(0).cast("int8") for code, vote in chosen.items()}
    return near.select("conversation_id", "turn_index", **columns)


def _effort(facts: ibis.Table) -> ibis.Value:
    """Mean rank in [0, 1] of what was spent on a finished turn; null where nothing was counted."""
    unfinished = facts.response_type.lower().isin(("cancelled", *FAILED)).fill_null(False)
    ranks = []
    for name in ("completion_tokens", "reasoning_tokens", "llm_calls", "tool_calls", "duration_ms"):
        spent = ibis.ifelse(unfinished, ibis.null(facts[name].type()), facts[name])
        ranks.append(_rank(spent, facts.model_class))
    counted = reduce(add, [rank.notnull().cast("int8") for rank in ranks])
    total = reduce(add, [rank.fill_null(0.0) for rank in ranks])
    return ibis.ifelse(counted > 0, total / counted, ibis.null("float64"))


def _rank(value: ibis.Value, model_class: ibis.Value) -> ibis.Value:
    """Rank in [0, 1] among the known values of one model class; equal ones share the middle."""
    inside = ibis.window(group_by=[model_class, value.isnull()], order_by=value)
    middle = (ibis.percent_rank().over(inside) + ibis.cume_dist().over(inside)) / 2
    unknown = value.isnull() | model_class.isnull()
    return ibis.ifelse(unknown, ibis.null("float64"), middle)


def _tool_calls(counts: ibis.Value) -> ibis.Value:
    """The sum of a JSON object's numbers: keys go first, then all that is no digit."""
    numbers = counts.re_replace(r'"(?:[^"\\\\]|\\\\.)*"', "").re_replace(r"[^0-9]+", " ").strip()
    each = ibis.ifelse(numbers == "", "0", numbers).split(" ")
    return each.map(lambda text: text.cast("int64")).sums()


def _with_said_again(near: ibis.Table, backend: ibis.BaseBackend) -> ibis.Table:
    """Add `said_again`: whether the next message is this one again, repeated or rephrased."""
    this, following = (
        text.left(_COMPARED_CHARS) for text in (near.user_message, near.next_message)
    )
    pairs = near.filter(
        near.next_index == near.turn_index + 1,
        near.model_class == "fast",
        near.user_message.length() >= _SHORT_CHARS,
        near.next_message.length() >= _SHORT_CHARS,
    ).select("conversation_id", "turn_index", this=this, following=following)
    with warnings.catch_warnings():
        # Ibis 12 calls DuckDB's reader by its older name.
        warnings.filterwarnings("ignore", "fetch_record_batch", DeprecationWarning)
        found = [
            batch.filter(pa.array(_alike(batch["this"], batch["following"])))
            for batch in backend.to_pyarrow_batches(pairs)
        ]
    keys = pa.table(
        {
            "conversation_id": _joined(found, "conversation_id", pa.string()),
            "turn_index": _joined(found, "turn_index", pa.int32()),
        }
    )
    marked = ibis.memtable(keys).mutate(said_again=True)
    return near.left_join(marked, ["conversation_id", "turn_index"], rname="{name}_marked")


def _alike(these: pa.Array, following: pa.Array) -> np.ndarray:
    likeness = process.cpdist(
        *(
            [utils.default_process(text) for text in texts.to_pylist()]
            for texts in (these, following)
        ),
        scorer=fuzz.token_sort_ratio,
        score_cutoff=_SAME_REQUEST,
    )
    return np.asarray(likeness) >= _SAME_REQUEST


def _joined(batches: Sequence[pa.RecordBatch], name: str, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([batch[name] for batch in batches], kind)


def _with_given(near: ibis.Table, given: Sequence[Given]) -> ibis.Table:
    for source in given:
        table = ibis.memtable(source.votes)
        near = near.left_join(table, list(source.keys), rname="{name}_given")
        near = near.drop(*(name for name in near.columns if name.endswith("_given")))
    return near


def _vote(condition: ibis.Value, vote: int) -> ibis.Value:
    return ibis.ifelse(_true(condition), vote, 0)


def _true(condition: ibis.Value) -> ibis.Value:
    return condition.fill_null(False)
