"""`turnout evaluate`: routers and data sets → a report folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    new_table,
    next_command,
    next_serve,
    print_json,
    progress_bars,
    say,
    stdout,
    stored_estimate,
    with_interval,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.evaluation.stage import EvaluateReport
    from turnout.training import Model


@verb("turnout evaluate session-router/ session-data/ -o report/")
@click.argument("pairs", nargs=-1, required=True, type=INPUT_PATH, metavar="[ROUTER] DATA …")
@OUTPUT_OPTION
@click.option(
    "--truth",
    type=INPUT_PATH,
    help="Truth of a simulated log (conversation_id, turn_index, label; Parquet, CSV or JSON "
    "Lines), to compare the rows with it too.",
)
@click.option(
    "--examples",
    default=5,
    show_default=True,
    type=click.IntRange(min=0),
    help="Number of the most confident mistakes to quote, of each kind.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Instead of a ROUTER: train this many on DATA, each tested on rows it was not trained on.",
)
@click.option(
    "--group-by",
    type=click.Choice(["cv_group", "conversation_id", "user_id", "group"]),
    help="With --folds: the column whose rows stay in one fold.  [default: cv_group, or the "
    "conversation]",
)
@click.option(
    "--router",
    type=click.Path(path_type=Path),
    help="With --folds: also train the router to serve, on all rows of DATA, and write it here.",
)
@click.option("--base", help="With --folds: the encoder to fine-tune, as in `turnout train`.")
@click.option(
    "--model",
    default="auto",
    type=click.Choice(["auto", "encoder", "words"]),
    help="With --folds: the model to train, as in `turnout train`.",
)
@JSON_OPTION
def command(
    pairs: tuple[Path, ...],
    output: Path,
    truth: Path | None,
    examples: int,
    folds: int | None,
    group_by: str | None,
    router: Path | None,
    base: str | None,
    model: Model,
    as_json: bool,
) -> None:
    """Measure each ROUTER on the test rows of its DATA set, beside trivial baselines.

    Several routers may be given, each followed by its data set. Writes report.json and one
    self-contained report.html.

    With --folds, one DATA set alone: its rows are judged by routers that did not see them.
    """
    if folds is not None:
        if len(pairs) != 1:
            raise click.UsageError("--folds takes one data set and no router")
        options = {"group_by": group_by, "base": base, "model": model}
        _cross_validate(pairs[0], output, folds, router, options, truth, examples, as_json)
        return
    if group_by or router or base or model != "auto":
        raise click.UsageError("--group-by, --router, --base and --model need --folds")
    if len(pairs) % 2:
        raise click.UsageError(
            f"found {len(pairs)} paths; expected routers each followed by a data set"
        )

    from turnout.evaluation.stage import evaluate

    with progress_bars() as on_progress:
        report = evaluate(
            list(zip(pairs[::2], pairs[1::2], strict=True)),
            output,
            truth=truth,
            examples=examples,
            on_progress=on_progress,
        )
    _show_report(report, output, as_json)
    if not as_json:
        next_serve(pairs[0])


def _cross_validate(
    dataset: Path,
    output: Path,
    folds: int,
    router: Path | None,
    options: dict[str, Any],
    truth: Path | None,
    examples: int,
    as_json: bool,
) -> None:
    from turnout.cross_validation import cross_validate, train_on_all
    from turnout.training import Recipe

    how: dict[str, Any] = {
        "group_by": options["group_by"],
        "base": options["base"],
        "recipe": Recipe(model=options["model"]),
    }
    with progress_bars() as on_progress:
        report = cross_validate(
            dataset,
            output,
            folds=folds,
            truth=truth,
            examples=examples,
            on_progress=on_progress,
            **how,
        )
        if router is not None:
            train_on_all(dataset, router, on_progress=on_progress, **how)
    _show_report(report, output, as_json)
    if as_json:
        return
    if router is not None:
        stdout().print(f"Router: {router}")
        next_serve(router)
    else:
        given = [
            f"--{k.replace('_', '-')}={v}" for k, v in options.items() if v not in (None, "auto")
        ]
        place = output.with_name("router")
        next_command(
            "evaluate", dataset, f"--folds={folds}", *given, "-o", output, "--router", place
        )


def _show_report(report: EvaluateReport, output: Path, as_json: bool) -> None:
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json(report.content)
        return
    for router in report.content["routers"]:
        _show(router)
    stdout().print(f"Report: {output / 'report.html'}")


def _show(router: dict[str, Any]) -> None:
    out = stdout()
    for result in router["results"]:
        metric = router["main_metric_names"][result["main_metric"]]
        table = new_table(
            f"{router['name']}, measured against {result['reference']} "
            f"({result['rows']:,} test rows)",
            ("method", f"{metric} (95 % interval)", "router ahead by", "calibration error"),
        )
        for method in result["methods"]:
            table.add_row(
                method["name"],
                with_interval(stored_estimate(method["metrics"][result["main_metric"]]), "{:.3f}"),
                with_interval(stored_estimate(method["lead"]), "{:+.3f}"),
                with_interval(stored_estimate(method["metrics"]["ece"]), "{:.3f}"),
                style="bold" if method["kind"] == "router" else None,
            )
        out.print(table)
        _show_calibration(result)
    truncation = router["truncation"]
    out.print(
        f"Rows of which the budget of {truncation['max_tokens']} tokens cut something: "
        f"{truncation['rows_share']:.1%}, of the message itself: {truncation['messages_share']:.1%}"
    )
    if router["context"]:
        _show_context(router["context"])
    _show_choices(router)
    for finding in router["findings"]:
        if finding["outcome"] == "issue":
            out.print(f"{finding['code']} {finding['sentence']}", style="bold")


def _show_choices(router: dict[str, Any]) -> None:
    """How encoder or linear model on words was chosen, where both were fitted."""
    if router["choice"]:
        stdout().print(f"On validation: {router['choice']}")
    if router["few_labels"]:
        stdout().print(f"Few labels: {router['few_labels']}")
    for number, fold in enumerate(router.get("folds", []), 1):
        if fold["choice"]:
            stdout().print(f"Fold {number}, on validation: {fold['choice']}")


def _show_calibration(result: dict[str, Any]) -> None:
    log = result["log"]
    table = new_table(
        f"Calibration error of the router, for balanced rows{' and for the log' if log else ''}",
        ("rows of", "rows", "error", "chance alone, up to", "chance taken out"),
    )
    parts = [(f"{part['by']} {part['name']}", part["calibration"]) for part in result["parts"]]
    in_log = [(f"log, {log['prior']:.0%} reasoning", log["calibration"])] if log else []
    for name, stored in [("all", result["calibration"]), *in_log, *parts]:
        if stored:
            table.add_row(
                name,
                f"{stored['rows']:,}",
                with_interval(stored_estimate(stored["ece"]), "{:.3f}"),
                f"{stored['chance']:.3f}",
                with_interval(stored_estimate(stored["debiased"]), "{:.3f}"),
            )
    stdout().print(table)


def _show_context(context: dict[str, Any]) -> None:
    buckets = [f"turn {bucket['name']}" for bucket in context["views"][0]["buckets"]]
    table = new_table(
        f"AUROC by what is shown of the conversation ({context['rows']:,} rows); the trained "
        "router as it is",
        ("previous turns", "all rows", "over none", *buckets, "rows cut"),
    )
    for view in context["views"]:
        table.add_row(
            view["name"],
            with_interval(stored_estimate(view["auroc"]), "{:.3f}"),
            with_interval(stored_estimate(view["gain"]), "{:+.3f}"),
            *(
                with_interval(stored_estimate(bucket["auroc"]), "{:.3f}")
                for bucket in view["buckets"]
            ),
            f"{view['truncated_share']:.0%}",
            style="bold" if view["as_served"] else None,
        )
    stdout().print(table)
