"""`turnout train`: a data set → a router folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from turnout.cli.console import (
    INPUT_PATH,
    JSON_OPTION,
    OUTPUT_OPTION,
    next_command,
    print_json,
    progress_bars,
    say,
    stdout,
)
from turnout.cli.verbs import verb

if TYPE_CHECKING:
    from turnout.training import Model, Precision, Tracker, TrainReport


@verb("turnout train session-data/ -o session-router/")
@click.argument("dataset", type=INPUT_PATH)
@OUTPUT_OPTION
@click.option(
    "--base",
    help="Encoder to fine-tune: a local folder or a Hugging Face id.  "
    "[default: all-MiniLM-L6-v2, which is installed]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 100),
    help="The most passes over the training rows; the best one counts.  "
    "[default: 3, more with few rows]",
)
@click.option(
    "--learning-rate",
    default=1e-4,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Peak learning rate of the encoder.",
)
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1, 4096), help="Rows a step."
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Precision of matrix products; auto uses bfloat16 if the machine has it.",
)
@click.option(
    "--max-tokens",
    type=int,
    help="Token budget of the encoder.  [default: 128 session, 192 conversation]",
)
@click.option(
    "--model",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "encoder", "words"]),
    help="The encoder, a linear model on words, or (auto) the better of both on validation.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="The same seed gives the same router on the same machine.",
)
@click.option(
    "--log-to",
    multiple=True,
    type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    help="Record losses and rates: tensorboard in OUTPUT.tensorboard; mlflow and wandb by their "
    "own environment variables. May be given several times.",
)
@JSON_OPTION
def command(
    dataset: Path,
    output: Path,
    base: str | None,
    epochs: int | None,
    learning_rate: float,
    batch_size: int,
    precision: Precision,
    max_tokens: int | None,
    model: Model,
    seed: int,
    log_to: tuple[Tracker, ...],
    as_json: bool,
) -> None:
    """Fine-tune a BERT classifier on DATASET, calibrate it, export a router folder.

    DATASET is what `turnout build` wrote. The folder holds safetensors and a tokenizer that plain
    transformers loads, and the int8 ONNX graph that serves without torch.

    A linear model on words is fitted too. Where it is better on validation, as with few rows it may
    be, the folder holds its ONNX graph instead.

    A run that was stopped or killed goes on where it was when the same command is run again.
    """
    from turnout.training import Recipe, end_process, first_process, train

    with progress_bars() as on_progress:
        report = train(
            dataset,
            output,
            base=base,
            recipe=Recipe(epochs, learning_rate, batch_size, seed, precision, model),
            max_tokens=max_tokens,
            log_to=log_to,
            on_progress=on_progress,
        )
    if first_process():
        if not report.fresh:
            say(f"{output}: up to date")
        if as_json:
            print_json({"router": output, "fresh": report.fresh, **report.to_json()})
        else:
            _show(report)
            next_command("evaluate", output, dataset, "-o", output.with_name("report"))
    end_process()


def _show(report: TrainReport) -> None:
    from turnout.samples import few_labels

    calibration = report.calibration
    table = Table(title=f"{report.architecture} router", title_justify="left", show_header=False)
    on_words = report.model == "words"
    table.add_row("serves", "a linear model on words, no encoder" if on_words else "the encoder")
    if report.choice:
        table.add_row("on validation", report.choice.text)
    table.add_row(
        "tokenizer of" if report.choice is None and on_words else "base encoder", report.base
    )
    table.add_row(
        "rows",
        f"{report.rows['train']:,} train, {report.rows['validation']:,} validation; "
        f"{report.cut_rows:,} of the first were cut to the token budget",
    )
    if expected := few_labels(report.labelled_rows["train"]):
        table.add_row("few labels", expected)
    if report.teacher_weight:
        table.add_row(
            "labels",
            "TF-IDF explains little of them: a TF-IDF teacher makes up "
            f"{report.teacher_weight:.0%} of the targets at first, less later",
        )
    for epoch in report.epochs:
        mark = " (best)" if epoch == report.best_epoch else ""
        table.add_row(
            f"epoch {epoch.epoch}{mark}",
            f"validation loss {epoch.validation_loss:.4f}, AUROC {epoch.validation_auroc:.4f}",
        )
    table.add_row(
        "calibration",
        f"{calibration.method}: ECE {calibration.ece_before:.3f} → {calibration.ece_after:.3f} "
        f"on {calibration.n:,} validation rows (in-sample)",
    )
    if on_words:
        table.add_row("graph", f"model.onnx, float32, {report.export.served_bytes / 1e6:.1f} MB")
    else:
        table.add_row("int8 graph", report.export.int8_text)
    speed = ""
    if report.epochs:
        table.add_row("trained in", report.precision_text)
        speed = f"; {report.rows_per_s:,} rows/s, {report.tokens_per_s:,} tokens/s"
    table.add_row("took", f"{report.seconds:,.0f} s{speed}")
    stdout().print(table)
    stdout().print(f"Router folder: {report.router}")
