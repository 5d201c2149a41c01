"""Turns → votes: the evidence in a log for or against a need for reasoning.

A vote is +1 (reasoning), −1 (fast) or 0 (none). Every source has a code. What a log lacks (token
counts, feedback, times) gives no vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis

from turnout.catalog import Catalog
from turnout.chosen_by.fallbacks import fallback_signs, with_fallbacks
from turnout.chosen_by.model_switches import with_switches
from turnout.chosen_by.patterns import ANY, any_case, lower
from turnout.engine import materialized
from turnout.labels.effort import effort_counts, with_effort
from turnout.labels.external_votes import ExternalVotes
from turnout.labels.repeated_requests import repeated_requests
from turnout.schema import BAD_FEEDBACK, GOOD_FEEDBACK, TURN_KEYS
from turnout.turns import with_model_facts

_COMPLAINT = any_case(
    rf"(does ?n{ANY}?t work|not work|still (wrong|broken|fail|not)|that{ANY}?s (wrong|not)|"
    r"not what i|try again|wrong answer|you (missed|forgot|ignored)|funktioniert nicht|"
    r"immer noch nicht|no funciona|ne marche pas)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of evidence.

    Attributes:
        code: Stable name, as in the labels' `evidence`.
        reason: What it is, for a person.
        accuracy: Assumed share of its votes that are right, before any truth is known.
        prior_votes: That accuracy counts as so many votes of known truth.
    """

    code: str
    reason: str
    accuracy: float
    prior_votes: float


SOURCES = (
    Source("model_first", "the class of the model chosen for the first turn", 0.85, 100),
    Source("model_later", "the class of the model that a later turn stayed on", 0.70, 100),
    Source("upgrade", "the user moved to a reasoning model for this turn", 0.92, 50),
    Source("before_upgrade", "the user left this turn's fast model for a reasoning one", 0.75, 50),
    Source("downgrade", "the user moved to a fast model for this turn", 0.65, 50),
    Source("effort", "much or little effort for a model of its class", 0.75, 100),
    Source("repeated_request", "the user repeated the request after a fast answer", 0.65, 50),
    Source("complaint", "the user complained about a fast model's answer", 0.60, 50),
    Source("feedback", "explicit feedback on a fast model's answer", 0.80, 50),
    Source("judge", "a judge model is sure what the message needs", 0.80, 50),
    Source("judge_leaning", "a judge model leans to what the message needs", 0.65, 50),
    Source("outcome", "models of both classes were scored on it", 0.85, 50),
    Source("human", "people labelled it", 0.95, 50),
)
CODES = tuple(source.code for source in SOURCES)


def votes(
    turns: ibis.Table,
    backend: ibis.BaseBackend,
    catalog: Catalog,
    external: Sequence[ExternalVotes] = (),
) -> ibis.Table:
    """One row a turn: its key, two facts, and −1, 0 or +1 for every code.

    `repeats` says whether another turn has its key, `not_chosen` whether a router or the product
    chose its model.

    Where all models of the log are of one class, nobody chose between classes: with votes from
    outside the log, the class of the model gives none. (Without, it is what labels the turns.)

    Args:
        turns: A turns table.
        backend: Where it is computed.
        catalog: Model names to classes.
        external: Votes from outside the log, at most one of each source.
    """
    facts = with_effort(materialized(backend, _facts(turns, backend, catalog, external)), backend)
    facts = _with_choices(with_fallbacks(with_switches(facts)))
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    near = facts.mutate(
        # An answer that was made again says nothing of the turn before.
        next_upgraded=(facts.upgraded & facts.regenerated_name.isnull()).lead().over(in_order),
        next_complains=facts.complains.lead().over(in_order),
        goes_on=facts.turn_index.lead().over(in_order) == facts.turn_index + 1,
        repeats=facts.turn_index.lag().over(in_order) == facts.turn_index,
    )
    fast, reasoning = near.model_class == "fast", near.model_class == "reasoning"
    stayed = near.chosen & ~(near.upgraded | near.downgraded)
    class_vote = ibis.ifelse(reasoning, 1, ibis.ifelse(fast, -1, 0))
    if external and _n_classes(facts, backend) < 2:
        class_vote = ibis.literal(0)
    columns = {
        # Where the turn switched models, `upgrade` or `downgrade` votes instead.
        "model_first": ibis.ifelse(stayed & (near.turn_index == 1), class_vote, 0),
        "model_later": ibis.ifelse(stayed & (near.turn_index > 1), class_vote, 0),
        "upgrade": _vote(near.upgraded, 1),
        "before_upgrade": _vote(near.goes_on & fast & near.next_upgraded, 1),
        "downgrade": _vote(near.downgraded, -1),
        "effort": near.effort,
        "repeated_request": _vote(near.goes_on & fast & near.repeated_request, 1),
        "complaint": _vote(near.goes_on & fast & near.next_complains, 1),
        "feedback": ibis.cases(
            (_true(fast & near.feedback.isin(BAD_FEEDBACK)), 1),
            (_true(fast & near.feedback.isin(GOOD_FEEDBACK)), -1),
            else_=0,
        ),
    }
    columns |= {code: near[code] for file in external for code in file.codes}
    all_votes = {code: columns.get(code, ibis.literal(0)) for code in CODES}
    return near.select(
        *TURN_KEYS,
        repeats=_true(near.repeats),
        not_chosen=near.model_name.notnull() & ~near.chosen,
        **{code: vote.fill_null(0).cast("int8") for code, vote in all_votes.items()},
    )


def _n_classes(facts: ibis.Table, backend: ibis.BaseBackend) -> int:
    """How many of the two classes the models of the log have."""
    of_a_class = facts.model_class.isin(("fast", "reasoning"))
    return int(backend.to_pyarrow(facts.filter(of_a_class).model_class.nunique()).as_py())


def _with_choices(facts: ibis.Table) -> ibis.Table:
    """Add whether a person chose the turn's model, and whether that was an up- or downgrade.

    A switch counts only where every turn since the last named model is in the log.
    """
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    facts = facts.mutate(number=ibis.row_number().over(in_order))
    facts = facts.mutate(
        gaps=facts.turn_index - facts.number, chosen=~facts.fallback & facts.stands_in.isnull()
    )
    before = ibis.window(group_by="conversation_id", order_by="turn_index", rows=(None, -1))
    gaps_of_named = ibis.ifelse(facts.model_name.notnull(), facts.gaps, ibis.null("int64"))
    # Gaps never shrink, so the greatest one before belongs to the last turn that names a model.
    unbroken = (gaps_of_named.max().over(before) == facts.gaps).fill_null(False)
    unbroken = facts.chosen & (unbroken | facts.regenerated_name.notnull())
    return facts.mutate(
        upgraded=_true(unbroken & (facts.kind == "upgrade")),
        downgraded=_true(unbroken & (facts.kind == "downgrade")),
    )


def _facts(
    turns: ibis.Table,
    backend: ibis.BaseBackend,
    catalog: Catalog,
    external: Sequence[ExternalVotes],
) -> ibis.Table:
    """The facts of each turn alone, without its texts."""
    facts = with_model_facts(turns, backend, catalog)
    repeated = repeated_requests(facts, _true(facts.model_class == "fast"), backend)
    facts = _with_external(facts, external)
    marked = ibis.memtable(repeated).mutate(repeated_request=True)
    facts = facts.left_join(marked, list(TURN_KEYS), rname="{name}_marked")
    return facts.select(
        *TURN_KEYS,
        "model_name",
        "model_class",
        "regenerated_name",
        "regenerated_class",
        "repeated_request",
        *(code for file in external for code in file.codes),
        complains=_true(facts.user_message.re_search(_COMPLAINT)),
        feedback=lower(facts.feedback),
        **effort_counts(facts),
        **fallback_signs(facts),
    )


def _with_external(facts: ibis.Table, external: Sequence[ExternalVotes]) -> ibis.Table:
    for file in external:
        table = ibis.memtable(file.votes)
        facts = facts.left_join(table, list(file.keys), rname="{name}_external")
        facts = facts.drop(*(name for name in facts.columns if name.endswith("_external")))
    return facts


def _vote(condition: ibis.Value, vote: int) -> ibis.Value:
    return ibis.ifelse(_true(condition), vote, 0)


def _true(condition: ibis.Value) -> ibis.Value:
    return condition.fill_null(False)
