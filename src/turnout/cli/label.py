"""`turnout label`: turns → labels with their evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from turnout.cli.console import (
    CONFIG_OPTION,
    ENGINE_OPTION,
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

if TYPE_CHECKING:
    from turnout.labels import ExplainedTurn, LabelReport

_FITTED_ON = {
    "stated": "stated accuracies",
    "truth": "{0:,} turns of known truth",
    "human": "{0:,} turns that people labelled",
}


@verb("turnout label turns.parquet -o labels.parquet --explain chat-17:3")
@click.argument("turns", type=INPUT_PATH)
@OUTPUT_OPTION
@click.option(
    "--truth",
    type=INPUT_PATH,
    help="Turns of known truth (conversation_id, turn_index, label), to fit source accuracies on.",
)
@click.option(
    "--human",
    type=INPUT_PATH,
    help="People's labels (conversation_id, turn_index, label, annotator): a source, and without "
    "--truth the truth that other sources' accuracies are fitted on.",
)
@click.option(
    "--outcomes",
    type=INPUT_PATH,
    help="Measured scores (reasoning_score, fast_score) of turns, prompts (`prompt`) or "
    "conversations up to a turn (`messages`).",
)
@click.option("--judged", type=INPUT_PATH, help="What `turnout judge` wrote.")
@click.option(
    "--explain",
    "where",
    metavar="CONVERSATION[:TURN]",
    help="Show the votes on these turns, instead of the table of sources.",
)
@ENGINE_OPTION
@CONFIG_OPTION
@JSON_OPTION
def command(
    turns: Path,
    output: Path,
    truth: Path | None,
    human: Path | None,
    outcomes: Path | None,
    judged: Path | None,
    where: str | None,
    engine: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Estimate for every turn of TURNS whether it needs reasoning, from all evidence.

    Sources: the model chosen, upgrades and downgrades, effort spent, repeated requests, complaints,
    feedback; and people's labels, measured outcomes and a judge model's answers where they are
    given. `turnout build --labels` uses the result. Their files are Parquet, CSV or JSON
    Lines; TURNS is Parquet.
    """
    from turnout.labels import ExternalFiles, explain, label_turns
    from turnout.settings import catalog_of
    from turnout.stage import report_json

    with progress_bars() as on_progress:
        report = label_turns(
            turns,
            output,
            catalog_of(config),
            truth=truth,
            external=ExternalFiles(human, outcomes, judged),
            engine=engine,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    explained = explain(turns, output, where) if where else None
    if as_json:
        more = {} if explained is None else {"explained": [asdict(turn) for turn in explained]}
        print_json({"output": output, **report_json(report), **more})
        return
    if explained is None:
        _show(report, output)
    else:
        _show_turns(explained, report)
    data = output.with_name("session-data")
    next_command("build", turns, "--labels", output, "--architecture", "session", "-o", data)


def _show(report: LabelReport, output: Path) -> None:
    columns = (
        "source", "turns", "of all", "for reasoning", "others agree", "right on known", "accuracy",
        "what it is",
    )  # fmt: skip
    table = new_table("Evidence", columns, text_columns=(0, 7))
    table.columns[0].no_wrap = True
    for source in report.sources:
        if not source.turns:
            continue
        right = f"{_share(source.right)} of {source.known:,}" if source.known else "–"
        table.add_row(
            source.code,
            f"{source.turns:,}",
            f"{source.coverage:.1%}",
            _share(source.for_reasoning),
            _share(source.agreement),
            right,
            f"{source.accuracy:.0%} ({source.low:.0%}–{source.high:.0%})",
            source.reason,
        )
    out = stdout()
    out.print(table)
    silent = [source.code for source in report.sources if not source.turns]
    if silent:
        out.print(f"No vote from: {', '.join(silent)}.")
    for file in report.external:
        agreement = file.annotator_agreement
        people = f"; pairs of people agree in {agreement:.0%}" if agreement is not None else ""
        out.print(
            f"{file.path}: {file.rows:,} rows, {file.unused:,} without an answer, "
            f"{file.unmatched:,} about no turn of the log{people}."
        )
    if report.not_chosen:
        out.print(
            f"{report.not_chosen:,} of {report.turns:,} turns had no voter: a router or the "
            "product chose their model."
        )
    by = _FITTED_ON[report.fitted_on].format(report.known_turns)
    out.print(
        f"{report.labelled:,} of {report.turns:,} turns have evidence; "
        f"{report.reasoning:,} of them lean to reasoning. Source accuracies: {by}."
    )
    out.print(f"Labels: {output}")


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _show_turns(turns: list[ExplainedTurn], report: LabelReport) -> None:
    out = stdout()
    for turn in turns:
        out.print(f"Turn {turn.turn_index}: {turn.user_message}")
        if turn.p_reasoning is None:
            out.print("  nothing votes: no label\n")
            continue
        out.print(f"  p_reasoning {turn.p_reasoning:.3f}, confidence {turn.confidence:.3f}")
        table = Table("speaks for", "source", "weight", "what it is", box=None, padding=(0, 2))
        for vote in turn.votes:
            side = "reasoning" if vote.weight > 0 else "fast"
            table.add_row(side, vote.code, f"{vote.weight:+.2f}", vote.reason)
        out.print(table)
        out.print()
    out.print(
        f"Weights are log-odds; before any vote {report.prior:.0%} of turns are taken to need "
        "reasoning."
    )
