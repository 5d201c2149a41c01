"""What a walked log says of a policy: cost, switches, agreement and misses, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from turnout.records import LABEL_FAST, LABEL_REASONING, ModelClass
from turnout.replay.columns import Bools, Floats
from turnout.replay.evidence import NO_LABEL
from turnout.replay.log import ScoredLog
from turnout.replay.spend import spend_usd
from turnout.replay.walk import Walked
from turnout.routing.policies import Target
from turnout.stats.bootstrap import Estimate
from turnout.stats.ratios import all_or_none, inside, ratio

# Costs are for so many turns: a log may be a day or a year long.
COST_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums by conversation, shape `(c,)` each; ratios of them are what a report shows.

    Attributes:
        turns: Turns.
        usd: By part of the bill.
        paid_usd: The cost of the turns whose logged model has a price.
        reasoning: Turns on the reasoning class.
        switches: Turns that leave the class of the turn before.
        warm_switches: Of them, those that leave a warm prompt cache.
        needed: Expected turns that need reasoning, by the scores.
        missed: Of them, those sent to fast.
        known: Turns whose logged class is known.
        agreed: Of them, those sent to that class.
        needs: Turns with strong evidence that they need reasoning.
        under: Of them, those sent to fast.
        fine: Turns with strong evidence that fast is enough.
        over: Of them, those sent to reasoning.
    """

    turns: Floats
    usd: Mapping[str, Floats]
    paid_usd: Floats
    reasoning: Floats
    switches: Floats
    warm_switches: Floats
    needed: Floats
    missed: Floats
    known: Floats
    agreed: Floats
    needs: Floats
    under: Floats
    fine: Floats
    over: Floats

    @property
    def total_usd(self) -> Floats:
        """USD of every conversation."""
        total: Floats = np.sum(list(self.usd.values()), axis=0)
        return total

    def of(self, conversations: Bools) -> Sums:
        """The sums of some conversations, shape `(c,)`."""
        own = {
            each.name: getattr(self, each.name)[conversations]
            for each in fields(self)
            if each.name != "usd"
        }
        return Sums(usd={part: usd[conversations] for part, usd in self.usd.items()}, **own)


@dataclass(frozen=True, slots=True)
class Measured:
    """A policy on a log.

    Attributes:
        usd: USD for 1,000 turns.
        parts_usd: The same, by part of the bill.
        share_reasoning: Share of the turns on the reasoning class.
        switches: Switches a conversation.
        warm_switches: Of them, those inside a warm prompt cache, a conversation.
        missed: Of the turns that need reasoning, by the scores, the expected share sent to fast.
        agreement: Share of the turns sent to the class that served them in the log.
        under: Of the turns with strong evidence for reasoning, the share sent to fast; None
            without evidence.
        over: Of the turns with strong evidence that fast is enough, the share sent to reasoning.
    """

    usd: Estimate
    parts_usd: Mapping[str, float]
    share_reasoning: Estimate
    switches: Estimate
    warm_switches: Estimate
    missed: Estimate
    agreement: Estimate | None
    under: Estimate | None
    over: Estimate | None


@dataclass(frozen=True, slots=True)
class Today:
    """What people and product chose in the log.

    Attributes:
        usd: USD for 1,000 turns, of those whose model has a price; None where none has.
        priced_turns: Those turns.
        share_reasoning: Share of the turns on reasoning models, where the class is known.
        needed: Expected share of those turns that need reasoning, by the scores.
        missed: Of the turns of known class that need reasoning, by the scores, the expected share
            that fast models served.
        under: Of the turns that need reasoning by the simulated truth, the share that fast models
            served; None without a truth: evidence follows from what was chosen.
    """

    usd: Estimate | None
    priced_turns: int
    share_reasoning: Estimate
    needed: Estimate
    missed: Estimate
    under: Estimate | None


@dataclass(frozen=True, slots=True)
class LoggedSums:
    """What the log itself did, by conversation, shape `(c,)` each.

    Attributes:
        usd: What was paid, for turns whose model has a price.
        priced: Such turns.
        known: Turns whose class is known.
        reasoning: Of them, those on reasoning models.
        needed: Expected turns of known class that need reasoning, by the scores.
        missed: Of them, those that fast models served.
        needs: Turns of known class that need reasoning by evidence.
        under: Of them, those that fast models served.
    """

    usd: Floats
    priced: Floats
    known: Floats
    reasoning: Floats
    needed: Floats
    missed: Floats
    needs: Floats
    under: Floats

    @classmethod
    def from_log(cls, log: ScoredLog, need: Floats) -> LoggedSums:
        """Add up a log.

        Args:
            log: The log.
            need: As for `sums_of`.
        """
        turns, known = log.turns, log.logged_class != NO_LABEL
        on_fast = log.logged_class == LABEL_FAST
        own_need = np.where(known, np.nan_to_num(need), 0.0)
        needs = np.zeros(len(turns), bool) if log.labels is None else log.labels == LABEL_REASONING
        return cls(
            usd=turns.sums(np.nan_to_num(log.logged_usd)),
            priced=turns.sums(np.isfinite(log.logged_usd)),
            known=turns.sums(known),
            reasoning=turns.sums(log.logged_class == LABEL_REASONING),
            needed=turns.sums(own_need),
            missed=turns.sums(own_need * on_fast),
            needs=turns.sums(needs & known),
            under=turns.sums(needs & on_fast),
        )

    def of(self, conversations: Bools) -> LoggedSums:
        """The sums of some conversations, shape `(c,)`."""
        own = {each.name: getattr(self, each.name)[conversations] for each in fields(self)}
        return LoggedSums(**own)

    def today(self, *, is_truth: bool) -> Today:
        """Ratios with intervals; `is_truth` where evidence is the simulated truth."""
        return Today(
            ratio(COST_TURNS * self.usd, self.priced, "amount") if self.priced.any() else None,
            int(self.priced.sum()),
            _share(self.reasoning, self.known),
            _share(self.needed, self.known),
            _share(self.missed, self.needed),
            _share(self.under, self.needs) if is_truth and self.needs.any() else None,
        )


def sums_of(
    log: ScoredLog, walked: Walked, targets: Mapping[ModelClass, Target], need: Floats
) -> Sums:
    """Add up what a policy did, by conversation.

    Args:
        log: What was walked.
        walked: What the policy did.
        targets: Prices.
        need: The probability that each turn needs reasoning, shape `(n,)`; NaN where not known.
    """
    turns, on = log.turns, walked.on_reasoning
    known_need = np.nan_to_num(need)
    is_known = log.logged_class != NO_LABEL
    was_reasoning = log.logged_class == LABEL_REASONING
    labels = log.labels if log.labels is not None else np.full(len(on), NO_LABEL, np.int8)
    needs, fine = labels == LABEL_REASONING, labels == LABEL_FAST
    return Sums(
        turns=np.diff(turns.starts).astype(np.float64),
        usd=spend_usd(turns, walked, targets),
        paid_usd=turns.sums(_paid(log, walked, targets)),
        reasoning=turns.sums(on),
        switches=turns.sums(walked.switched),
        warm_switches=turns.sums(walked.left_warm),
        needed=turns.sums(known_need),
        missed=turns.sums(np.where(on, 0.0, known_need)),
        known=turns.sums(is_known),
        agreed=turns.sums(is_known & (on == was_reasoning)),
        needs=turns.sums(needs),
        under=turns.sums(needs & ~on),
        fine=turns.sums(fine),
        over=turns.sums(fine & on),
    )


def _paid(log: ScoredLog, walked: Walked, targets: Mapping[ModelClass, Target]) -> Floats:
    """USD of the turns whose logged model has a price, 0 elsewhere, shape `(n,)`."""
    turns, usd = log.turns, np.zeros(len(log.turns))
    for name, target in targets.items():
        rows = np.flatnonzero(
            (walked.on_reasoning == (name == "reasoning")) & np.isfinite(log.logged_usd)
        )
        cached = walked.cached_tokens[rows].astype(np.float64)
        prices = target.prices
        usd[rows] = (
            cached * prices.read_usd_per_mtok
            + (turns.prompt_tokens[rows] - cached) * prices.fresh_usd_per_mtok
            + turns.output_tokens[name][rows] * prices.output_usd_per_mtok
        ) / 1e6
    return usd


def measured(sums: Sums) -> Measured:
    """Ratios with intervals that take whole conversations."""
    per_turn = COST_TURNS / max(sums.turns.sum(), 1.0)
    conversations = np.ones(len(sums.turns))
    on_one_class = float(sums.reasoning.sum()) in (0.0, float(sums.turns.sum()))
    return Measured(
        usd=ratio(COST_TURNS * sums.total_usd, sums.turns, "amount"),
        parts_usd={part: float(usd.sum() * per_turn) for part, usd in sums.usd.items()},
        share_reasoning=_share(sums.reasoning, sums.turns),
        switches=ratio(sums.switches, conversations, "amount"),
        warm_switches=ratio(sums.warm_switches, conversations, "amount"),
        missed=_share(sums.missed, sums.needed),
        agreement=_share(sums.agreed, sums.known) if sums.known.any() else None,
        under=_shown(sums.under, sums.needs, is_certain=on_one_class),
        over=_shown(sums.over, sums.fine, is_certain=on_one_class),
    )


def _shown(part: Floats, whole: Floats, *, is_certain: bool) -> Estimate | None:
    """A share of turns with evidence; None where there are none.

    Where evidence shows none or all, the interval is that of so many independent conversations.

    Args:
        part: Turns by conversation.
        whole: The same, of all turns with such evidence.
        is_certain: Whether the policy sends every turn to one class, so that nothing is uncertain.
    """
    total = float(whole.sum())
    if not total:
        return None
    estimate = _share(part, whole)
    if is_certain or 0 < part.sum() < total:
        return estimate
    return all_or_none(estimate.value, int(np.count_nonzero(whole)))


def _share(part: Floats, whole: Floats) -> Estimate:
    """A share with its interval, which ends at 0 and 1."""
    return inside(ratio(part, whole, "share"), "share")


def saving(of: Sums, against: Sums) -> Estimate:
    """USD for 1,000 turns that one policy costs less than another, paired by conversation."""
    return ratio(COST_TURNS * (against.total_usd - of.total_usd), of.turns)
