"""`turnout switches`: how people use and switch models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    CONFIG_OPTION,
    ENGINE_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    new_table,
    next_command,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from rich.console import Console

    from turnout.switches import SwitchReport
    from turnout.switches.report import Share

_MAX_PAIRS = 10


@verb("turnout switches turns.parquet -o switches/")
@click.argument("turns", type=INPUT_PATH)
@click.option(
    "-o", "--output", type=INPUT_PATH,
    help="Also write report.html, report.json and switches.parquet here.",
)  # fmt: skip
@click.option(
    "--examples", type=click.IntRange(0), default=0, show_default=True,
    help="Quote this many switches of each kind, shortened.",
)  # fmt: skip
@click.option(
    "--around", type=click.IntRange(0), default=0,
    help="Also write switch_turns.parquet: this many turns before and after each switch.",
)  # fmt: skip
@ENGINE_OPTION
@CONFIG_OPTION
@JSON_OPTION
def command(
    turns: Path,
    output: Path | None,
    examples: int,
    around: int,
    engine: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Report which models the conversations of TURNS use, and how they switch.

    An upgrade goes from a fast to a reasoning model, a downgrade the other way, a lateral switch
    stays in the class; each may also change the provider. A fallback is a switch that a product
    made: after a rate limit, as a retry, for a sub-agent, or for one turn and back.
    """
    from turnout.settings import catalog_of
    from turnout.stage import report_json
    from turnout.switches import report_switches

    if around and output is None:
        raise click.UsageError("--around writes switch_turns.parquet; expected -o FOLDER with it.")
    with progress_bars() as on_progress:
        report = report_switches(
            turns,
            catalog_of(config),
            out=output,
            n_examples=examples,
            around=around,
            engine=engine,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(report_json(report))
    else:
        show(report, stdout())
        if output is not None:
            say(f"Page: {output / 'report.html'}")
        next_command("label", turns, "-o", turns.with_name("labels.parquet"))


def show(report: SwitchReport, out: Console) -> None:
    """Print the report as tables."""
    _show_models(report, out)
    out.print(
        f"{report.turns:,} turns: {report.turns_by_class['reasoning']:,} on reasoning models, "
        f"{report.turns_by_class['fast']:,} on fast ones, {report.turns_by_class['unknown']:,} on "
        f"models the catalog does not know, {report.turns_without_model:,} name no model."
    )
    if report.unknown_models:
        names = ", ".join(f"{name} ({n:,})" for name, n in report.unknown_models.items())
        out.print(f"Not in the catalog, left out rather than guessed: {names}")
    if report.switch_count == 0:
        out.print("No conversation switches models.")
        return
    _show_kinds(report, out)
    _show_fallbacks(report, out)
    _show_turns(report, out)
    _show_pairs(report, out)
    _show_examples(report, out)


def _show_models(report: SwitchReport, out: Console) -> None:
    from turnout.switches.report import MODEL_BUCKETS

    rows = [
        (
            MODEL_BUCKETS[name],
            *_of(report.by_models[name], report.conversations),
            *_of(report.by_models_chosen[name], report.conversations),
        )
        for name in report.by_models
    ]
    _print(
        out,
        f"Models used in a conversation ({report.conversations:,} conversations)",
        ("models used", "conversations", "share", "without fallbacks", "share"),
        rows,
    )


def _show_kinds(report: SwitchReport, out: Console) -> None:
    medians = {median.kind: median for median in report.medians}
    rows = []
    for kind in report.switches:
        median = medians[kind.kind]
        rows.append(
            (
                kind.kind,
                f"{kind.count:,}",
                f"{kind.count - kind.fallbacks:,}",
                f"{kind.fallbacks:,}",
                f"{kind.provider_switches:,}",
                _median(median.turns_before),
                _median(median.turns_after),
                f"{_median(median.chars_before)} → {_median(median.chars_at)}",
            )
        )
    _print(
        out,
        "Switches, and medians around those that people chose",
        ("kind", "all", "by a person", "fallback", "other provider", "turns before", "after",
         "characters before → at"),
        rows,
    )  # fmt: skip


def _show_fallbacks(report: SwitchReport, out: Console) -> None:
    _print(
        out,
        "Fallbacks: changes that a product made, and the way back",
        ("kind", "count", "what it is"),
        [(kind.kind, f"{kind.count:,}", kind.reason) for kind in report.fallbacks],
        text_columns=(0, 2),
    )


def _show_turns(report: SwitchReport, out: Console) -> None:
    rows = [
        (
            rate.name,
            f"{rate.turns:,}",
            f"{rate.switches.count:,}",
            *(_share(part) for part in (rate.switches, rate.upgrades, rate.downgrades)),
            f"{rate.fallbacks.count:,}",
        )
        for rate in [*report.by_turn, report.rate]
        if rate.turns
    ]
    _print(
        out,
        "Where people switch, % of the turns that could (95 % interval)",
        ("turn", "could", "did", "switches", "upgrades", "downgrades", "fallbacks"),
        rows,
    )


def _show_pairs(report: SwitchReport, out: Console) -> None:
    _print(
        out,
        "From one model to another",
        ("from", "to", "kind", "all", "fallback", "of the turns on the first"),
        [
            (
                pair.from_model,
                pair.to_model,
                pair.kind,
                f"{pair.count:,}",
                f"{pair.fallbacks:,}",
                f"{pair.rate:.1%}",
            )
            for pair in report.pairs[:_MAX_PAIRS]
        ],
        text_columns=(0, 1, 2),
    )
    if len(report.pairs) > _MAX_PAIRS:
        out.print(f"… and {len(report.pairs) - _MAX_PAIRS:,} more pairs (--json shows all).")


def _show_examples(report: SwitchReport, out: Console) -> None:
    for example in report.examples:
        out.print(
            f"{example.kind} at turn {example.turn_index} of {example.conversation_id}\n"
            f"  {example.from_model}: {example.before or '–'}\n"
            f"  {example.to_model}: {example.first}"
        )


def _print(
    out: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    text_columns: Sequence[int] = (0,),
) -> None:
    table = new_table(title, columns, text_columns)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _of(count: int, total: int) -> tuple[str, str]:
    return f"{count:,}", f"{count / total:.1%}"


def _share(share: Share) -> str:
    return f"{share.value * 100:.2f} ({share.low * 100:.2f} … {share.high * 100:.2f})"


def _median(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
