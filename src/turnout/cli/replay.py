"""`turnout replay`: routers and a turns table in, what each policy would have cost out."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    CONFIG_OPTION,
    ENGINE_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    new_table,
    next_serve,
    print_json,
    progress_bars,
    say,
    stdout,
    with_interval,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.replay.outcomes import Outcomes
    from turnout.replay.stage import ReplayReport


@verb(
    "turnout replay session-router/ conversation-router/ turns.parquet -o replay/ "
    "--reasoning-model claude-opus-4-5 --fast-model claude-haiku-4-5"
)
@click.argument("paths", nargs=-1, required=True, type=INPUT_PATH, metavar="ROUTER … TURNS")
@OUTPUT_OPTION
@click.option(
    "--reasoning-model",
    help="Model that would serve the reasoning class.  [default: the settings file's target]",
)
@click.option(
    "--fast-model",
    help="Model that would serve the fast class.  [default: the settings file's target]",
)
@click.option(
    "--labels",
    type=INPUT_PATH,
    help="What `turnout label` wrote, to report misses by strong evidence too.",
)
@click.option(
    "--by",
    metavar="SEGMENT",
    help="Split costs by a column of the log that `turnout ingest --keep` kept.",
)
@click.option(
    "--max-miss",
    type=float,
    default=0.10,
    show_default=True,
    help="Of the messages that need reasoning, the share that the recommendation may miss, as the "
    "scores expect it: an estimate, not the true share.",
)
@click.option(
    "--miss-usd",
    type=click.FloatRange(min=0),
    help="The cost of a miss to you, in USD, for the priced policy.  [default: the settings "
    "file's, or from the threshold]",
)
@ENGINE_OPTION
@CONFIG_OPTION
@JSON_OPTION
def command(
    paths: tuple[Path, ...],
    output: Path,
    reasoning_model: str | None,
    fast_model: str | None,
    labels: Path | None,
    by: str | None,
    max_miss: float,
    miss_usd: float | None,
    engine: str,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Say what each policy would have cost on TURNS, with the scores of each ROUTER.

    One router, or one of each architecture: both are judged on the same turns. Every turn is scored
    once; the scores are stored beside the report and used again. Writes replay.html, replay.json,
    policies.csv and router.toml, the settings that serve what is recommended. No router is changed.
    """
    if len(paths) < 2:
        raise click.UsageError("found one path; expected one or two routers and a turns table")

    from turnout.replay.evidence import Evidence
    from turnout.replay.stage import replay
    from turnout.settings import load_settings

    settings = load_settings(config)
    targets = settings.targets_of(reasoning_model, fast_model)
    with progress_bars() as on_progress:
        report = replay(
            paths[:-1],
            paths[-1],
            output,
            catalog=settings.merged_catalog(),
            targets=targets,
            evidence=Evidence(labels),
            by=by,
            max_miss=max_miss,
            priced=settings.priced_policy(miss_usd),
            engine=engine,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(asdict(report))
        return
    _show(report, output)
    advice = report.comparison.recommendation
    if advice is not None:
        out = stdout()
        out.print(
            f"Settings that serve it: {output / 'router.toml'}; put them under [router] in your "
            "settings file."
        )
        router = next(p for p in paths[:-1] if _architecture(p) == advice.router)
        next_serve(router, config)


def _architecture(router: Path) -> str:
    from turnout.routing import RouterFolder

    return RouterFolder.read(router).spec.formatter.architecture


def _show(report: ReplayReport, output: Path) -> None:
    from rich.table import Table

    from turnout.replay.page import caution

    out = stdout()
    table = Table(
        "policy", "threshold", "USD, 1,000 turns", "beside always reasoning", "to reasoning",
        "missed, expected",
        title=f"{report.turns:,} turns of {report.conversations:,} conversations",
        title_justify="left",
    )  # fmt: skip
    today = report.comparison.today
    if math.isfinite(today.share_reasoning.value):
        table.add_row(
            "today", "–", with_interval(today.usd, "{:.2f}"), "–",
            f"{today.share_reasoning.value:.1%}", f"at most {today.missed.value:.1%}",
        )  # fmt: skip
    for row in report.comparison.served:
        table.add_row(
            row.name,
            "–" if row.threshold is None else f"{row.threshold:.3f}",
            with_interval(row.measured.usd, "{:.2f}"),
            with_interval(row.against_reasoning, "{:+.2f}"),
            f"{row.measured.share_reasoning.value:.1%}",
            f"{row.measured.missed.value:.1%}",
        )
    out.print(table)
    advice = report.comparison.recommendation
    if advice is None:
        out.print(f"No threshold keeps the expected misses under {report.max_miss:.0%}.")
    else:
        out.print(
            f"{advice.verdict.capitalize()}: {advice.policy} at threshold {advice.threshold:.3f} "
            f"({advice.router} router), for at most {advice.missed:.0%} expected misses.",
            style="bold",
        )
        for reason in advice.reasons:
            out.print(f"  {reason}.")
    out.print(caution(report.evidence))
    for line in _warnings(report):
        out.print(line)
    if report.outcomes is not None:
        _show_outcomes(report.outcomes)
    out.print(f"Report: {output / 'replay.html'}")


def _show_outcomes(outcomes: Outcomes) -> None:
    table = new_table(
        f"By the outcomes of {outcomes.turns:,} turns whose class was left to chance",
        ("policy", "outcome", "as logged", "self-normalised", "effective turns"),
        (0, 1),
    )
    for row in outcomes.rows:
        estimate = row.estimate
        shown = (
            (with_interval(estimate.snips, "{:.3f}"), f"{estimate.effective_turns:,.0f}")
            if estimate
            else ("too few turns", "–")
        )
        table.add_row(row.policy, row.outcome, with_interval(row.logged, "{:.3f}"), *shown)
    stdout().print(table)


def _warnings(report: ReplayReport) -> list[str]:
    lines = []
    if report.estimated:
        lines.append(
            f"Of {report.estimated:.0%} of the turns the tokenizer counts tokens: the log does not."
        )
    if report.left_out:
        lines.append(f"Left out: {report.left_out:,} conversations without their first turn.")
    if report.evidence_left_out:
        lines.append(
            f"Evidence of {report.evidence_left_out:,} turns is left out: their conversations "
            "trained a router."
        )
    if report.evidence is not None and not report.held_out:
        lines.append(
            "Evidence may be of conversations that trained a router: its data set is neither where "
            "the router's manifest.json says nor beside the router."
        )
    if report.unpriced:
        named = ", ".join(f"{model} ({turns:,})" for model, turns in report.unpriced.items())
        lines.append(f"Without a price, left out of what the log paid: {named}.")
    return lines
