"""Turns → votes: what in the log speaks for or against a need for reasoning; weighs nothing.

A vote is +1 (speaks for reasoning), −1 (speaks for fast) or 0 (says nothing). Every source has a
code. What a log lacks (token counts, feedback, times) simply does not vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis

from turnout.catalog import Catalog
from turnout.chosen_by.fallbacks import traces, with_fallbacks
from turnout.chosen_by.patterns import ANY, any_case, lower
from turnout.engine import kept
from turnout.labels.effort import spent, with_effort
from turnout.labels.external_votes import Given
from turnout.labels.repeated_requests import said_again
from turnout.turns import with_model_facts

_COMPLAINT = any_case(
    rf"(does ?n{ANY}?t work|not work|still (wrong|broken|fail|not)|that{ANY}?s (wrong|not)|"
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
    """One row a turn: its key, whether it repeats another's, and −1, 0 or +1 for every code.

    Args:
        turns: A turns table.
        backend: Where it is computed.
        catalog: Model names to classes.
        given: Votes from outside the log, at most one of each source.
    """
    facts = with_effort(kept(backend, _facts(turns, backend, catalog, given)), backend)
    facts = with_fallbacks(facts, "model")
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    near = facts.mutate(
        previous_class=facts.model_class.lag().over(in_order),
        previous_index=facts.turn_index.lag().over(in_order),
        next_class=facts.model_class.lead().over(in_order),
        next_fallback=facts.fallback.lead().over(in_order),
        next_index=facts.turn_index.lead().over(in_order),
        next_complains=facts.complains.lead().over(in_order),
    )
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
        "effort": near.effort,
        "said_again": _vote(led_on & fast & near.said_again, 1),
        "complaint": _vote(led_on & fast & near.next_complains, 1),
        "feedback": ibis.cases(
            (_true(fast & near.feedback.isin(_BAD)), 1),
            (_true(fast & near.feedback.isin(_GOOD)), -1),
            else_=0,
        ),
    }
    chosen |= {code: near[code] for source in given for code in source.codes}
    chosen = {code: chosen.get(code, ibis.literal(0)) for code in CODES}
    columns = {code: vote.fill_null(0).cast("int8") for code, vote in chosen.items()}
    repeats = _true(near.previous_index == near.turn_index)
    return near.select("conversation_id", "turn_index", repeats=repeats, **columns)


def _facts(
    turns: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog, given: Sequence[Given]
) -> ibis.Table:
    """What each turn alone tells, without its texts."""
    facts = with_model_facts(turns, backend, catalog)
    again = said_again(facts, _true(facts.model_class == "fast"), backend)
    facts = _with_given(facts, given)
    marked = ibis.memtable(again).mutate(said_again=True)
    facts = facts.left_join(marked, ["conversation_id", "turn_index"], rname="{name}_marked")
    return facts.select(
        "conversation_id",
        "turn_index",
        "model",
        "model_class",
        "said_again",
        *(code for source in given for code in source.codes),
        complains=_true(facts.user_message.re_search(_COMPLAINT)),
        feedback=lower(facts.feedback),
        **spent(facts),
        **traces(facts),
    )


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
