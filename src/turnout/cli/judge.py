"""`turnout judge`: turns → a judge model's answers, within a budget."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    CONFIG_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    new_table,
    next_command,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb
from turnout.errors import SettingsError

if TYPE_CHECKING:
    from turnout.catalog import Price
    from turnout.judge import CostEstimate, JudgeReport


@verb(
    "turnout judge turns.parquet -o judged.parquet "
    "--base-url https://api.openai.com/v1 --model gpt-5-mini --sample 1000 --max-usd 5"
)
@click.argument("turns", type=INPUT_PATH)
@OUTPUT_OPTION
@click.option("--base-url", required=True, help="Endpoint, up to and with its version.")
@click.option("--model", required=True, help="The judge model, as the endpoint names it.")
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable that holds the key; unset for endpoints without one.",
)
@click.option("--sample", type=int, help="Number of random turns to judge.  [default: all]")
@click.option(
    "--max-usd",
    type=float,
    help="The most it may cost, with retries and resumed runs; nothing is sent that could exceed "
    "it.",
)
@click.option(
    "--price",
    type=click.FloatRange(0),
    nargs=2,
    metavar="IN OUT",
    help="USD for a million prompt and a million completion tokens; the catalog's by default.",
)
@click.option("--concurrency", default=8, show_default=True, help="Questions in flight at once.")
@click.option(
    "--redact", is_flag=True, help="Send no e-mail or IP addresses, keys and user names in paths."
)
@click.option("--yes", is_flag=True, help="Do not ask before money is spent.")
@CONFIG_OPTION
@JSON_OPTION
def command(
    turns: Path,
    output: Path,
    base_url: str,
    model: str,
    api_key_env: str,
    sample: int | None,
    max_usd: float | None,
    price: tuple[float, float] | None,
    concurrency: int,
    redact: bool,
    yes: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Ask a model which of TURNS need reasoning, by a fixed rubric; one row a turn.

    Any endpoint of OpenAI chat completions. Messages leave this machine. Answers are stored as they
    arrive: a killed run continues where it was, and pays for none twice. `turnout label
    --judged` takes the result as one source of evidence.
    """
    from turnout.judge import JudgeOptions, judge_turns
    from turnout.stage import report_json

    options = JudgeOptions(
        base_url,
        model,
        api_key=os.environ.get(api_key_env) or None,
        sample=sample,
        max_usd=max_usd,
        concurrency=concurrency,
        price=_price(model, price, config),
        redact=redact_text if redact else None,
    )

    def agree(estimate: CostEstimate) -> None:
        say(_estimate_line(estimate, options.price, max_usd))
        if not yes and estimate.answered < estimate.questions:
            _ask()

    with progress_bars() as on_progress:
        report = judge_turns(turns, output, options, agree=agree, on_progress=on_progress)
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"output": output, **report_json(report)})
    else:
        _show(report, output)
        next_command("label", turns, "--judged", output, "-o", output.with_name("labels.parquet"))


def _price(model: str, price: tuple[float, float] | None, config: Path | None) -> Price | None:
    from turnout.catalog import Price
    from turnout.settings import catalog_of

    return Price(*price, source="--price") if price else catalog_of(config).price(model)


def redact_text(text: str) -> str:
    """The text without addresses, keys and user names in paths."""
    from turnout.redaction import redacted

    return redacted(text, Counter())


def _ask() -> None:
    if not sys.stdin.isatty():
        raise SettingsError(
            "judge: without a terminal nobody can agree to the cost; expected one. Give --yes to "
            "go on without being asked."
        )
    click.confirm("Go on?", abort=True, err=True)


def _estimate_line(estimate: CostEstimate, price: Price | None, max_usd: float | None) -> str:
    n_open = estimate.questions - estimate.answered
    questions = (
        f"{estimate.turns:,} turns, {estimate.questions:,} different questions, "
        f"{estimate.answered:,} answered before; {n_open:,} to ask, about "
        f"{estimate.prompt_tokens:,} prompt tokens."
    )
    if price is None or estimate.usual_usd is None or estimate.most_usd is None:
        return f"{questions} No price of this model is known, so the cost is not known either."
    limit = f"; it stops before {max_usd:,.2f} USD in all" if max_usd is not None else ""
    as_of = f" of {price.as_of}" if price.as_of else ""
    return (
        f"{questions} About {estimate.usual_usd:,.4f} USD, without retries at most "
        f"{estimate.most_usd:,.4f}{limit} "
        f"({price.source or 'turnout.toml'}{as_of}). Spent before: {estimate.spent_usd:,.4f} USD."
    )


def _show(report: JudgeReport, output: Path) -> None:
    table = new_table("Judged", ("answer", "turns"))
    meaning = {
        "1": "1: a fast model clearly does as well",
        "2": "2: it probably does",
        "3": "3: cannot be told",
        "4": "4: reasoning probably helps",
        "5": "5: reasoning clearly helps",
    }
    for need, text in meaning.items():
        table.add_row(text, f"{report.needs.get(need, 0):,}")
    for status, turns in report.statuses.items():
        if status != "judged":
            table.add_row(f"no label: {status}", f"{turns:,}")
    out = stdout()
    out.print(table)
    if report.statuses.get("not asked"):
        out.print(
            f"Stopped before {report.max_usd:,.2f} USD would be passed. A run with a higher "
            "--max-usd goes on from here."
        )
    if report.statuses.get("failed"):
        out.print("Run it again to ask the failed questions once more.")
    spent = "not known" if report.spent_usd is None else f"{report.spent_usd:,.4f} USD in all"
    out.print(f"{report.asked:,} questions asked now. Cost: {spent}. Rubric {report.rubric}.")
    out.print(f"Judged: {output}")
