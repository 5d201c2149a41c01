"""Measurements → plain findings with codes, explained in docs/evaluation.md; knows no page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from turnout.evaluation.measure import MAIN_METRICS, Judgement
from turnout.evaluation.probes import Structure
from turnout.evaluation.truncation import Cuts
from turnout.samples import Samples

Outcome = Literal["pass", "issue", "not applicable"]

MAX_ECE = 0.02
MAX_INTERVAL = 0.10
MAX_MESSAGES_CUT = 0.05
# Rank correlation at least, between a request and a bare follow-up to it.
MIN_FOLLOWING = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        code: Stable, explained in docs/evaluation.md.
        outcome: `pass`, `issue`, or `not applicable`.
        sentence: What was found, with numbers.
    """

    code: str
    outcome: Outcome
    sentence: str


def findings(
    judgements: Sequence[Judgement],
    train: Samples,
    test: Samples,
    *,
    trained_on_it: bool | None,
    cuts: Cuts,
    probed: Structure | None,
) -> list[Finding]:
    """Every check, in order of its code.

    Args:
        judgements: The one that matters most first; the data set's own labels last: calibration
            is a promise about those alone.
        train: Training rows of the data set.
        test: Test rows.
        trained_on_it: Whether the router was trained on this data set; None where not known.
        cuts: What the token budget left out of the test rows.
        probed: What probes of its structure showed; None for a session router, or where the data
            set has too few first messages or keeps no previous turns.
    """
    judgement = judgements[0]
    return [
        _ahead_of("E001", judgement, "length"),
        _ahead_of("E002", judgement, "TF-IDF + linear"),
        _calibrated(judgements[-1]),
        _narrow(judgement),
        _no_leak(train, test),
        _uses_context(judgement),
        _knows_training(trained_on_it),
        _fits(cuts),
        _first_turn_alike(probed),
        _follow_ups_follow(probed),
        _history_of_others(probed),
    ]


def _ahead_of(code: str, judgement: Judgement, baseline: str) -> Finding:
    rivals = [m for m in judgement.methods if m.kind == "baseline" and m.name.startswith(baseline)]
    best = max(rivals, key=lambda m: m.metrics[judgement.main_metric].value)
    lead, metric = best.lead, MAIN_METRICS[judgement.main_metric]
    if lead is None or lead.low != lead.low:
        return Finding(code, "not applicable", f"Too few rows to compare with {best.name}.")
    numbers = f"by {lead.value:+.3f} {metric} (95 % interval {lead.low:+.3f} to {lead.high:+.3f})"
    if lead.low > 0:
        return Finding(code, "pass", f"The router is ahead of {best.name} {numbers}.")
    if lead.high < 0:
        return Finding(code, "issue", f"The router is behind {best.name} {numbers}.")
    return Finding(
        code, "issue", f"The router is not shown to be ahead of {best.name}: it leads {numbers}."
    )


def _calibrated(judgement: Judgement) -> Finding:
    found = judgement.calibration
    numbers = (
        f"{found.ece.value:.3f} by {judgement.judge}, where chance alone gives a perfect score up "
        f"to {found.chance:.3f}; with chance taken out {found.debiased.value:.3f} "
        f"({found.debiased.low:.3f} to {found.debiased.high:.3f})"
    )
    if found.ece.value <= found.chance or found.debiased.value <= MAX_ECE:
        return Finding("E003", "pass", f"Scores mean what they say: calibration error {numbers}.")
    return Finding("E003", "issue", f"Scores are not probabilities: calibration error {numbers}.")


def _narrow(judgement: Judgement) -> Finding:
    found = judgement.methods[0].metrics[judgement.main_metric]
    width = found.high - found.low
    numbers = f"{judgement.rows:,} rows of {judgement.conversations:,} conversations"
    if width <= MAX_INTERVAL:
        return Finding("E004", "pass", f"{numbers} give an interval {width:.3f} wide.")
    return Finding(
        "E004", "issue", f"{numbers} give an interval {width:.3f} wide: too few to be sure."
    )


def _no_leak(train: Samples, test: Samples) -> Finding:
    shared = set(train.conversation_ids) & set(test.conversation_ids)
    texts = {(i.message, i.context) for i in train.inputs} & {
        (i.message, i.context) for i in test.inputs
    }
    sentence = f"{len(shared)} conversations and {len(texts)} texts are in training and test."
    return Finding("E005", "issue" if shared or texts else "pass", sentence)


def _uses_context(judgement: Judgement) -> Finding:
    blind = next((m for m in judgement.methods if m.kind == "ablation"), None)
    if blind is None or blind.lead is None:
        return Finding("E006", "not applicable", "A session router reads no context.")
    lead, metric = blind.lead, MAIN_METRICS[judgement.main_metric]
    numbers = f"{lead.value:+.3f} {metric} (95 % interval {lead.low:+.3f} to {lead.high:+.3f})"
    if lead.low > 0:
        return Finding("E006", "pass", f"Previous turns are worth {numbers}.")
    return Finding("E006", "issue", f"Previous turns are not shown to help: {numbers}.")


def _knows_training(trained_on_it: bool | None) -> Finding:
    if trained_on_it is None:
        return Finding("E007", "not applicable", "The router does not say what it was trained on.")
    if trained_on_it:
        return Finding("E007", "pass", "The router was trained on this data set's training rows.")
    return Finding(
        "E007",
        "issue",
        "The router was trained on another data set: it may have seen these test rows, and the "
        "baselines learnt from other rows than it did.",
    )


def _fits(cuts: Cuts) -> Finding:
    sentence = (
        f"The token budget of {cuts.max_tokens} cuts the message itself in "
        f"{cuts.messages_share:.1%} of the rows, and something of the row, previous turns "
        f"included, in {cuts.rows_share:.1%}."
    )
    outcome: Outcome = "pass" if cuts.messages_share <= MAX_MESSAGES_CUT else "issue"
    return Finding("E008", outcome, sentence)


def _first_turn_alike(probed: Structure | None) -> Finding:
    if probed is None:
        return _not_probed("E009")
    sentence = (
        f"{probed.first_turns_alike:,} of {probed.probes:,} first messages are read as a session "
        "router reads them."
    )
    alike = probed.first_turns_alike == probed.probes
    return Finding("E009", "pass" if alike else "issue", sentence)


def _follow_ups_follow(probed: Structure | None) -> Finding:
    if probed is None:
        return _not_probed("E010")
    found = probed.following
    sentence = (
        "A bare follow-up is scored as the request before it with a rank correlation of "
        f"{found.value:+.2f} (95 % interval {found.low:+.2f} to {found.high:+.2f})."
    )
    return Finding("E010", "pass" if found.value >= MIN_FOLLOWING else "issue", sentence)


def _history_of_others(probed: Structure | None) -> Finding:
    if probed is None:
        return _not_probed("E011")
    history, greeting, excess = probed.moved_by_history, probed.moved_by_greeting, probed.excess
    sentence = (
        f"An unrelated conversation before a request moves its score by {history.value:.3f} in the "
        f"mean, a greeting by {greeting.value:.3f}: {excess.value:+.3f} more (95 % interval "
        f"{excess.low:+.3f} to {excess.high:+.3f})."
    )
    return Finding("E011", "issue" if excess.low > 0 else "pass", sentence)


def _not_probed(code: str) -> Finding:
    return Finding(
        code,
        "not applicable",
        "A session router reads no conversation, or the data set keeps too few to probe with.",
    )
