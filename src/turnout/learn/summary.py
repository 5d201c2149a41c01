"""What the stages found, as the few answers that a person reads first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.catalog import Price
from turnout.labels import LabelReport
from turnout.learn.models import ModelUse
from turnout.records import Architecture
from turnout.replay.page import chosen_row

Stored = Mapping[str, Any]

# About what a judge reads and answers: the rubric and a turn with its context.
_QUESTION_TOKENS, _ANSWER_TOKENS = 1_200, 120
_JUDGED_TURNS = 300
# Sources that were asked, not inferred from what people did.
_MEASURED = ("human", "outcome")


@dataclass(frozen=True, slots=True)
class Assumption:
    """The weakest thing that the numbers rest on.

    Attributes:
        sentence: What it is.
        remedy: The cheapest way to replace it by a measurement.
    """

    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        verdict: `route`, `do not route` or `cannot tell`.
        sentence: The verdict in words.
        why: Sentences.
        policy: The recommended policy; None where nothing is recommended.
        router: Whose router scores.
        threshold: The least score for reasoning.
        more_conversations: About how many more would settle it, where the log cannot tell; None
            where it does, or where no number within reach would.
        settled_by: The same in words; None where the log tells.
        doubt: What speaks against the scores that the misses are counted by; None where nothing
            does.
    """

    verdict: str
    sentence: str
    why: list[str]
    policy: str | None = None
    router: Architecture | None = None
    threshold: float | None = None
    more_conversations: int | None = None
    settled_by: str | None = None
    doubt: str | None = None


# What an interval's reach must fall to beside a difference, so that four of five logs show it:
# (1.96 + 0.84) / 1.96, normal quantiles of 95 % confidence and 80 % power.
_SURE_ENOUGH = 1.43
_MOST_TIMES = 100
_CHANCE = 0.5
_LEAST_PERCENT = 0.01
_VERDICTS = {
    "do not route": "Do not route: it would save nothing on this log.",
    "cannot tell": "This log cannot tell whether routing pays.",
}


def advice_of(replayed: Stored | None, without: str) -> Advice:
    """What to do, by the replay.

    Args:
        replayed: What `replay.json` says; None where there was no replay.
        without: Why there was none.
    """
    if replayed is None:
        return Advice("cannot tell", _VERDICTS["cannot tell"], [without])
    comparison = replayed["comparison"]
    chosen, recommended = chosen_row(comparison), comparison["recommendation"]
    if chosen is None:
        why = [
            f"No threshold keeps the expected misses under {replayed['max_miss']:.0%} of the "
            "messages that need reasoning."
        ]
        return Advice("cannot tell", _VERDICTS["cannot tell"], why)
    verdict, sentence, unsettled = _verdict(replayed, chosen)
    more, settled_by = None, None
    if unsettled is not None:
        # Long logs are compared on a sample of their conversations.
        compared = comparison["sampled_turns"] / replayed["turns"] * replayed["conversations"]
        more, settled_by = _to_settle(unsettled, compared, replayed["conversations"])
    return Advice(
        verdict,
        sentence,
        [f"{reason[:1].upper()}{reason[1:]}." for reason in recommended["reasons"]],
        recommended["policy"],
        recommended["router"],
        recommended["threshold"],
        more,
        settled_by,
        doubt_of(comparison["ranking"], recommended["router"], replayed["evident_turns"]),
    )


def _verdict(replayed: Stored, chosen: Stored) -> tuple[str, str, Stored | None]:
    """What to do, in words too, and the difference from 0 that the log does not settle."""
    comparison = replayed["comparison"]
    verdict, router = (
        comparison["recommendation"]["verdict"],
        comparison["recommendation"]["router"],
    )
    beside_today = chosen["against_today"]
    if verdict == "do not route":
        return verdict, _VERDICTS[verdict], None
    if verdict == "cannot tell":
        return verdict, _VERDICTS[verdict], chosen["against_reasoning"]
    ahead = _ahead_of_chance(comparison["ranking"], router)
    if ahead is not None and ahead["low"] <= 0:
        return "cannot tell", _VERDICTS["cannot tell"], ahead
    if beside_today is not None and beside_today["high"] < 0:
        return verdict, _dearer(comparison["today"], chosen), None
    if beside_today is not None and beside_today["low"] <= 0:
        return "cannot tell", _unsettled(chosen), beside_today
    return verdict, _cheaper(comparison["today"], chosen), None


def _ahead_of_chance(ranking: Stored | None, router: Architecture) -> Stored | None:
    """How far a router's AUROC is above 0.5; None where evidence is too thin to say."""
    if ranking is None:
        return None
    auroc = _by_scorer(ranking)[router]["auroc"]
    return {end: value - _CHANCE for end, value in auroc.items()}


def _by_scorer(ranking: Stored) -> dict[str, Stored]:
    return {row["name"].removesuffix(", pinned"): row for row in ranking["rows"]}


def doubt_of(ranking: Stored | None, router: Architecture, evident_turns: int) -> str | None:
    """Whether evidence shows that the recommended router tells more than a message's length."""
    if ranking is None:
        return (
            f"{evident_turns:,} turns of conversations that no router saw in training have "
            "evidence: too few to show how well the scores tell. The misses are the scores' own "
            "word."
        )
    rows = _by_scorer(ranking)
    own, length = rows[router], rows["length"]
    shown = f"(AUROC {_spread(own['auroc'])}; 0.5 is chance)"
    if own["auroc"]["low"] <= _CHANCE:
        return (
            f"On {ranking['turns']:,} turns with evidence the {router} scores are not shown to be "
            f"better than chance {shown}."
        )
    if own is ranking["rows"][0] and length["ahead"]["low"] <= 0:
        return (
            f"On {ranking['turns']:,} turns with evidence the {router} scores {shown} are not "
            f"shown to be ahead of the message's length (by {_spread(length['ahead'])})."
        )
    return None


def _spread(estimate: Stored) -> str:
    return f"{estimate['value']:.3f}, {estimate['low']:.3f} to {estimate['high']:.3f}"


def _to_settle(difference: Stored, compared: float, logged: int) -> tuple[int | None, str]:
    """How many more conversations would show that a difference is none of chance, also in words.

    An interval narrows with the square root of the number of conversations. One that just leaves
    out 0 on average does so in half of the logs; asking for 1.43 times less gives four of five.

    Args:
        difference: With its interval, which holds 0.
        compared: Conversations that it was measured on.
        logged: Conversations of the log.
    """
    if difference["low"] is None or not math.isfinite(difference["low"]):
        return None, "One conversation shows nothing: use a longer log."
    reach = (difference["high"] - difference["low"]) / 2
    effect = abs(difference["value"])
    times = math.inf if effect == 0 else (_SURE_ENOUGH * reach / effect) ** 2
    needed = times * compared
    if needed > _MOST_TIMES * logged:
        return None, (
            f"More than {_MOST_TIMES} times as many conversations would be needed: the difference "
            "is too small for more of the same traffic to show it."
        )
    more = max(1, needed - logged)
    digits = max(0, math.floor(math.log10(more)) - 1)
    rounded = math.ceil(more / 10**digits) * 10**digits
    return rounded, (
        f"About {rounded:,} more conversations like these would probably settle it, if the "
        "difference is as large as it looks here."
    )


def _cheaper(today: Stored, chosen: Stored) -> str:
    """The verdict where routing saves: with how much, so that little is seen to be little."""
    saved = _beside_reasoning(chosen)
    if chosen["against_today"] is not None:
        of_today = chosen["against_today"]["value"] / today["usd"]["value"]
        saved = f"{_percent(of_today)} beside today and {saved}"
    return f"Route your messages: it saves {saved}."


def _unsettled(chosen: Stored) -> str:
    """The verdict where the interval of what is saved beside today holds 0."""
    return (
        "This log cannot tell whether routing saves beside what you pay today; it saves "
        f"{_beside_reasoning(chosen)}."
    )


def _beside_reasoning(chosen: Stored) -> str:
    against_reasoning = chosen["against_reasoning"]
    always_usd = chosen["measured"]["usd"]["value"] + against_reasoning["value"]
    return f"{_percent(against_reasoning['value'] / always_usd)} beside all reasoning"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= _LEAST_PERCENT else "less than 1%"


def _dearer(today: Stored, chosen: Stored) -> str:
    """The verdict where routing costs more than today: what it buys, and when that pays.

    People may know more than their messages say, so today's misses by the scores are an upper
    bound, and the price of a miss avoided is a lower one.
    """
    missed = chosen["measured"]["missed"]["value"]
    avoided = 1_000 * today["needed"]["value"] * (today["missed"]["value"] - missed)
    if avoided <= 0:
        return "Do not route: it costs more than today and would miss no less."
    usd = -chosen["against_today"]["value"] / avoided
    return (
        f"Route only if a miss costs you well over {usd:,.2f} USD: it costs more than today, and "
        f"misses {missed:.0%} in place of at most {today['missed']['value']:.0%}."
    )


def table_of(replayed: Stored | None) -> list[dict[str, Any]]:
    """The rows of the one table: what today and each policy cost, save and miss.

    Costs are USD a month where the log tells its pace, else for 1,000 turns.
    """
    if replayed is None:
        return []
    comparison, scale = replayed["comparison"], scale_of(replayed)
    recommended = comparison["recommendation"]
    # A log that names no model says nothing of today.
    has_today = comparison["today"]["share_reasoning"]["value"] is not None
    rows = [_today_row(comparison["today"], scale)] if has_today else []
    rows += [
        _row(row, "–", scale, is_chosen=False)
        for row in comparison["served"]
        if row["kind"] == "baseline" and row["name"].startswith("always")
    ]
    for level in comparison["at_missed"]:
        for row in (*level["rows"], *level["beside"]):
            is_chosen = (
                recommended is not None
                and level["missed"] == recommended["missed"]
                and row["name"] == recommended["policy"]
            )
            rows.append(_row(row, f"{level['missed']:.0%}", scale, is_chosen=is_chosen))
    return rows


def scale_of(replayed: Stored) -> float:
    """What USD for 1,000 turns are multiplied by: to a month, where the log tells its pace."""
    pace: float | None = replayed["turns_a_month"]
    return 1.0 if pace is None else pace / 1_000


def segments_of(replayed: Stored | None) -> list[dict[str, Any]]:
    """For each segment what the log paid, and what reasoning for all and the recommendation would.

    Costs are USD for 1,000 turns: segments differ in size.
    """
    by = replayed["comparison"]["by_segment"] if replayed else None
    recommended = replayed["comparison"]["recommendation"] if replayed else None
    rows = []
    for segment in by["segments"] if by else ():
        always = segment["fixed"][0]
        chosen = None
        if recommended is not None:
            level = next(a for a in segment["at_missed"] if a["missed"] == recommended["missed"])
            chosen = next(row for row in level["rows"] if row["name"] == recommended["policy"])
        rows.append(
            {
                "name": segment["name"],
                "conversations": segment["conversations"],
                "turns": segment["turns"],
                "today": segment["today"],
                "reasoning": always,
                "chosen": chosen,
            }
        )
    return rows


def _today_row(today: Stored, scale: float) -> dict[str, Any]:
    nothing = dict.fromkeys(("against_today", "against_reasoning", "matched_on"))
    usd = _scaled(today["usd"], scale)
    return {
        **today, **nothing, "name": "today", "kind": "log", "allowed": "–", "usd": usd,
        "is_chosen": False,
    }  # fmt: skip


def _row(row: Stored, allowed: str, scale: float, *, is_chosen: bool) -> dict[str, Any]:
    measured = row["measured"]
    return {
        "name": row["name"],
        "kind": row["kind"],
        "allowed": allowed,
        "matched_on": row["matched_on"],
        "usd": _scaled(measured["usd"], scale),
        "against_today": _scaled(row["against_today"], scale),
        "against_reasoning": _scaled(row["against_reasoning"], scale),
        "share_reasoning": measured["share_reasoning"],
        "missed": measured["missed"],
        "under": measured["under"],
        "is_chosen": is_chosen,
    }


def _scaled(estimate: Stored | None, scale: float) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {end: None if value is None else value * scale for end, value in estimate.items()}


def routers_of(evaluation: Stored) -> list[dict[str, Any]]:
    """Each router beside length and its best TF-IDF baseline, on its own test rows."""
    rows = []
    for router in evaluation["routers"]:
        result = router["results"][0]
        methods = result["methods"]
        own = next(m for m in methods if m["kind"] == "router")
        length = next(m for m in methods if m["name"].startswith("length"))
        linear = [m for m in methods if m["name"].startswith("TF-IDF")][-1]
        rows.append(
            {
                "name": router["architecture"],
                "metric": router["main_metric_names"][result["main_metric"]],
                "reference": result["reference"],
                "rows": result["rows"],
                "router": own["metrics"][result["main_metric"]],
                "length": length["metrics"][result["main_metric"]],
                "linear": linear["metrics"][result["main_metric"]],
                "lead": linear["lead"],
                "ece": own["metrics"]["ece"],
            }
        )
    return rows


def weakest_assumption(
    labels: LabelReport,
    uses: Sequence[ModelUse],
    judge: ModelUse | None,
    judge_price: Price | None,
) -> Assumption:
    """What the numbers rest on most and know least.

    Args:
        labels: What the evidence adds up to.
        uses: The models of the log.
        judge: The model that could be asked.
        judge_price: Its price; None where it is not known.
    """
    counted = sum(use.counted_turns for use in uses)
    asked = f"with {judge.model}" if judge is not None else "with a model of your choice"
    measured = max((s.turns for s in labels.sources if s.code in _MEASURED), default=0)
    judged = next((s.turns for s in labels.sources if s.code.startswith("judge")), 0)
    if labels.fitted_on == "stated" and not judged and measured < labels.labelled / 2:
        to_judge = min(_JUDGED_TURNS, labels.turns)
        cost = ""
        if judge_price is not None:
            usd = judge_price.cost_usd(
                prompt_tokens=to_judge * _QUESTION_TOKENS,
                completion_tokens=to_judge * _ANSWER_TOKENS,
            )
            cost = f", about {usd:,.2f} USD"
        return Assumption(
            "What a turn needed is inferred from what people did, by source accuracies that are "
            "stated, not measured on your log.",
            f"Judge {to_judge} turns {asked}{cost} (--judge), or label 200 turns by hand "
            "(--human).",
        )
    if counted < labels.turns / 2:
        return Assumption(
            f"Of {1 - counted / max(labels.turns, 1):.0%} of the turns the log counts no tokens; "
            "their costs rest on estimated counts.",
            "Log prompt and completion tokens, or serve in shadow mode for a week and replay the "
            "journal.",
        )
    return Assumption(
        "A miss is expected by the router's own scores: as good as their calibration.",
        "Serve in shadow mode for a week, and judge some of the turns that would have gone to "
        "fast.",
    )
