"""`turnout train`: a data set in, a router folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from turnout.cli.console import (
    INPUT_PATH,
    OUTPUT_OPTION_HELP,
    print_json,
    progress_bars,
    say,
    stdout,
)


@click.command(epilog="Example: turnout train session-data/ -o session-router/")
@click.argument("dataset", type=INPUT_PATH)
@click.option("-o", "--output", type=INPUT_PATH, required=True, help=OUTPUT_OPTION_HELP)
@click.option(
    "--base",
    help="Encoder to fine-tune: a local folder or a Hugging Face id.  "
    "[default: all-MiniLM-L6-v2, which is installed with Turnout]",
)
@click.option(
    "--epochs",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Passes over the training rows, at most; the best is kept.",
)
@click.option(
    "--learning-rate",
    default=5e-5,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Peak learning rate of the encoder.",
)
@click.option(
    "--batch-size", default=32, show_default=True, type=click.IntRange(1, 4096), help="Rows a step."
)
@click.option(
    "--max-tokens",
    type=int,
    help="Token budget of the encoder.  [default: 128 session, 192 conversation]",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same machine: same router.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    dataset: Path,
    output: Path,
    base: str | None,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_tokens: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fine-tune a BERT classifier on DATASET, calibrate it, export a router folder.

    DATASET is what `turnout build` wrote. The folder holds safetensors and a tokenizer that plain
    transformers loads, and the int8 ONNX graph that serves without torch.
    """
    from turnout.training import train
    from turnout.training.loop import Recipe

    with progress_bars() as on_progress:
        report = train(
            dataset,
            output,
            base=base,
            recipe=Recipe(epochs, learning_rate, batch_size, seed),
            max_tokens=max_tokens,
            on_progress=on_progress,
        )
    if not report.fresh:
        say(f"{output}: up to date")
    if as_json:
        print_json({"router": output, **report.facts})
    else:
        _show(output, report.facts)


def _show(output: Path, facts: dict[str, Any]) -> None:
    from rich.table import Table

    calibration, export, rows = facts["calibration"], facts["export"], facts["rows"]
    table = Table(title=f"{facts['architecture']} router", title_justify="left", show_header=False)
    table.add_row("base encoder", facts["base"])
    table.add_row("rows", f"{rows['train']:,} train, {rows['validation']:,} validation")
    for epoch in facts["epochs"]:
        table.add_row(
            f"epoch {epoch['epoch']}",
            f"validation loss {epoch['validation_loss']:.4f}, "
            f"AUROC {epoch['validation_auroc']:.4f}",
        )
    table.add_row(
        "calibration",
        f"{calibration['method']}: ECE {calibration['ece_before']:.3f} → "
        f"{calibration['ece_after']:.3f} on validation (in-sample)",
    )
    table.add_row(
        "int8 graph",
        f"AUROC {export['auroc_int8']:.4f} against {export['auroc_float']:.4f} in float "
        f"({export['rows']} rows)",
    )
    table.add_row("speed", f"{facts['tokens_per_s']:,} tokens/s")
    stdout().print(table)
    stdout().print(f"Router folder: {output}")
