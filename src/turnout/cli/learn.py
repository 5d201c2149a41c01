"""`turnout learn`: a log in, two routers, a page and settings to serve out."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.console import (
    CONFIG_OPTION,
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    parsed_pairs,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.catalog import Catalog
    from turnout.judge import JudgeOptions
    from turnout.learn import Learnt, Plan


@verb("turnout learn logs/ -o mine/")
@click.argument("logs", nargs=-1, required=True)
@OUTPUT_OPTION
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Read a field from this column; camelCase and common names need no mapping.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace e-mail and IP addresses, keys and tokens, and user names in paths.",
)
@click.option("--judge", "judge_model", metavar="MODEL", help="Ask this model about turns.")
@click.option("--base-url", help="The judge's endpoint, up to and with its version.")
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable that holds the judge's key.",
)
@click.option("--max-usd", type=float, help="The most that the judge may cost.")
@click.option("--human", type=INPUT_PATH, help="People's labels; see `turnout label`.")
@click.option("--outcomes", type=INPUT_PATH, help="Measured scores; see `turnout label`.")
@click.option("--truth", type=INPUT_PATH, help="Truth of a simulated log; see `turnout evaluate`.")
@click.option(
    "--size",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=100),
    help="The most rows of a data set; more rows give better routers and longer training.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 100),
    help="Passes over the training rows; see `turnout train`.",
)
@click.option(
    "--max-tokens",
    type=int,
    help="Token budget of the conversation router's encoder; see `turnout train`.",
)
@click.option(
    "--max-miss",
    default=0.10,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Of the messages that need reasoning, the share that the recommendation may miss, as the "
    "scores expect it: an estimate, not the true share.",
)
@click.option(
    "--reasoning-model",
    help="Model that would serve the reasoning class.  [default: the settings file's target, or "
    "one of the log's own]",
)
@click.option(
    "--fast-model",
    help="Model that would serve the fast class.  [default: the settings file's target, or one of "
    "the log's own]",
)
@click.option(
    "--by",
    metavar="SEGMENT",
    help="Split costs by this column of the log, such as a product area.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read and label the log, print the training time and the judge's cost, and stop.",
)
@CONFIG_OPTION
@JSON_OPTION
def command(
    logs: tuple[str, ...],
    output: Path,
    columns: tuple[str, ...],
    redact: bool,
    judge_model: str | None,
    base_url: str | None,
    api_key_env: str,
    max_usd: float | None,
    human: Path | None,
    outcomes: Path | None,
    truth: Path | None,
    size: int,
    epochs: int | None,
    max_tokens: int | None,
    max_miss: float,
    reasoning_model: str | None,
    fast_model: str | None,
    by: str | None,
    dry_run: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Learn from LOGS which messages need a reasoning model: all stages in one command.

    Runs ingest, switches, judge (where --judge is given), label, and for either architecture build
    and train; then evaluate and replay. Each stage is done once: the same command goes on where it
    was stopped. Read OUTPUT/index.html first; OUTPUT/turnout.toml serves what it recommends.
    """
    from turnout.learn import LearnOptions, learn, plan
    from turnout.records import ModelClass
    from turnout.settings import load_settings
    from turnout.training import Recipe, end_process, first_process

    settings = load_settings(config)
    catalog = settings.merged_catalog()
    named = settings.models_of(reasoning_model, fast_model)
    targets: dict[ModelClass, str] = {name: model for name, model in named.items() if model}
    options = LearnOptions(
        catalog=catalog,
        columns=parsed_pairs(columns),
        redact=redact,
        judge=_judge(judge_model, base_url, api_key_env, max_usd, redact, catalog),
        human=human,
        outcomes=outcomes,
        truth=truth,
        size=size,
        recipe=Recipe(epochs),
        max_tokens=max_tokens,
        targets=targets,
        max_miss=max_miss,
        by=by,
    )
    with progress_bars() as on_progress:
        if dry_run:
            planned = plan(logs, output, options, on_progress=on_progress)
        else:
            learnt = learn(logs, output, options, on_stage=_say_stage, on_progress=on_progress)
    if dry_run:
        if as_json:
            print_json(asdict(planned))
        else:
            _show_plan(planned)
        return
    if first_process():
        if as_json:
            print_json({"output": output, "advice": asdict(learnt.advice)})
        else:
            _show(learnt, output)
    end_process()


def _say_stage(name: str, fresh: bool) -> None:
    say(f"{name}: {'done' if fresh else 'up to date'}")


def _judge(
    model: str | None,
    base_url: str | None,
    api_key_env: str,
    max_usd: float | None,
    redact: bool,
    catalog: Catalog,
) -> JudgeOptions | None:
    from turnout.cli.judge import redact_text
    from turnout.judge import JudgeOptions

    if model is None:
        if base_url is not None or max_usd is not None:
            raise click.UsageError("--base-url and --max-usd are for --judge MODEL")
        return None
    if base_url is None or max_usd is None:
        raise click.UsageError("--judge wants --base-url and --max-usd with it")
    return JudgeOptions(
        base_url,
        model,
        api_key=os.environ.get(api_key_env) or None,
        max_usd=max_usd,
        price=catalog.price(model),
        redact=redact_text if redact else None,
    )


def _show_plan(planned: Plan) -> None:
    out = stdout()
    out.print(
        f"{planned.turns:,} turns of {planned.conversations:,} conversations; "
        f"{planned.labelled:,} of them have evidence of what they needed."
    )
    for name, minutes in planned.training_minutes.items():
        out.print(f"Training the {name} router on this machine: {_about(minutes)}.")
    if planned.judge is not None:
        usd = planned.judge.usual_usd
        cost = "at a price that is not known" if usd is None else f"about {usd:,.2f} USD"
        out.print(f"The judge: {planned.judge.questions:,} questions, {cost}.")
    out.print(planned.costs)
    out.print("Nothing was trained and nobody was asked. Run it again without --dry-run.")


def _about(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    return "about a minute" if round(minutes) == 1 else f"about {minutes:,.0f} minutes"


def _show(learnt: Learnt, output: Path) -> None:
    from turnout.cli.learn_tables import counted, tables
    from turnout.replay.page import caution

    out = stdout()
    advice = learnt.advice
    for shown in (*counted(learnt), *tables(learnt)):
        out.print(shown)
    out.print(advice.sentence, style="bold")
    for sentence in advice.why:
        out.print(sentence)
    for name, why in learnt.without.items():
        out.print(f"No {name} router: {why}")
    doubts = (
        caution(learnt.replay.evidence) if learnt.replay else None,
        advice.doubt,
        advice.settled_by,
    )
    for sentence in filter(None, doubts):
        out.print(sentence)
    settings = output / "turnout.toml"
    if not learnt.settings_written and settings.exists():
        out.print(
            f"Left as you changed it: {settings}. Delete it, and the next run writes what is "
            "recommended."
        )
    out.print(f"Page: {output / 'index.html'}")
    if advice.router is not None and settings.exists():
        next_command("serve", output / f"{advice.router}-router", "-c", settings)
