"""Switches: turns on another model than the previous turn that names one.

An answer that the person had made again on another model is a switch of its turn.
"""

from __future__ import annotations

import ibis

KINDS = ("upgrade", "downgrade", "lateral", "unknown")


def with_switches(turns: ibis.Table) -> ibis.Table:
    """Add `from_model`, `from_class` and `kind`.

    `from_model` is the model whose answer was made again on the turn's model, else that of the
    previous turn that names one, else null; `from_class` is its class. `kind` is one of `KINDS`,
    null where the turn stays on that model or names none.

    Args:
        turns: Turns with `model_name`, `model_class`, `regenerated_name` and
            `regenerated_class`, as `turns.with_model_facts` adds them.
    """
    model_class = turns.model_class.fill_null("unknown")
    name_before, class_before = (
        latest_before(turns, value) for value in (turns.model_name, model_class)
    )
    # Two names of one model are no other model.
    regenerated_name = turns.regenerated_name.nullif(turns.model_name)
    regenerated_class = turns.regenerated_class.fill_null("unknown")
    facts = turns.mutate(
        from_model=ibis.coalesce(regenerated_name, name_before),
        from_class=ibis.ifelse(regenerated_name.notnull(), regenerated_class, class_before),
    )
    to_class = facts.model_class.fill_null("unknown")
    kind = ibis.cases(
        (~(facts.from_model != facts.model_name).fill_null(False), ibis.null("string")),
        ((facts.from_class == "unknown") | (to_class == "unknown"), "unknown"),
        (facts.from_class == to_class, "lateral"),
        (to_class == "reasoning", "upgrade"),
        else_="downgrade",
    )
    return facts.mutate(kind=kind)


def latest_before(turns: ibis.Table, value: ibis.Value) -> ibis.Value:
    """The value at the previous turn that names a model; `value` is never null there."""
    before = ibis.window(group_by="conversation_id", order_by="turn_index", rows=(None, -1))
    named_index = ibis.ifelse(turns.model_name.notnull(), turns.turn_index, ibis.null("int32"))
    return value.argmax(named_index).over(before)
