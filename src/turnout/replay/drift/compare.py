"""A router's reference and new traffic → tests of every quantity, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnout.routing.reference import QUANTITIES, SCORE, Bins, Quantity, Reference
from turnout.routing.traffic_rows import TrafficRows
from turnout.stats.bootstrap import Estimate
from turnout.stats.histograms import Difference, Histogram, difference, holm
from turnout.stats.intervals import NORMAL_975

Verdict = Literal["leave", "recalibrate", "retrain"]

LEVEL = 0.05
# Less is no reason to do anything, however sure it is.
FLOOR = 0.10
DECISION_FLOOR = 0.05
DECISION = "decision"
NO_TEXT = "the journal keeps no text"
# Where chance alone may give this distance, a change could go unseen.
_ROUGH = 0.20

TITLES = {
    "length": "message length, characters",
    "turns": "turns of a conversation",
    "script": "script of most letters",
    "piece_chars": "characters for a word piece",
    "surprise": "unusual words, nats a word piece",
    "kind": "kinds of messages, by their words",
    SCORE: "score, p_reasoning",
    DECISION: "sent to reasoning",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity of the reference and of the new traffic.

    Attributes:
        name: One of `TITLES`.
        title: For a person, with the unit.
        is_input: Whether it is of what people write, rather than of what the router makes of it.
        bins: What a person calls the bins.
        expected: Share of the reference in each.
        seen: Share of the new traffic in each.
        median_before: Of the reference; None of names and of decisions.
        median_now: Of the new traffic.
        distance: Share of the traffic that lies in another bin, in [0, 1].
        p_value: Adjusted for the number of tests.
        moved: Whether the distance is no chance, and is large enough to matter.
        unexplained: Of an input, the distance once the reference is moved to the new share of
            reasoning.
        unexplained_p_value: Adjusted for the number of tests.
        needs_training: Whether that distance is no chance, and large enough to matter.
    """

    name: str
    title: str
    is_input: bool
    bins: tuple[str, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    median_before: float | None
    median_now: float | None
    distance: Estimate
    p_value: float
    moved: bool
    unexplained: Estimate | None
    unexplained_p_value: float | None
    needs_training: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All quantities, and what follows.

    Attributes:
        verdict: What to do.
        because: Why, in words.
        quantities: Every quantity that could be tested.
        share_before: Estimated share of the reference that needs reasoning.
        share_now: The same of the new traffic.
        untested: Quantity → why it could not be tested.
    """

    verdict: Verdict
    because: tuple[str, ...]
    quantities: tuple[Compared, ...]
    share_before: Estimate
    share_now: Estimate
    untested: Mapping[str, str]


def compare(reference: Reference, rows: TrafficRows, threshold: float) -> Comparison:
    """Test every quantity that the rows know.

    Args:
        reference: Of the router.
        rows: New traffic.
        threshold: That stands, for the population of the scores.
    """
    untested: dict[str, str] = {}
    pairs: dict[str, tuple[Histogram, Histogram, Sequence[str]]] = {}
    for name in QUANTITIES:
        quantity = reference.quantities[name]
        new = rows.counted(name, quantity.bins)
        if new is None:
            untested[TITLES[name]] = NO_TEXT
        elif len(quantity.bins) == 1:
            untested[TITLES[name]] = "it was the same in all of the reference"
        else:
            pairs[name] = (quantity.histogram, new, quantity.bins.labels())
    of_decision = _decided(reference.quantities[SCORE].bins, threshold)
    before, now, _ = pairs[SCORE]
    decided = before.merged(of_decision), now.merged(of_decision)
    pairs[DECISION] = (*decided, ("reasoning", "fast"))
    compared = _compared(pairs, reference.quantities, rows)
    share_before, share_now = _share(before), _share(now)
    same_share = share_now.low <= share_before.high and share_before.low <= share_now.high
    verdict, because = _verdict(compared, same_share=same_share)
    return Comparison(
        verdict=verdict,
        because=(*because, *_limits(compared, untested)),
        quantities=compared,
        share_before=share_before,
        share_now=share_now,
        untested=untested,
    )


def _compared(
    pairs: Mapping[str, tuple[Histogram, Histogram, Sequence[str]]],
    quantities: Mapping[str, Quantity],
    rows: TrafficRows,
) -> tuple[Compared, ...]:
    raw = {name: difference(before, now) for name, (before, now, _) in pairs.items()}
    p_values = dict(zip(raw, holm([d.p_value for d in raw.values()]), strict=True))
    # What the share does not explain asks for training where it is of inputs: the shape of scores
    # follows their calibration too.
    inputs = [name for name in pairs if _is_input(name)]
    moved = {name: difference(*pairs[name][:2], at_new_prior=True) for name in inputs}
    moved_p = dict(zip(inputs, holm([moved[name].p_value for name in inputs]), strict=True))
    results = []
    for name, (_, _, bins) in pairs.items():
        known = quantities.get(name)
        results.append(
            Compared(
                name=name,
                title=TITLES[name],
                is_input=_is_input(name),
                bins=tuple(bins),
                expected=tuple(raw[name].expected.tolist()),
                seen=tuple(raw[name].seen.tolist()),
                median_before=known.median if known else None,
                median_now=rows.median(name) if known else None,
                distance=_estimate(raw[name]),
                p_value=p_values[name],
                moved=p_values[name] < LEVEL and raw[name].distance >= _floor(name),
                unexplained=_estimate(moved[name]) if name in moved else None,
                unexplained_p_value=moved_p.get(name),
                needs_training=name in moved
                and moved_p[name] < LEVEL
                and moved[name].distance >= FLOOR,
            )
        )
    changed = any(result.moved for result in results)
    return tuple(replace(r, needs_training=r.needs_training and changed) for r in results)


def _verdict(compared: Sequence[Compared], *, same_share: bool) -> tuple[Verdict, list[str]]:
    moved = [c for c in compared if c.moved]
    if not moved:
        return "leave", ["No quantity has moved beyond chance by enough to matter."]
    if others := [c for c in compared if c.needs_training]:
        return "retrain", [_reason(c) for c in others] + [
            "Another share of messages that need reasoning does not explain it."
        ]
    if same_share and not any(c.is_input for c in moved):
        reason = (
            "The messages are of the same kinds as before, and no other share of them is shown to "
            "need reasoning: the router scores them differently."
        )
    else:
        reason = (
            "Another share of messages that need reasoning explains it: the messages are of the "
            "same kinds as before."
        )
    return "recalibrate", [*(_reason(c) for c in moved), reason]


def _reason(compared: Compared) -> str:
    title = compared.title[0].upper() + compared.title[1:]
    if compared.name == DECISION:
        now, before = compared.seen[0], compared.expected[0]
        return f"{title}: {100 * now:.1f} % of the messages, before {100 * before:.1f} %."
    share = f"{100 * compared.distance.value:.0f} % of the traffic lies in another bin than before"
    if compared.median_now is None or compared.median_before is None:
        return f"{title}: {share}."
    return (
        f"{title}: {share}; the median is {compared.median_now:,g}, before "
        f"{compared.median_before:,g}."
    )


def _limits(compared: Sequence[Compared], untested: Mapping[str, str]) -> list[str]:
    """What could go unseen."""
    limits = []
    chance = max(c.distance.high - c.distance.value for c in compared)
    if chance >= _ROUGH:
        limits.append(
            "There are few conversations: of some quantities a change of less than "
            f"{100 * chance:.0f} % of the traffic would go unseen."
        )
    if any(why == NO_TEXT for why in untested.values()):
        limits.append("The messages themselves were not compared, since the journal keeps no text.")
    return limits


def _is_input(name: str) -> bool:
    return name not in (SCORE, DECISION)


def _floor(name: str) -> float:
    return DECISION_FLOOR if name == DECISION else FLOOR


def _estimate(tested: Difference) -> Estimate:
    return Estimate(tested.distance, tested.low, tested.high)


def _share(counted: Histogram) -> Estimate:
    half = NORMAL_975 * float(np.sqrt(max(counted.covariance[-1, -1], 0.0)))
    return Estimate(counted.prior, max(0.0, counted.prior - half), min(1.0, counted.prior + half))


def _decided(bins: Bins, threshold: float) -> NDArray[np.float64]:
    """How much of each bin of scores goes to reasoning, and how much to fast; shape `(2, k)`.

    A bin that the threshold cuts is shared out as if its scores were even, alike on both sides.
    """
    edges = np.array([0.0, *bins.edges, 1.0])
    above = np.clip((edges[1:] - threshold) / np.maximum(np.diff(edges), 1e-12), 0.0, 1.0)
    return np.array([above, 1 - above])
