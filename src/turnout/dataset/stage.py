"""The build stage: turns or measured outcomes → a data set folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.catalog import Catalog
from turnout.dataset.assembly import (
    COUNT,
    DEFAULT_SIZE,
    DEFAULT_SPLIT,
    SAMPLE,
    Dataset,
    dataset_from_outcomes,
    dataset_from_turns,
    dataset_spec,
    split_shares,
    uncollected,
)
from turnout.dataset.card import PLOTS_NAME, card
from turnout.dataset.csv_tables import csv_tables
from turnout.dataset.outcomes import read_outcomes
from turnout.dataset.selection import COMPARE, DRAW, SPLIT
from turnout.engine import DUCKDB
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, Steps, silent
from turnout.records import Architecture
from turnout.samples import DESCRIPTION_NAME, TRAFFIC_NAME
from turnout.stage import StageRun

_READ, _WRITE = "read outcomes", "write"
PAGE_NAME = "dataset.html"


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a data set holds.

    Attributes:
        description: What `dataset.json` says: rows, composition, dropped by reason, leaks.
        fresh: False where an earlier run had the same input.
    """

    description: dict[str, Any]
    fresh: bool


def build_from_turns(
    turns: Path,
    out: Path,
    *,
    architecture: Architecture,
    catalog: Catalog,
    labels: Path | None = None,
    size: int = DEFAULT_SIZE,
    ratio: tuple[int, int] = (50, 50),
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    seed: int = 0,
    engine: str = DUCKDB,
    on_progress: OnProgress = silent,
) -> BuildReport:
    """Make a balanced data set from turns and their labels.

    Args:
        turns: A turns table.
        out: The folder; it appears only once complete.
        architecture: `session` takes first turns, `conversation` all turns with their context.
        catalog: Model names to classes.
        labels: What `turnout label` wrote; without it, the class of the model that served a turn
            is the only evidence.
        size: Rows wanted over all splits; a short log gives fewer.
        ratio: Parts of reasoning and fast.
        split: Parts of training, validation and test.
        seed: The same input, options and seed give the same bytes, whatever the rows' order.
        engine: Where the log is read; see `engine.connect`. It changes no byte.
        on_progress: Called at every step, and about every thousand rows.

    Raises:
        RecordError: If the log lacks rows of one label.
        SettingsError: If size or ratio are out of range, or the engine is not there.
        StorageError: If `out` cannot be written.
    """
    spec = dataset_spec(size, ratio, split, seed=seed)
    options = {
        "architecture": architecture,
        "catalog": catalog.digest,
        "size": size,
        "ratio": list(ratio),
        "split": spec.shares,
        "seed": seed,
    }
    run = StageRun(out, Manifest.of("build", {"turns": turns, "labels": labels}, options))
    if run.is_done():
        return BuildReport(_description(out), fresh=False)
    steps = Steps(on_progress, COUNT, DRAW, COMPARE, SPLIT, SAMPLE, _WRITE)
    dataset = dataset_from_turns(
        turns,
        spec,
        architecture=architecture,
        catalog=catalog,
        labels=labels,
        engine=engine,
        steps=steps,
    )
    return _write(run, dataset, steps)


@uncollected()
def build_from_outcomes(
    prompts: Path,
    out: Path,
    *,
    architecture: Architecture = "session",
    columns: Mapping[str, str] | None = None,
    margin: float = 0.1,
    size: int | None = None,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> BuildReport:
    """Make a data set whose target is the measured gap between reasoning and fast models.

    No row is left out to balance it. Nearly equal rows fall into one split, and so do rows of one
    conversation or `cv_group`.

    Args:
        prompts: Parquet, CSV or JSON Lines with `prompt` or `messages` (a conversation up to the
            turn that was measured, as a list or as its JSON text), `reasoning_score` and
            `fast_score` in [0, 1], and optionally `conversation_id`, `group`, `cv_group`, `label`
            (0 or reasoning, 1 or fast, or nothing), `target` in [0, 1] (in place of the gap, or of
            the scores) and `weight` in [0, 1,000,000].
        out: The folder; it appears only once complete.
        architecture: `session` takes first turns, `conversation` all turns with their context.
        columns: Field → the file's own column name, where they differ.
        margin: The least gap that counts as a need for reasoning.
        size: Rows wanted over all splits; all by default.
        split: Parts of training, validation and test.
        seed: The same input, options and seed give the same bytes.
        on_progress: Called at every step.

    Raises:
        RecordError: If a column or a score cannot be read, or one label has no row.
        SettingsError: If the margin is out of range or `columns` names no field.
        StorageError: If `out` cannot be written.
    """
    options = {
        "outcomes": True,
        "architecture": architecture,
        "columns": dict(columns or {}),
        "margin": margin,
        "split": split_shares(split),
        "size": size,
        "seed": seed,
    }
    run = StageRun(out, Manifest.of("build", {"outcomes": prompts}, options))
    if run.is_done():
        return BuildReport(_description(out), fresh=False)
    steps = Steps(on_progress, _READ, COMPARE, _WRITE)
    with steps.step(_READ):
        outcomes = read_outcomes(prompts, columns or {})
    dataset = dataset_from_outcomes(
        outcomes,
        architecture=architecture,
        margin=margin,
        size=size,
        split=split,
        seed=seed,
        steps=steps,
    )
    return _write(run, dataset, steps)


def write_dataset(dataset: Dataset, out: Path) -> None:
    """Write a data set from memory as a folder; it appears only once complete.

    Raises:
        StorageError: If `out` cannot be written, or holds something else.
    """
    manifest = Manifest.of("build", {}, {"description": dataset.description})
    _write(StageRun(out, manifest), dataset, Steps(silent, _WRITE))


def _write(run: StageRun, dataset: Dataset, steps: Steps) -> BuildReport:
    # Pages need the extra `report`; a data set in memory does not.
    from turnout.dataset.page import render
    from turnout.dataset.plots import plots

    description = dataset.description
    run.manifest.counts.update({"rows": description["rows"], "dropped": description["dropped"]})
    with steps.step(_WRITE), run.output() as partial:
        partial.mkdir()
        for name, table in dataset.tables.items():
            write_parquet(table, partial / f"{name}.parquet")
        if dataset.traffic is not None and len(dataset.traffic):
            write_parquet(dataset.traffic, partial / TRAFFIC_NAME)
        (partial / PLOTS_NAME).mkdir()
        drawings = plots(dataset.tables)
        for name, (drawing, _) in drawings.items():
            (partial / PLOTS_NAME / name).write_text(drawing, encoding="utf-8")
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (partial / DESCRIPTION_NAME).write_text(text, encoding="utf-8")
        (partial / "README.md").write_text(card(description), encoding="utf-8")
        page = render(description, {name: inline for name, (_, inline) in drawings.items()})
        (partial / PAGE_NAME).write_text(page, encoding="utf-8")
        for name, rows in csv_tables(description).items():
            with (partial / name).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(rows)
    return BuildReport(description, fresh=True)


def _description(out: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((out / DESCRIPTION_NAME).read_text(encoding="utf-8"))
    return description
