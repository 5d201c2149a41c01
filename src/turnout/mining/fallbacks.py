"""Model changes that a product made rather than a person; knows no class and no kind of switch.

A product that falls back to another model when one fails, and returns afterwards, leaves two
switches in the log that nobody chose.
"""

from __future__ import annotations

import ibis

from turnout.schema import FAILED


def with_fallbacks(turns: ibis.Table, name: str) -> ibis.Table:
    """Add `fallback`: whether the turn's model is there because another one failed, or is back.

    That is so where the turn before, on another model, failed; or where the turn before stood in
    for this turn's model, which had failed before it. A cancelled turn did not fail: people cancel
    and choose again.

    Args:
        turns: With `conversation_id`, `turn_index` and `response_type`.
        name: The column that tells models apart.
    """
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    failed = turns.response_type.lower().isin(FAILED).fill_null(False)
    model = turns[name]
    changed = (model.lag().over(in_order) != model).fill_null(False)
    stood_in = failed.lag().over(in_order).fill_null(False)
    back = failed.lag(2).over(in_order).fill_null(False) & (
        model.lag(2).over(in_order) == model
    ).fill_null(False)
    return turns.mutate(fallback=changed & (stood_in | back))
