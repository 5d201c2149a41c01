"""Measurements → plain findings with codes, explained in docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from turnout.evaluation.measure import MAIN_METRICS, ReferenceResult
from turnout.evaluation.probes import ProbeResult
from turnout.evaluation.truncation import Truncation
from turnout.samples import Samples

Outcome = Literal["pass", "issue", "not applicable"]

MAX_ECE = 0.02
MAX_INTERVAL = 0.10
# Of fewer, resampled groups give intervals that are too narrow: Cameron, Gelbach and Miller (2008),
# "Bootstrap-based improvements for inference with clustered errors".
MIN_GROUPS = 10
MAX_TRUNCATED_MESSAGES = 0.05
# The least rank correlation between a request and a bare follow-up to it.
MIN_FOLLOWING = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        code: Stable, explained in docs/evaluation.md.
        outcome: `pass`, `issue`, or `not applicable`.
        sentence: The outcome in words, with numbers.
    """

    code: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Leak:
    """How many conversations, and inputs, are both in training and in test."""

    conversations: int
    texts: int

    @classmethod
    def of(cls, train: Samples, test: Samples) -> Leak:
        """Count them."""
        texts = {(i.message, i.context) for i in train.inputs}
        return cls(
            len(set(train.conversation_ids) & set(test.conversation_ids)),
            len(texts & {(i.message, i.context) for i in test.inputs}),
        )


def findings(
    results: Sequence[ReferenceResult],
    leak: Leak,
    *,
    trained_on_it: bool | None,
    truncation: Truncation,
    probed: ProbeResult | None,
) -> list[Finding]:
    """Every check, in order of its code.

    Args:
        results: By reference: simulated truth first, if any; the data set's own labels last, which
            calibration is checked on.
        leak: What the test rows share with the training rows.
        trained_on_it: Whether the router was trained on this data set; None if unknown.
        truncation: What the token budget removed from the test rows.
        probed: The results of the probes; None for a session router, or if the data set has too
            few first messages or stores no previous turns.
    """
    result = results[0]
    return [
        _ahead_of("E001", result, "length"),
        _ahead_of("E002", result, "TF-IDF + linear"),
        _calibrated(results[-1]),
        _narrow(result),
        _no_leak(leak),
        _uses_context(result),
        _same_data(trained_on_it),
        _fits(truncation),
        _same_first_turns(probed),
        _follow_ups_inherit(probed),
        _unrelated_history(probed),
    ]


def _ahead_of(code: str, result: ReferenceResult, baseline: str) -> Finding:
    rivals = [m for m in result.methods if m.kind == "baseline" and m.name.startswith(baseline)]
    best = max(rivals, key=lambda m: m.metrics[result.main_metric].value)
    lead, metric = best.lead, MAIN_METRICS[result.main_metric]
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


def _calibrated(result: ReferenceResult) -> Finding:
    error = result.calibration
    numbers = (
        f"{error.ece.value:.3f} on balanced rows by {result.reference}, where chance alone gives a "
        f"perfect score up to {error.chance:.3f}; with chance taken out {error.debiased.value:.3f} "
        f"({error.debiased.low:.3f} to {error.debiased.high:.3f})"
    )
    if result.log is not None:
        log = result.log
        numbers += (
            f". Where {100 * log.prior:.0f} % need reasoning, as in the log, scores for the log "
            f"have {log.calibration.ece.value:.3f}"
        )
    if error.ece.value <= error.chance or error.debiased.value <= MAX_ECE:
        return Finding("E003", "pass", f"Scores mean what they say: calibration error {numbers}.")
    return Finding("E003", "issue", f"Scores are not probabilities: calibration error {numbers}.")


def _narrow(result: ReferenceResult) -> Finding:
    metric = result.methods[0].metrics[result.main_metric]
    width = metric.high - metric.low
    counted = "1 group" if result.groups == 1 else f"{result.groups:,} groups"
    groups = f" in {counted}" if result.groups < result.conversations else ""
    numbers = f"{result.rows:,} rows of {result.conversations:,} conversations{groups}"
    sentence = f"{numbers} give an interval {width:.3f} wide"
    if width > MAX_INTERVAL:
        return Finding("E004", "issue", f"{sentence}: too few to be sure.")
    if result.groups < MIN_GROUPS:
        return Finding(
            "E004",
            "issue",
            f"{sentence}; one from fewer than {MIN_GROUPS} groups or conversations is too narrow.",
        )
    return Finding("E004", "pass", f"{sentence}.")


def _no_leak(leak: Leak) -> Finding:
    sentence = (
        f"{leak.conversations} conversations and {leak.texts} texts are in training and test."
    )
    return Finding("E005", "issue" if leak.conversations or leak.texts else "pass", sentence)


def _uses_context(result: ReferenceResult) -> Finding:
    blind = next((m for m in result.methods if m.kind == "ablation"), None)
    if blind is None or blind.lead is None:
        return Finding("E006", "not applicable", "A session router reads no context.")
    lead, metric = blind.lead, MAIN_METRICS[result.main_metric]
    numbers = f"{lead.value:+.3f} {metric} (95 % interval {lead.low:+.3f} to {lead.high:+.3f})"
    if lead.low > 0:
        return Finding("E006", "pass", f"Previous turns are worth {numbers}.")
    return Finding("E006", "issue", f"Previous turns are not shown to help: {numbers}.")


def _same_data(trained_on_it: bool | None) -> Finding:
    if trained_on_it is None:
        return Finding("E007", "not applicable", "The router does not say what it was trained on.")
    if trained_on_it:
        return Finding("E007", "pass", "The router was trained on this data set's training rows.")
    return Finding(
        "E007",
        "issue",
        "The router was trained on another data set: it may have seen these test rows, and the "
        "baselines were trained on other rows.",
    )


def _fits(truncation: Truncation) -> Finding:
    messages, rows = 100 * truncation.messages_share, 100 * truncation.rows_share
    sentence = (
        f"The token budget of {truncation.max_tokens} cuts the message itself in {messages:.1f} % "
        f"of the rows, and something of the row, previous turns included, in {rows:.1f} %."
    )
    fits = truncation.messages_share <= MAX_TRUNCATED_MESSAGES
    return Finding("E008", "pass" if fits else "issue", sentence)


def _same_first_turns(probed: ProbeResult | None) -> Finding:
    if probed is None:
        return _not_probed("E009")
    sentence = (
        f"{probed.first_turns_alike:,} of {probed.probes:,} first messages are read as a session "
        "router reads them."
    )
    alike = probed.first_turns_alike == probed.probes
    return Finding("E009", "pass" if alike else "issue", sentence)


def _follow_ups_inherit(probed: ProbeResult | None) -> Finding:
    if probed is None:
        return _not_probed("E010")
    following = probed.following
    sentence = (
        "A bare follow-up is scored as the request before it with a rank correlation of "
        f"{following.value:+.2f} (95 % interval {following.low:+.2f} to {following.high:+.2f})."
    )
    return Finding("E010", "pass" if following.value >= MIN_FOLLOWING else "issue", sentence)


def _unrelated_history(probed: ProbeResult | None) -> Finding:
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
