"""The effort of a turn: whether much or little was spent on it for a model of its class.

Ranks are computed from counts of distinct values, never by sorting all turns, so that a log of any
length needs little memory.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import ibis

from turnout.chosen_by.patterns import lower
from turnout.engine import materialized
from turnout.schema import FAILED

# Columns of `effort_counts`.
MEASURES = ("completion_tokens", "reasoning_tokens", "llm_calls", "tool_calls", "duration_ms")
# Ranks of effort within a model class up to which it is little, and from which it is much.
_LITTLE, _MUCH = 0.3, 0.7


def effort_counts(turns: ibis.Table) -> dict[str, ibis.Value]:
    """Each measure of a turn's effort; null where the log has none or the turn did not finish."""
    unfinished = lower(turns.response_type).isin(("cancelled", *FAILED)).fill_null(False)
    counted = {name: turns[name] for name in MEASURES if name != "tool_calls"}
    counted["tool_calls"] = _tool_calls(turns.tool_counts)
    return {
        name: ibis.ifelse(unfinished, ibis.null("int64"), counted[name].cast("int64"))
        for name in MEASURES
    }


def with_effort(facts: ibis.Table, backend: ibis.BaseBackend) -> ibis.Table:
    """Put `effort` in place of the measures: 1 much for the `model_class`, −1 little, else 0.

    Args:
        facts: Turns that are `materialized`, with `model_class` and the columns of `effort_counts`.
        backend: Where they are.
    """
    filled = facts.agg(**{name: facts[name].count() for name in MEASURES})
    counts = backend.to_pyarrow(filled).to_pylist()[0]
    ranks = []
    for name in (name for name in MEASURES if counts[name]):
        ranked = materialized(backend, _ranks(facts, name)).select(
            "rank", class_ranked="model_class", value_ranked="value"
        )
        facts = facts.left_join(
            ranked, [facts.model_class == ranked.class_ranked, facts[name] == ranked.value_ranked]
        )
        facts = facts.drop("class_ranked", "value_ranked").rename({f"{name}_rank": "rank"})
        ranks.append(f"{name}_rank")
    if not ranks:
        return facts.mutate(effort=ibis.literal(0)).drop(*MEASURES)
    counted = reduce(add, [facts[rank].notnull().cast("int8") for rank in ranks])
    total = reduce(add, [facts[rank].fill_null(0.0) for rank in ranks])
    mean = ibis.ifelse(counted > 0, total / counted, ibis.null("float64"))
    facts = facts.mutate(mean=mean).drop(*ranks)
    mean_ranks = materialized(backend, _ranks(facts, "mean"))
    bounds = mean_ranks.group_by(bounds_class="model_class").agg(
        little=mean_ranks.value.max(where=mean_ranks["rank"] <= _LITTLE),
        much=mean_ranks.value.min(where=mean_ranks["rank"] >= _MUCH),
    )
    facts = facts.left_join(bounds, facts.model_class == bounds.bounds_class)
    effort = ibis.cases(
        ((facts["mean"] >= facts.much).fill_null(False), 1),
        ((facts["mean"] <= facts.little).fill_null(False), -1),
        else_=0,
    )
    return facts.mutate(effort=effort).drop("mean", "bounds_class", "little", "much", *MEASURES)


def _ranks(facts: ibis.Table, name: str) -> ibis.Table:
    """The rank in [0, 1] of every distinct value within its model class; ties have their mean."""
    filled = facts.filter(facts[name].notnull(), facts.model_class.notnull())
    values = filled.group_by("model_class", value=filled[name]).agg(n=filled.count())
    up_to = ibis.window(group_by="model_class", order_by="value", rows=(None, 0))
    values = values.mutate(
        until=values.n.sum().over(up_to).cast("int64"),
        total=values.n.sum().over(ibis.window(group_by="model_class")).cast("int64"),
    )
    below = ibis.ifelse(
        values.total > 1, (values.until - values.n) / (values.total - 1).nullif(0), 0.0
    )
    return values.select("model_class", "value", rank=(below + values.until / values.total) / 2)


def _tool_calls(counts: ibis.Value) -> ibis.Value:
    """The sum of a JSON object's numbers: its keys are removed, then everything but digits."""
    numbers = counts.re_replace(r'"[^"\\]*(?:\\[^\n][^"\\]*)*"', "").re_replace(r"[^0-9]+", " ")
    numbers = numbers.strip()
    each = ibis.ifelse(numbers == "", "0", numbers).split(" ")
    # From its second batch of rows on, DuckDB also casts what the choice above replaced.
    return each.map(lambda text: text.nullif("").cast("int64")).sums()
