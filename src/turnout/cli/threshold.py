"""`turnout threshold`: a router and its traffic → the router with a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from turnout.cli.console import (
    CONFIG_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    next_serve,
    print_json,
    progress_bars,
    say,
    stdout,
    with_interval,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.catalog import Price
    from turnout.records import ModelClass
    from turnout.replay.threshold import ThresholdReport
    from turnout.settings import Settings
    from turnout.stats.bootstrap import Estimate


@verb(
    "turnout threshold session-router/ turns.parquet --budget 5 "
    "--reasoning-model claude-opus-4-5 --fast-model claude-haiku-4-5"
)
@click.argument("router", type=INPUT_PATH)
@click.argument("data", type=INPUT_PATH)
@click.option("--share", type=float, help="Share of decisions to send to reasoning, such as 0.3.")
@click.option("--budget", type=float, help="Highest cost of 1,000 messages, in USD.")
@click.option(
    "--max-miss",
    type=float,
    help="Of the messages that need reasoning, the highest share sent to fast, such as 0.05.",
)
@click.option("--confidence", default=0.95, show_default=True, help="The confidence of --max-miss.")
@click.option(
    "--reasoning-model",
    help="Model that serves the reasoning class, for costs.  [default: the settings file's target]",
)
@click.option(
    "--fast-model",
    help="Model that serves the fast class, for costs.  [default: the settings file's target]",
)
@click.option("--write", is_flag=True, help="Write the threshold into the router folder.")
@CONFIG_OPTION
@JSON_OPTION
def command(
    router: Path,
    data: Path,
    share: float | None,
    budget: float | None,
    max_miss: float | None,
    confidence: float,
    reasoning_model: str | None,
    fast_model: str | None,
    write: bool,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Choose the threshold of ROUTER on DATA, and compare it with others.

    Nothing changes without --write. Scores are stored beside the router, so that the next call on
    the same messages is fast. One of --share, --budget and --max-miss is required.

    DATA is your own turns table, or a data set folder, whose test rows are used. --max-miss needs
    a data set. It holds for new messages like these: with 95 % confidence, at most that share of
    the messages that need reasoning goes to fast.
    """
    from turnout.replay.threshold import Goal, choose_threshold
    from turnout.settings import load_settings

    goal = Goal(share, budget, max_miss, confidence)
    settings = load_settings(config)
    with progress_bars() as on_progress:
        report = choose_threshold(
            router,
            data,
            goal,
            catalog=settings.merged_catalog(),
            prices=_prices(settings, reasoning_model, fast_model),
            policy=settings.policy(),
            write=write,
            on_progress=on_progress,
        )
    if as_json:
        print_json(asdict(report))
    else:
        _show(report)
        if write:
            next_serve(router, config)
        else:
            say(
                f"{router} still has {report.before:.4f}. The same command with --write changes it."
            )
    served = settings.router.threshold
    if served is not None and served != report.value:
        say(
            f"{config}: [router] threshold = {served:g} is served in place of the chosen "
            f"{report.value:.4f}. Delete that line to serve what was chosen."
        )


def _prices(
    settings: Settings, reasoning_model: str | None, fast_model: str | None
) -> dict[ModelClass, Price] | None:
    """The prices of both targets; None where neither is named."""
    from turnout.settings import unpriced

    models = settings.models_of(reasoning_model, fast_model)
    if not any(models.values()):
        return None
    catalog = settings.merged_catalog()
    prices = {}
    for name, model in models.items():
        price = catalog.price(model)
        if price is None:
            raise unpriced(name, model)
        prices[name] = price
    return prices


def _show(report: ThresholdReport) -> None:
    out = stdout()
    out.print(f"Threshold {report.value:.4f} (was {report.before:.4f}): {report.origin}.")
    out.print(_curve_table(report))
    rows = {"balanced": "balanced rows", "log": "messages as the log has them"}[report.population]
    out.print(f"Scores and threshold are for {rows}; the policy is {report.policy}.")
    out.print(f"Of {report.rows:,} decisions {_percent(report.share)} go to reasoning.")
    for line in _lines(report):
        out.print(line)
    if len(report.by_turn) > 1:
        shares = ", ".join(f"{t.turns}: {t.share:.1%} of {t.decisions:,}" for t in report.by_turn)
        out.print(f"By turn index: {shares}.")
    if report.left_out:
        out.print(f"Left out: {report.left_out:,} conversations whose first turn is not there.")
    if report.cost is not None:
        cost = report.cost
        out.print(
            f"Cost of 1,000 messages: {cost.usd:.2f} USD; all fast {cost.fast_usd:.2f}, all "
            f"reasoning {cost.reasoning_usd:.2f}. The log counts the tokens of {cost.counted:.0%} "
            "of them; the others are assumed."
        )
    if report.warning:
        out.print(report.warning, style="bold")


def _curve_table(report: ThresholdReport) -> Table:
    table = Table("threshold", "to reasoning", "USD, 1,000 messages", "missed")
    for point in report.curve:
        usd = "–" if point.usd is None else f"{point.usd:.2f}"
        table.add_row(f"{point.threshold:.4f}", f"{point.share:.1%}", usd, f"{point.missed:.1%}")
    table.caption = (
        "missed: by the labels" if report.calibration else "missed: expected, by the scores"
    )
    return table


def _lines(report: ThresholdReport) -> Iterator[str]:
    """Lines that are printed only if they apply."""
    for share in report.nearest:
        yield (
            f"Possible share: {share.share:.1%}, at threshold {share.threshold:.6g}. Decisions of "
            "one score go the same way, so none is between."
        )
    if report.recall is not None:
        yield f"Of those that need reasoning {_percent(report.recall)} get it."
    if report.need is not None:
        yield f"If scores are calibrated here, {_percent(report.need)} need reasoning (estimated)."
    if report.calibration is not None:
        error = report.calibration.ece
        yield (
            f"Calibration error {error.value:.3f} ({error.low:.3f} … {error.high:.3f}); chance "
            f"alone gives up to {report.calibration.chance:.3f}."
        )


def _percent(share: Estimate) -> str:
    return with_interval(share, "{:.1%}")
