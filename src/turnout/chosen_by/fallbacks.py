"""Fallbacks: changes of model that a router or the product made itself.

A product that falls back to another model and returns afterwards leaves two switches in the log
that nobody chose. If the log says who chose a turn's model (`chosen_by`), that decides: `router`
and `product` are kinds of their own, and a person's choice is no fallback. Else a change between
turns with the same `requested_model` is the product's. Any other change has the first kind that
fits:

- `sub_agent`: the turn belongs to a sub-agent or is a notice of the product, by its mode or text.
- `rate_limit`: the turn before was refused because of a limit or overload.
- `retry`: the turn before failed; or it was cancelled and the same message is sent again, sooner
  than a person could have chosen another model, as far as the log has times.
- `excursion`: the message of the turn before is sent again, for one turn, and the next turn is back
  on the first model.

The way back from a fallback has the same kind. Staying, or going on to a third model, is a choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis

from turnout.chosen_by.patterns import AFTER_WORD, ANY, BEFORE_WORD, SPACE, any_case, digest, lower
from turnout.schema import FAILED, LIMITED

CANCELLED = ("cancelled", "canceled", "aborted", "interrupted", "stopped")

# How the answer of a failed turn names a limit.
_LIMIT_TEXT = BEFORE_WORD + any_case(
    rf"(429|529|rate{ANY}?limit|usage limit|quota|overloaded|too many requests)"
)
# An answer that is an error, where the log does not say how turns ended.
_ERROR_TEXT = f"^{SPACE}*(API Error|Error: [0-9][0-9][0-9]){AFTER_WORD}"
_AGENT_MODE = any_case(r"(sub[-_ ]?agent|side[-_ ]?chain|background)")
_AGENT_TEXT = f"^{SPACE}*<(task|system|agent)[-_]notification>"
# Nobody can read an error, choose another model and send again faster.
MIN_CHOICE_S = 10


@dataclass(frozen=True, slots=True)
class FallbackKind:
    """A kind of change that a product makes.

    Attributes:
        code: Stable name, as in the report.
        reason: What it is, for a person.
    """

    code: str
    reason: str


FALLBACKS = (
    FallbackKind("rate_limit", "the turn before met a rate limit or an overloaded model"),
    FallbackKind("retry", "the turn before failed, or was cancelled and at once sent again"),
    FallbackKind("sub_agent", "a sub-agent's turn or a notice of the product"),
    FallbackKind("excursion", "the same message again on another model for one turn, and back"),
    FallbackKind("product", "the log says that the product chose, or that one model was asked for"),
    FallbackKind("router", "a router chose the model"),
)
# Values of `chosen_by` that are no person.
_NOT_PERSON = ("product", "router")


def fallback_signs(turns: ibis.Table) -> dict[str, ibis.Value]:
    """The columns of each turn that `with_fallbacks` needs, computed from texts and times.

    `agent` (whether it is a sub-agent's), `ended` (limited, failed, cancelled or null),
    `message_digest`, `sent_s`, `lasted_ms`, `chosen_by` and `requested_model`.
    """
    return {
        "requested_model": turns.requested_model,
        "chosen_by": turns.chosen_by,
        "agent": _true(turns["mode"].re_search(_AGENT_MODE))
        | _true(turns.user_message.re_search(_AGENT_TEXT)),
        "ended": _ended(turns),
        "message_digest": digest(turns.user_message),
        "sent_s": turns.timestamp.epoch_seconds(),
        "lasted_ms": turns.duration_ms.cast("int64"),
    }


def with_fallbacks(turns: ibis.Table) -> ibis.Table:
    """Add `fallback_kind`, `fallback` and `stands_in`.

    `fallback_kind` is a code of `FALLBACKS`, null where a person chose; `fallback` whether there is
    one. `stands_in` is the kind that brought a turn its model, also where the model of the turn
    before stays; null where a person chose the model.

    Args:
        turns: Turns with their `fallback_signs`, `regenerated_name`, `from_model` and `kind`, as
            `model_switches.with_switches` leaves them. A turn that names no model is skipped, but
            its ending counts.
    """
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    before = ibis.window(group_by="conversation_id", order_by="turn_index", rows=(None, -1))
    facts = turns.mutate(
        following=turns.model_name.lead().over(in_order),
        ended_before=turns.ended.lag().over(in_order),
        again=_true(turns.message_digest.lag().over(in_order) == turns.message_digest),
        waited_s=_waited_s(turns, in_order),
        asked_before=turns.requested_model.lag().over(in_order),
    )
    # Nobody but a person asks for another answer to what has been answered.
    regenerated = facts.regenerated_name.notnull() & facts.chosen_by.isnull()
    by_person = _true(facts.chosen_by == "person") | regenerated
    by_other = facts.chosen_by.isin(_NOT_PERSON).fill_null(False)
    changed = facts.kind.notnull() & ~by_person
    quickly = ~_true(facts.waited_s > MIN_CHOICE_S)
    retried = (facts.ended_before == "failed") | (
        (facts.ended_before == "cancelled") & facts.again & quickly
    )
    entered = ibis.cases(
        (by_other & changed, facts.chosen_by),
        (changed & _true(facts.requested_model == facts.asked_before), "product"),
        (facts.agent & changed, "sub_agent"),
        (changed & _true(facts.ended_before == "limited"), "rate_limit"),
        (changed & _true(retried), "retry"),
        (changed & facts.again & _true(facts.following == facts.from_model), "excursion"),
        else_=ibis.null("string"),
    )
    facts = facts.mutate(entered=entered)
    # Later turns of a sub-agent or a router change no model, but no person chose theirs either.
    stands_in = ibis.cases(
        (facts.entered.notnull(), facts.entered),
        (by_other, facts.chosen_by),
        (facts.agent, "sub_agent"),
        else_=ibis.null("string"),
    )
    facts = facts.mutate(stands_in=stands_in)
    named = facts.model_name.notnull()
    # `home` is the last model that a person chose, without the fallbacks since.
    facts = facts.mutate(
        chosen=ibis.ifelse(facts.stands_in.isnull(), facts.model_name, ibis.null("string")),
        role=ibis.ifelse(named, facts.stands_in.fill_null(""), ibis.null("string")),
    )
    facts = facts.mutate(
        home=_latest(facts, "chosen").over(before),
        stood_in=_latest(facts, "role").over(before).nullif(""),
    )
    returned = changed & _true(facts.home == facts.model_name)
    kind = ibis.coalesce(facts.entered, ibis.ifelse(returned, facts.stood_in, ibis.null("string")))
    marked = facts.mutate(fallback_kind=kind, fallback=kind.notnull())
    return marked.select(*turns.columns, "fallback_kind", "fallback", "stands_in")


def _latest(facts: ibis.Table, name: str) -> ibis.Value:
    """The value of the greatest turn index that has one, as an expression for a window."""
    index = ibis.ifelse(facts[name].notnull(), facts.turn_index, ibis.null("int32"))
    return facts[name].argmax(index)


def _ended(turns: ibis.Table) -> ibis.Value:
    """limited, failed, cancelled, or null if the turn ended well or its ending is unknown."""
    ending = lower(turns.response_type.strip()).re_replace(r"[ \t\n\r\f-]+", "_")
    answer = turns.assistant_message
    failed = _true(ending.isin(FAILED)) | (ending.isnull() & _true(answer.re_search(_ERROR_TEXT)))
    limited = _true(ending.isin(LIMITED)) | (failed & _true(answer.re_search(_LIMIT_TEXT)))
    return ibis.cases(
        (limited, "limited"),
        (failed, "failed"),
        (_true(ending.isin(CANCELLED)), "cancelled"),
        else_=ibis.null("string"),
    )


def _waited_s(facts: ibis.Table, in_order: ibis.expr.builders.WindowBuilder) -> ibis.Value:
    """Seconds from the end of the turn before to this one; null where that is not known."""
    ended_s = facts.sent_s + facts.lasted_ms / 1000
    return facts.sent_s - ended_s.lag().over(in_order)


def _true(condition: ibis.Value) -> ibis.Value:
    return condition.fill_null(False)
